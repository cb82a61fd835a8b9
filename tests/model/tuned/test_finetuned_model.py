from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmae.draws import Stream, tile_keys, uniform
from mmae.model.initialise import initialise
from mmae.model.saved.saved_config import encoder_config
from mmae.model.tuned.finetuned_model import FinetunedModel
from mmae.model.tuned.tuned_config import TunedConfig
from mmae.variants import VARIANTS
from tests.support.finetuned_models import KINDS, options, task_for


def model(kind: str = "linear", **config: object) -> FinetunedModel:
    flat = {"size": "nano", "in_domains": ("rgb", "semseg"), "input_size": 32, **config}
    tuned = TunedConfig(task_for(kind), options(kind), {}, 8)
    return FinetunedModel(encoder_config(flat, "test"), VARIANTS["nano"], tuned, seed=1)


def values(batch: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "rgb": torch.randn(batch, 3, 32, 32, generator=generator),
        "semseg": torch.randint(12, (batch, 8, 8), generator=generator),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_has_a_part_in_every_output(kind: str) -> None:
    """Processes that train together wait for the gradient of each."""
    net = model(kind).train()
    net(values()).square().sum().backward()
    assert [name for name, parameter in net.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("seen", [False, True])
def test_a_sample_skips_the_same_branches_in_every_batch(seen: bool) -> None:
    net = model(drop_path=0.5).train()
    keys_B = torch.from_numpy(tile_keys(0, 0, torch.arange(4).numpy()))
    mask = {"rgb": torch.arange(16).expand(4, -1) > torch.tensor([[0], [3], [0], [3]])} if seen else None
    together = net(values(), mask, keys_B)
    for tile in range(4):
        one = {name: each[tile : tile + 1] for name, each in values().items()}
        alone = net(one, mask and {"rgb": mask["rgb"][tile : tile + 1]}, keys_B[tile : tile + 1])
        torch.testing.assert_close(alone[0], together[tile])
    assert not torch.allclose(together, net(values(), mask, keys_B + 1))
    assert not torch.allclose(together, net.eval()(values(), mask, keys_B))


def test_branches_are_skipped_as_often_as_said() -> None:
    """The last block's two branches, of 4000 samples, at a rate of 0.3."""
    net = model(drop_path=0.3).train()
    keys_B = torch.from_numpy(tile_keys(1, 0, torch.arange(4000).numpy()))
    drops = net.encoder._drop_paths(torch.zeros(4000, 1, 1), uniform(keys_B, Stream.DROP_PATH, 4))
    first, last = drops[0][0], drops[1][0]
    assert first is not None
    assert last is not None
    assert torch.equal(first, torch.ones_like(first))
    torch.testing.assert_close((last == 0).float().mean(dim=(1, 2, 3)), torch.full((2,), 0.3), rtol=0, atol=0.03)


def test_a_modality_may_be_missing() -> None:
    net = model().eval()
    assert net({"rgb": values()["rgb"]}).shape == (4, 2)
    with pytest.raises(ValueError, match="'depth' is not an input"):
        net({"depth": values()["rgb"]})


@pytest.mark.parametrize("kind", KINDS)
def test_drawing_the_encoder_anew_leaves_the_head(kind: str) -> None:
    """A twin without pretraining, for comparison, has another encoder and the same head."""
    net, before = model(kind), {name: tensor.clone() for name, tensor in model(kind).state_dict().items()}
    initialise(net, seed=9)
    for name, tensor in net.state_dict().items():
        if name.startswith("head."):
            assert torch.equal(tensor, before[name])
    moved = "encoder.blocks.0.attn.qkv.weight"
    assert not torch.equal(net.state_dict()[moved], before[moved])
