from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mmae.config.schema import ModelConfig
from mmae.modalities import MODALITIES
from mmae.model.features import Features, features
from mmae.model.masking import plan_from_ids
from mmae.model.mmae import MultiMAE
from mmae.model.posembed import base_positions
from mmae.variants import Variant

MakeValues = Callable[[ModelConfig, int], dict[str, Tensor]]


@pytest.fixture
def model(config: ModelConfig, variant: Variant) -> MultiMAE:
    model = MultiMAE(config, variant, seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


@pytest.fixture
def values(config: ModelConfig, make_values: MakeValues) -> dict[str, Tensor]:
    return make_values(config, 3)


def flat(found: Features) -> Tensor:
    """As the encoder's output, (B, N + G, D)."""
    return torch.cat([*(part.flatten(1, 2) for part in found.maps.values()), found.global_tokens], dim=1)


def near(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_everything_visible_is_the_training_forwards_encoding(model: MultiMAE, values: dict[str, Tensor]) -> None:
    found = features(model, values)
    count = model.config.num_tokens
    plan = plan_from_ids(torch.arange(count).expand(3, -1), count)
    near(flat(found), model(values, plan).encoded_BLD)
    assert tuple(found.maps) == model.config.in_domains
    assert {tuple(part.shape) for part in found.maps.values()} == {(3, 2, 4, 32)}
    assert found.global_tokens.shape == (3, 1, 32)


def test_the_order_of_the_values_does_not_matter(model: MultiMAE, values: dict[str, Tensor]) -> None:
    forwards, backwards = features(model, values), features(model, dict(reversed(values.items())))
    assert tuple(forwards.maps) == tuple(backwards.maps)
    assert torch.equal(flat(forwards), flat(backwards))


@pytest.mark.parametrize("names", [("rgb",), ("semseg",), ("ebands", "depth"), ("semseg", "rgb", "sired")])
def test_a_subset_is_the_others_masked(names: tuple[str, ...], model: MultiMAE, values: dict[str, Tensor]) -> None:
    part = features(model, {name: values[name] for name in names})
    mask = {name: torch.full((3, 2, 4), name in names) for name in values}
    whole = features(model, values, mask)
    assert set(part.maps) == set(names)
    near(part.global_tokens, whole.global_tokens)
    for name in values:
        if name in names:
            near(part.maps[name], whole.maps[name])
        else:
            assert not whole.maps[name].any()


def test_a_tile_alone(model: MultiMAE, values: dict[str, Tensor]) -> None:
    alone = features(model, {name: value[1:2] for name, value in values.items()})
    near(flat(alone), flat(features(model, values))[1:2])


def test_a_mask_leaves_tokens_out_tile_by_tile(model: MultiMAE, values: dict[str, Tensor]) -> None:
    generator = torch.Generator().manual_seed(4)
    visible = torch.rand(3, model.config.num_tokens, generator=generator) < 0.4
    visible[1] = True
    visible[2] = visible[0].flip(0)
    assert visible.sum(1).tolist().count(int(visible[0].sum())) == 2
    found = features(model, values, masks(visible, model.config))
    tokens = model.tokens(values)
    for tile in range(3):
        keep = visible[tile].nonzero()[:, 0]
        encoded = model.encoder(tokens[tile : tile + 1], keep[None])[0]
        expected = torch.zeros(model.config.num_tokens + 1, 32)
        expected[keep] = encoded[:-1]
        expected[-1] = encoded[-1]
        near(flat(found)[tile], expected)


def masks(visible_BN: Tensor, config: ModelConfig) -> dict[str, Tensor]:
    """One modality's mask as a map, the next as a list of tokens, ..."""
    parts = visible_BN.view(len(visible_BN), len(config.in_domains), config.tokens_per_modality).unbind(1)
    shaped = [part.view(-1, *config.grid_hw) if m % 2 else part for m, part in enumerate(parts)]
    return dict(zip(config.in_domains, shaped, strict=True))


def test_modalities_without_a_mask_are_visible(model: MultiMAE, values: dict[str, Tensor]) -> None:
    near(flat(features(model, values, {})), flat(features(model, values)))
    seen = {"rgb": torch.ones(3, 8, dtype=torch.bool)}
    near(flat(features(model, values, seen)), flat(features(model, values)))


@pytest.mark.parametrize("num_global_tokens", [0, 1, 2])
def test_nothing_visible(
    num_global_tokens: int, config: ModelConfig, variant: Variant, make_values: MakeValues
) -> None:
    config = replace(config, num_global_tokens=num_global_tokens)
    model = MultiMAE(config, variant).eval()
    visible = torch.ones(2, config.num_tokens, dtype=torch.bool)
    visible[0] = False
    found = features(model, make_values(config, 2), masks(visible, config))
    assert found.global_tokens.shape == (2, num_global_tokens, 32)
    assert not any(part[0].any() for part in found.maps.values())
    assert all(part[1].any() for part in found.maps.values())
    assert found.global_tokens[0].any() == (num_global_tokens > 0)


@pytest.mark.parametrize("size", [(8, 8), (16, 32), (40, 24), (256, 8)])
def test_any_image_size(size: tuple[int, int], model: MultiMAE, make_values: MakeValues) -> None:
    """As by a model that is built for that size, with the same weights."""
    config = replace(model.config, input_size=size)
    other = MultiMAE(config, model.variant).eval()
    other.load_state_dict(model.state_dict())
    values = make_values(config, 2)
    count = config.num_tokens
    expected = other.encode(other.tokens(values), plan_from_ids(torch.arange(count).expand(2, -1), count))
    for _ in range(2):
        near(flat(features(model, values)), expected)


def test_many_sizes_in_turn(model: MultiMAE, make_values: MakeValues) -> None:
    first = {"rgb": torch.randn(1, 3, 8, 8)}
    before = features(model, first)
    for side in range(2, 40):
        features(model, {"rgb": torch.zeros(1, 3, 8, 8 * side)})
    assert torch.equal(before.maps["rgb"], features(model, first).maps["rgb"])


def test_positions_are_those_of_the_grid(model: MultiMAE) -> None:
    adapter = model.tokenizer.adapters["semseg"]
    ids = torch.zeros(1, 6, 10, dtype=torch.int64)
    base = base_positions(32, 8)[None]
    grid = functional.interpolate(base, size=(3, 5), mode="bilinear", align_corners=False)
    positions = grid[0].flatten(1).T
    tokens = adapter(ids, (3, 5))
    near(tokens[0] - tokens[0, 0], positions - positions[0])


def test_no_decoder_is_needed_and_none_is_run(model: MultiMAE, values: dict[str, Tensor]) -> None:
    before = flat(features(model, values))
    bare = copy.deepcopy(model)
    del bare.decoders
    assert torch.equal(flat(features(bare, values)), before)


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_flow(masked: bool, model: MultiMAE, values: dict[str, Tensor]) -> None:
    rgb = values["rgb"].clone().requires_grad_()
    visible = torch.ones(3, model.config.num_tokens, dtype=torch.bool)
    visible[0, 5:30] = False
    mask = masks(visible, model.config) if masked else None
    torch.autograd.backward(flat(features(model, {**values, "rgb": rgb}, mask)).square().sum())
    parameters = [*model.tokenizer.parameters(), *model.encoder.parameters()]
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in parameters)
    assert rgb.grad is not None
    # Hidden pixels have no influence: tokens 5, 6 and 7 of the first tile lie in the second row of patches.
    assert rgb.grad[0, :, 8:, 8:].any() == (not masked)
    assert rgb.grad[0, :, :8].any()


def test_half_precision_and_small_label_dtypes(model: MultiMAE, values: dict[str, Tensor]) -> None:
    half = copy.deepcopy(model).bfloat16()
    found = features(half, {**values, "semseg": values["semseg"].to(torch.uint8)})
    assert {part.dtype for part in found.maps.values()} == {torch.bfloat16}
    difference = (flat(found).float() - flat(features(model, values))).abs()
    assert difference.mean() < 0.05 * flat(features(model, values)).abs().mean()
    masked = features(half, values, {"rgb": torch.zeros(3, 8, dtype=torch.bool)})
    assert masked.global_tokens.dtype == torch.bfloat16


def test_autocast(model: MultiMAE, values: dict[str, Tensor]) -> None:
    mask = {"rgb": torch.tensor([[True] * 8, [False] * 8, [True] * 4 + [False] * 4])}
    plain = features(model, values, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = features(model, values, mask)
    assert (flat(found).float() - flat(plain)).abs().mean() < 0.05 * flat(plain).abs().mean()


def test_inference_first_and_training_after(model: MultiMAE) -> None:
    with torch.inference_mode():
        features(model, {"rgb": torch.zeros(1, 3, 24, 24)})
    found = features(model, {"rgb": torch.zeros(1, 3, 24, 24)})
    torch.autograd.backward(found.global_tokens.sum())
    assert model.encoder.global_tokens is not None
    assert model.encoder.global_tokens.grad is not None


RGB = torch.zeros(2, 3, 16, 32)
IDS = torch.zeros(2, 4, 8, dtype=torch.int64)
SEEN = torch.ones(2, 2, 4, dtype=torch.bool)


@pytest.mark.parametrize(
    ("values", "mask", "message"),
    [
        ({}, None, "no modality is given; .* rgb, depth, semseg"),
        ({"slope": RGB[:, :1]}, None, "'slope' is not an input of this model"),
        ({"rgb": RGB[:, :2]}, None, r"rgb holds normalised floats of shape \(B, 3, H, W\), bands B4, B3, B2; got"),
        ({"rgb": RGB[0]}, None, r"got torch\.float32 of \(3, 16, 32\)"),
        ({"rgb": RGB.to(torch.int16)}, None, r"got torch\.int16"),
        ({"semseg": IDS[:, None]}, None, r"semseg holds class ids, integers of shape \(B, h, w\); got"),
        ({"semseg": IDS.float()}, None, r"got torch\.float32"),
        ({"semseg": IDS.bool()}, None, r"got torch\.bool"),
        ({"rgb": RGB[..., :30]}, None, r"\(2, 3, 16, 30\) does not divide into patches of 8x8"),
        ({"semseg": IDS[:, :3]}, None, "patches of 2x2 of its pixels"),
        ({"rgb": RGB[..., :0]}, None, "does not divide"),
        ({"rgb": RGB[:0]}, None, "does not divide"),
        ({"rgb": RGB, "depth": RGB[:1, :1]}, None, "depth holds 1 tile, rgb 2"),
        ({"rgb": RGB, "semseg": IDS.repeat(1, 2, 1)}, None, "semseg has 4x4 patches, rgb 2x4"),
        ({"rgb": RGB}, {"depth": SEEN}, "the mask names 'depth', but values hold rgb"),
        ({"rgb": RGB}, {"rgb": SEEN.float()}, r"is bool of shape \(2, 2, 4\) or \(2, 8\)"),
        ({"rgb": RGB}, {"rgb": SEEN[:1]}, r"got torch\.bool of \(1, 2, 4\)"),
        ({"rgb": RGB}, {"rgb": SEEN.permute(0, 2, 1)}, r"of \(2, 4, 2\)"),
    ],
)
def test_what_does_not_fit(values: Any, mask: Any, message: str, model: MultiMAE) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        features(model, values, mask)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", MODALITIES)
def test_each_modality_alone(name: str, config: ModelConfig, variant: Variant, make_values: MakeValues) -> None:
    config = replace(config, in_domains=(name,), out_domains=(name,), extra_norm_pix_loss=False, num_encoded_tokens=3)
    found = features(MultiMAE(config, variant), make_values(config, 1))
    assert found.maps[name].shape == (1, 2, 4, 32)


def test_learned_positions_reach_other_grids(config: ModelConfig, variant: Variant) -> None:
    model = MultiMAE(replace(config, positions="learned"), variant).eval()
    adapter = model.tokenizer.adapters["rgb"]
    with torch.no_grad():
        adapter.get_parameter("positions.table").normal_(generator=torch.Generator().manual_seed(0))
    table_nd = adapter.get_parameter("positions.table")
    grid = table_nd.T.view(1, 32, *config.grid_hw)
    expected = functional.interpolate(grid, size=(3, 7), mode="bicubic", align_corners=False)[0].flatten(1).T
    tokens = adapter(torch.zeros(1, 3, 24, 56), (3, 7))
    near(tokens[0] - tokens[0, 0], expected - expected[0])
    assert features(model, {"rgb": torch.zeros(1, 3, 24, 56)}).maps["rgb"].shape == (1, 3, 7, 32)
