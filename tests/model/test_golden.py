"""Against numbers of the published implementation; bounds are those of the golden files' own README."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mmae.config.schema import ModelConfig
from mmae.losses import combine, patchify, sample_losses, scored
from mmae.modalities import output_source
from mmae.model.masking import plan_from_ids
from mmae.model.mmae import MultiMAE
from mmae.model.published.weights import from_published, to_published
from mmae.types import Inputs, MaskPlan, ModelOutput
from mmae.variants import Variant

ARRAY_BOUND = 1e-5
LOSS_BOUND = 1e-5
GRADIENT_BOUND = 1e-4
ZERO_BOUND = 1e-8

SIX = ModelConfig(paper_exact=True, decoder_dim=32, decoder_depth=1, decoder_num_heads=4)
PATCH16 = ModelConfig(
    paper_exact=True,
    input_size=64,
    patch_size=16,
    num_encoded_tokens=20,
    num_global_tokens=2,
    decoder_dim=16,
    decoder_depth=2,
    decoder_num_heads=2,
)
FILES = {
    "tiny_six_modalities": (SIX, Variant(48, 2, 3, 192)),
    "tiny_patch16_two_globals": (PATCH16, Variant(32, 1, 2, 128)),
}


@dataclass(frozen=True)
class Golden:
    config: ModelConfig
    variant: Variant
    arrays: Mapping[str, Tensor]
    model: MultiMAE
    inputs: Inputs
    plan: MaskPlan
    output: ModelOutput

    def group(self, prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in self.arrays.items() if name.startswith(prefix)}


CASES = [
    pytest.param((name, device), id=f"{name}-{device}", marks=[pytest.mark.gpu] if device == "cuda" else [])
    for device in ("cpu", "cuda")
    for name in FILES
]


@pytest.fixture(autouse=True)
def exact_convolutions() -> Iterator[None]:
    """No TF32 on a GPU: convolutions take it if nobody says no."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@pytest.fixture(params=CASES)
def golden(request: pytest.FixtureRequest, shared: Path) -> Golden:
    name, device = request.param
    config, variant = FILES[name]
    with np.load(shared / "golden" / f"{name}.npz", allow_pickle=False) as file:
        arrays = {key: torch.from_numpy(np.asarray(file[key])).to(device) for key in file.files}
    model = MultiMAE(config, variant).to(device)
    weights = {name.removeprefix("weight/"): value for name, value in arrays.items() if name.startswith("weight/")}
    model.load_state_dict(from_published(weights, config, variant))
    values = {name: arrays[f"input/{name}"] for name in config.in_domains}
    plan = plan_from_ids(arrays["ids_keep"], config.num_tokens)
    return Golden(config, variant, arrays, model, without_gaps(values, config), plan, model(values, plan))


def without_gaps(values: dict[str, Tensor], config: ModelConfig) -> Inputs:
    batch = len(values["rgb"])
    whole = torch.ones(batch, config.tokens_per_modality, dtype=torch.bool, device=values["rgb"].device)
    return Inputs(
        values,
        {name: torch.ones_like(value, dtype=torch.bool) for name, value in values.items()},
        dict.fromkeys(values, whole),
        torch.zeros(batch, dtype=torch.int64, device=whole.device),
        torch.ones(batch, dtype=torch.bool, device=whole.device),
    )


def assert_near(ours: Tensor, reference: Tensor) -> None:
    assert ours.shape == reference.shape
    difference = (ours.detach() - reference).abs().max() / reference.abs().max()
    assert difference.item() <= ARRAY_BOUND


def assert_losses_near(golden: Golden, config: ModelConfig, kind: str) -> Tensor:
    loss_OB = sample_losses(golden.output, golden.inputs, golden.plan, config)
    total, loss_O = combine(loss_OB, scored(golden.inputs, golden.plan, config).sum(dim=1), 1.0)
    references = golden.group(f"{kind}/")
    assert set(references) == set(config.outputs)
    for name, loss in zip(config.outputs, loss_O.tolist(), strict=True):
        assert loss == pytest.approx(references[name].item(), rel=LOSS_BOUND), name
    return total


def test_tokens(golden: Golden) -> None:
    assert_near(golden.model.tokens(golden.inputs.values), golden.arrays["tokens"])


def test_masks(golden: Golden) -> None:
    masks = torch.cat([golden.arrays[f"mask/{name}"] for name in golden.config.in_domains], dim=1)
    assert torch.equal(golden.plan.hidden_BN, masks.bool())


def test_encoded(golden: Golden) -> None:
    assert_near(golden.output.encoded_BLD, golden.arrays["encoded"])


def test_predictions(golden: Golden) -> None:
    references = golden.group("pred/")
    assert set(references) == set(golden.output.patches)
    for name, reference in references.items():
        side = output_source(name).patch(golden.config.patch_size)
        assert_near(golden.output.patches[name], patchify(reference, side))


def test_losses_of_hidden_patches(golden: Golden) -> None:
    total = assert_losses_near(golden, golden.config, "loss_masked")
    assert total.item() == pytest.approx(golden.arrays["loss_total"].item(), rel=LOSS_BOUND)


def test_the_class_of_no_data_is_in_the_loss(golden: Golden) -> None:
    """What the numbers above could not show if no label were without data."""
    config = replace(golden.config, paper_exact=False)
    semseg = config.outputs.index("semseg")
    ids = golden.inputs.values["semseg"]
    inputs = replace(golden.inputs, valid={**golden.inputs.valid, "semseg": ids != 11})
    assert (ids == 11).any()
    exact = sample_losses(golden.output, inputs, golden.plan, golden.config)[semseg]
    assert not torch.allclose(exact, sample_losses(golden.output, inputs, golden.plan, config)[semseg], rtol=1e-3)


def test_losses_of_all_patches(golden: Golden) -> None:
    assert_losses_near(golden, replace(golden.config, loss_on_unmasked=True), "loss_all")


def test_gradient_norms(golden: Golden) -> None:
    output = golden.model(golden.inputs.values, golden.plan)
    loss_OB = sample_losses(output, golden.inputs, golden.plan, golden.config)
    total, _ = combine(loss_OB, scored(golden.inputs, golden.plan, golden.config).sum(dim=1), 1.0)
    parameters = dict(golden.model.named_parameters())
    gradients = dict(zip(parameters, torch.autograd.grad(total, list(parameters.values())), strict=True))
    published = to_published(gradients, golden.config, golden.variant)
    references = golden.group("gradnorm/")
    assert set(references) == {name for name in published if not name.endswith("pos_emb")}
    for name, reference in references.items():
        norm = published[name].double().norm().item()
        assert norm == pytest.approx(reference.item(), rel=GRADIENT_BOUND, abs=ZERO_BOUND), name


def test_weights_round_trip(golden: Golden) -> None:
    weights = golden.group("weight/")
    back = to_published(golden.model.state_dict(), golden.config, golden.variant)
    assert set(back) == set(weights)
    for name, tensor in back.items():
        # Positions are computed afresh: sines differ between machines by a unit in the last place.
        bound = 1e-6 if name.endswith("pos_emb") else 0.0
        assert (tensor.cpu() - weights[name].cpu()).abs().max().item() <= bound, name
