"""Every head: shapes, tiles without data, gradients, and the same result however a batch is divided."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from mmae.config.schema import ModelConfig
from mmae.errors import InputError
from mmae.model.encoder import EncoderModel
from mmae.model.features import features
from mmae.model.heads.attention_head import AttentionHead
from mmae.model.heads.block_outputs import BlockOutputs, block_outputs
from mmae.model.heads.build_head import build_head
from mmae.model.heads.head import EncoderShape, Head, group_norm
from mmae.model.heads.head_options import HeadOptions
from mmae.model.heads.linear_heads import PatchLinearHead
from mmae.model.heads.upernet import UPerNetHead
from mmae.model.mmae import MultiMAE
from tests.support.finetuned_models import KINDS, options

CONFIG = ModelConfig(size="nano", in_domains=("rgb", "ired"), input_size=56)


@pytest.fixture(scope="module")
def model() -> MultiMAE:
    return MultiMAE(CONFIG, seed=1).eval()


def values(batch: int = 3, hw: tuple[int, int] = (56, 56)) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(batch, 3, *hw, generator=generator) for name in CONFIG.in_domains}


def mask(batch: int = 3, places: int = 49) -> dict[str, Tensor]:
    """The last tile has no data at all."""
    generator = torch.Generator().manual_seed(1)
    seen = {name: torch.rand(batch, places, generator=generator) > 0.3 for name in CONFIG.in_domains}
    for each in seen.values():
        each[-1] = False
    return seen


def head_of(model: EncoderModel, kind: str, outputs: int = 5) -> Head:
    return build_head(options(kind), EncoderShape.of(model), outputs, seed=3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hw", [(56, 56), (8, 8), (16, 72)])
def test_a_head_speaks_of_tiles_or_of_every_pixel(kind: str, hw: tuple[int, int], model: MultiMAE) -> None:
    head = head_of(model, kind)
    found = head(block_outputs(model, values(2, hw), blocks=head.blocks))
    assert tuple(found.shape) == ((2, 5, *hw) if head.dense else (2, 5))
    assert head.dense == options(kind).dense


@pytest.mark.parametrize("kind", KINDS)
def test_a_tile_without_data_gives_finite_numbers_and_gradients(kind: str, model: MultiMAE) -> None:
    head = head_of(model, kind)
    head(block_outputs(model, values(), mask(), head.blocks)).square().sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    model.zero_grad()


@pytest.mark.parametrize("kind", KINDS)
def test_a_tile_gets_the_same_outputs_in_every_batch(kind: str, model: MultiMAE) -> None:
    head = head_of(model, kind).train()
    together = head(block_outputs(model, values(), mask(), head.blocks))
    for tile in range(3):
        one = {name: each[tile : tile + 1] for name, each in values().items()}
        seen = {name: each[tile : tile + 1] for name, each in mask().items()}
        alone = head(block_outputs(model, one, seen, head.blocks))
        torch.testing.assert_close(alone[0], together[tile], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_decides_the_weights_and_leaves_the_generator_alone(kind: str, model: MultiMAE) -> None:
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    first, second = head_of(model, kind), head_of(model, kind)
    assert torch.equal(torch.random.get_rng_state(), before)
    other = build_head(options(kind), EncoderShape.of(model), 5, seed=4)
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)]
    moved = [not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True)]
    assert all(same)
    assert any(moved)


@pytest.mark.parametrize("kind", KINDS)
def test_no_head_mixes_the_tiles_of_a_batch(kind: str, model: MultiMAE) -> None:
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)
    assert not any(isinstance(module, norms) for module in head_of(model, kind).modules())
    assert all(tensor.is_floating_point() for tensor in head_of(model, kind).state_dict().values())


def test_a_hidden_patch_counts_for_nothing(model: MultiMAE) -> None:
    """What stands in hidden patches is never read."""
    seen = mask()
    noisy = {
        name: torch.where(seen[name].view(3, 1, 7, 7).repeat_interleave(8, 2).repeat_interleave(8, 3), each, 99.0)
        for name, each in values().items()
    }
    for kind in KINDS:
        head = head_of(model, kind)
        clean, dirty = (head(block_outputs(model, each, seen, head.blocks)) for each in (values(), noisy))
        assert torch.equal(clean, dirty), kind


def test_the_pooled_vector_is_the_mean_of_tokens_with_data(model: MultiMAE) -> None:
    seen = mask()
    found = features(model, values(), seen)
    vector_BD = block_outputs(model, values(), seen).pooled()
    for tile in range(2):
        tokens = torch.cat([found.maps[name][tile].flatten(0, 1)[seen[name][tile]] for name in seen])
        torch.testing.assert_close(vector_BD[tile], tokens.mean(0), rtol=1e-5, atol=1e-6)
    assert not vector_BD[2].any()


def test_blocks_come_from_one_pass_as_from_many(model: MultiMAE) -> None:
    both = block_outputs(model, values(), mask(), blocks=(0, -1))
    for number, map_BDhw in enumerate(both.maps):
        alone = features(model, values(), mask(), block=number)
        assert torch.equal(both.global_tokens[number], alone.global_tokens)
        seen = torch.stack([each.view(3, 7, 7) for each in mask().values()]).sum(0)
        mean = torch.stack(tuple(alone.maps.values())).sum(0) / seen.clamp(min=1)[..., None]
        torch.testing.assert_close(map_BDhw, mean.permute(0, 3, 1, 2))


def test_the_linear_head_of_patches_is_a_linear_layer_a_patch(model: MultiMAE) -> None:
    head = head_of(model, "patch_linear", outputs=2)
    assert isinstance(head, PatchLinearHead)
    with torch.no_grad():
        encoded = block_outputs(model, values())
        found = head(encoded)
        token_D = head.norm(encoded.maps[0])[1, :, 2, 3]
        expected = head.linear(token_D).view(2, 8, 8)
    torch.testing.assert_close(found[1, :, 16:24, 24:32], expected, rtol=1e-5, atol=1e-6)


def test_attention_pooling_of_what_is_there_is_that_of_timm_on_these_tokens(model: MultiMAE) -> None:
    head = head_of(model, "attention")
    assert isinstance(head, AttentionHead)
    encoded = block_outputs(model, values(), mask())
    found = head(encoded)
    assert encoded.weight_Bhw is not None
    for tile in range(2):
        tokens_nD = encoded.maps[0][tile].flatten(1).T[encoded.weight_Bhw[tile].flatten() > 0]
        all_LD = torch.cat([tokens_nD, encoded.global_tokens[0][tile]])
        torch.testing.assert_close(found[tile], head.linear(head.pool(head.norm(all_LD)[None]))[0])


def test_upernet_adds_levels_as_torchvision_does(model: MultiMAE) -> None:
    """The levels that the head fuses are those of torchvision's pyramid, from fine to coarse."""
    head = head_of(model, "upernet")
    assert isinstance(head, UPerNetHead)
    assert isinstance(head.levels, FeaturePyramidNetwork)
    maps = head.pyramid(block_outputs(model, values(), blocks=head.blocks).maps)
    assert [tuple(each.shape[-2:]) for each in maps] == [(28, 28), (14, 14), (7, 7), (4, 4)]


def test_a_pooled_place_is_not_normed_away() -> None:
    """A group norm with a channel a group would give 0 for a map of one place."""
    assert group_norm(16)(torch.randn(2, 16, 1, 1)).abs().max() > 0.1
    assert group_norm(512).num_groups == 32
    assert group_norm(7).num_groups == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"kind": "attention", "pooling": "global"}, "head.pooling=global: only the head linear pools"),
        ({"kind": "linear", "width": 8}, "head.width=8: the head linear has no width of its own"),
        ({"kind": "upernet", "blocks": (0, 1)}, "the head upernet reads 4 of them"),
        ({"kind": "linear", "blocks": (2,)}, "give numbers from 0 to 1, each larger"),
        ({"kind": "convnext", "width": 40}, "head.width=40: it is shared by 16 parts"),
    ],
)
def test_options_that_do_not_fit_are_refused(words: dict[str, object], message: str, model: MultiMAE) -> None:
    with pytest.raises(InputError, match=message):
        build_head(HeadOptions(**words), EncoderShape.of(model), 5)  # type: ignore[arg-type]


def test_global_pooling_needs_a_global_token() -> None:
    model = MultiMAE(ModelConfig(size="nano", in_domains=("rgb",), out_domains=("rgb",), num_encoded_tokens=6,
                                 num_global_tokens=0))  # fmt: skip
    with pytest.raises(InputError, match="this model has no global token"):
        build_head(HeadOptions(pooling="global"), EncoderShape.of(model), 5)
    head = build_head(HeadOptions(kind="attention"), EncoderShape.of(model), 5)
    seen = {"rgb": torch.zeros(1, 49, dtype=torch.bool)}
    assert torch.isfinite(head(block_outputs(model, {"rgb": torch.randn(1, 3, 56, 56)}, seen))).all()


def test_four_blocks_stand_at_equal_distances() -> None:
    assert HeadOptions(kind="upernet").blocks_of(12) == (2, 5, 8, 11)
    assert HeadOptions(kind="dpt").blocks_of(24) == (5, 11, 17, 23)
    assert HeadOptions(kind="dpt").blocks_of(2) == (0, 0, 0, 1)
    assert HeadOptions().blocks_of(12) == (11,)


def test_outputs_of_others_need_no_encoder() -> None:
    """A benchmark gives features that it has stored."""
    shape = EncoderShape(dim=8, depth=4, num_heads=2, num_global_tokens=0, patch_size=4)
    head = build_head(HeadOptions(kind="patch_linear"), shape, 3)
    assert head(BlockOutputs((torch.randn(2, 8, 5, 6),), (torch.zeros(2, 0, 8),))).shape == (2, 3, 20, 24)
