"""What holds beyond the published code, from stored integers to losses, one rule a test, on tiles made by hand.

Every tile is 16 x 32 pixels, 2 x 4 patches; gaps are put into stored arrays, and losses are read off at the end.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmae.config.schema import DataConfig, ModelConfig
from mmae.data.transforms.preprocess import Preprocess
from mmae.draws import tile_keys
from mmae.losses import combine, sample_losses, scored
from mmae.modalities import MODALITIES, NORM_RGB, output_source
from mmae.model.masking import plan_masks
from mmae.model.mmae import MultiMAE
from mmae.types import Batch, Inputs, MaskPlan, ModelOutput
from mmae.variants import Variant

NAMES = (*MODALITIES,)
CONFIG = ModelConfig(
    in_domains=NAMES,
    out_domains=NAMES,
    input_size=(16, 32),
    num_encoded_tokens=20,
    decoder_dim=16,
    decoder_depth=1,
    decoder_num_heads=2,
)
EXACT = replace(CONFIG, paper_exact=True)
VARIANT = Variant(dim=32, depth=1, num_heads=2, mlp_dim=64)
BANDS = {"sentinel2": 13, "sentinel1": 8, "aster": 2, "canopy_height_eth": 2, "esa_worldcover": 1, "dynamic_world": 1}
STATS = {
    name: {"mean": [5.0] * 13, "std": [3.0] * 13}
    for name in ("sentinel2_l1c", "sentinel2_l2a", "sentinel1", "aster", "canopy_height_eth")
}
NO_DATA: dict[str, tuple[float, ...]] = {
    "sentinel2": (0,),
    "sentinel1": (-np.inf, np.nan),
    "canopy_height_eth": (127,),
    "esa_worldcover": (0, 255),
    "dynamic_world": (0, 255),
}
"""What the datasets store where nothing was measured; `aster` stores nothing of the kind."""

GAPPED = [(dataset, code) for dataset, codes in NO_DATA.items() for code in codes]
Arrays = dict[str, NDArray[Any]]


def whole_tiles(count: int) -> Arrays:
    """Tiles without any gap."""
    rng = np.random.default_rng(0)

    def integers(low: int, high: int, dtype: Any, bands: int) -> NDArray[Any]:
        return rng.integers(low, high, (count, bands, 16, 32)).astype(dtype)

    return {
        "sentinel2": integers(1, 9000, np.uint16, 13),
        "sentinel1": rng.normal(-12, 5, (count, 8, 16, 32)).astype(np.float32),
        "aster": integers(-100, 3000, np.int16, 2),
        "canopy_height_eth": integers(0, 40, np.int8, 2),
        "esa_worldcover": (10 * integers(1, 10, np.uint8, 1)).astype(np.uint8),
        "dynamic_world": integers(1, 10, np.uint8, 1),
    }


def prepare(arrays: Arrays, config: ModelConfig = CONFIG, epoch: int = 0) -> tuple[Inputs, MaskPlan]:
    count = len(arrays["aster"])
    rows = np.arange(count, dtype=np.int64)
    batch = Batch(
        pixels={name: torch.from_numpy(array) for name, array in arrays.items()},
        level_B=torch.zeros(count, dtype=torch.uint8),
        row_B=torch.from_numpy(rows),
        key_B=torch.from_numpy(tile_keys(1, epoch, rows)),
        real_B=torch.ones(count, dtype=torch.bool),
    )
    inputs = Preprocess(DataConfig(), config, STATS, torch.device("cpu"))(batch, train=False)
    token_valid_BN = torch.cat([inputs.token_valid[name] for name in config.in_domains], dim=1)
    return inputs, plan_masks(token_valid_BN, inputs.key_B, config)


def predictions(count: int, config: ModelConfig = CONFIG) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    patches = {}
    for name in config.outputs:
        source = output_source(name)
        side = source.patch(config.patch_size)
        shape = (count, config.tokens_per_modality, source.channels, side, side)
        patches[name] = torch.randn(shape, generator=generator).requires_grad_()
    return patches


def losses(patches: dict[str, Tensor], inputs: Inputs, plan: MaskPlan, config: ModelConfig = CONFIG) -> Tensor:
    return sample_losses(ModelOutput(patches, torch.zeros(1)), inputs, plan, config)


def of_dataset(dataset: str) -> list[str]:
    """Outputs that a dataset's pixels are the targets of."""
    return [name for name in CONFIG.outputs if output_source(name).dataset == dataset]


def visible(name: str, plan: MaskPlan) -> Tensor:
    """Visible tokens of a modality, bool (B, n)."""
    return ~plan.hidden_BN.view(len(plan.hidden_BN), len(NAMES), -1)[:, NAMES.index(name)]


@pytest.mark.parametrize(("dataset", "code"), GAPPED)
def test_pixels_without_data_are_in_no_loss(dataset: str, code: float) -> None:
    arrays = whole_tiles(3)
    # A corner of the first patch, a row of label blocks of the sixth; neither patch is without data throughout.
    arrays[dataset][:, :, :4, :4] = code
    arrays[dataset][:, :, 8:12, 8:16] = code
    inputs, plan = prepare(arrays, replace(CONFIG, loss_on_unmasked=True))
    config = replace(CONFIG, loss_on_unmasked=True)
    patches = predictions(3)
    loss_OB = losses(patches, inputs, plan, config)
    torch.autograd.backward(loss_OB.sum())
    for name in of_dataset(dataset):
        s = output_source(name).stride
        gradient = patches[name].grad
        assert gradient is not None
        assert not gradient[:, 0, :, : 4 // s, : 4 // s].any(), name
        assert not gradient[:, 5, :, : 4 // s, :].any(), name
        rest = gradient.clone()
        rest[:, 0, :, : 4 // s, : 4 // s] = 1
        rest[:, 5, :, : 4 // s, :] = 1
        assert rest.all(), name
        # What is predicted there changes nothing.
        changed = {key: value.detach().clone() for key, value in patches.items()}
        changed[name][:, 0, :, : 4 // s, : 4 // s] = 1e6
        assert torch.equal(losses(changed, inputs, plan, config), loss_OB.detach())


@pytest.mark.parametrize(("dataset", "code"), GAPPED)
def test_pixels_without_data_enter_as_nothing(dataset: str, code: float) -> None:
    arrays = whole_tiles(2)
    arrays[dataset][:, :, :4, :4] = code
    inputs, _ = prepare(arrays)
    for name in of_dataset(dataset):
        row = output_source(name)
        corner = inputs.values[row.name][..., : 4 // row.stride, : 4 // row.stride]
        assert (corner == (row.no_data_class if row.categorical else 0)).all()
        valid = inputs.valid[row.name]
        assert not valid[..., : 4 // row.stride, : 4 // row.stride].any()
        assert valid.sum() == valid.numel() - corner.numel()


@pytest.mark.parametrize(("dataset", "code"), GAPPED)
def test_a_token_without_any_valid_pixel_is_never_visible(dataset: str, code: float) -> None:
    arrays = whole_tiles(400)
    arrays[dataset][:, :, 8:, 16:24] = code
    # One pixel with data makes a token that may be seen.
    arrays[dataset][:, :, :8, :8] = code
    arrays[dataset][:, :, :4, :4] = whole_tiles(400)[dataset][:, :, :4, :4]
    inputs, plan = prepare(arrays)
    for name in {output_source(output).name for output in of_dataset(dataset)}:
        assert inputs.token_valid[name].all(0).tolist() == [True] * 6 + [False, True]
        often = visible(name, plan).sum(0)
        assert often[6] == 0
        assert (often[[0, 1, 2, 3, 4, 5, 7]] > 0).all()
    assert (plan.filled_B == 0).all()


@pytest.mark.parametrize("dataset", NO_DATA)
def test_a_modality_that_a_tile_lacks_is_not_in_its_sample(dataset: str) -> None:
    arrays = whole_tiles(60)
    arrays[dataset][:20] = NO_DATA[dataset][0]
    inputs, plan = prepare(arrays)
    patches = predictions(60)
    loss_OB, has_OB = losses(patches, inputs, plan), scored(inputs, plan, CONFIG)
    assert plan.keep_BK.shape == (60, 20)
    assert (plan.filled_B == 0).all()
    for o, name in enumerate(CONFIG.outputs):
        if name in of_dataset(dataset):
            assert not visible(output_source(name).name, plan)[:20].any()
            assert visible(output_source(name).name, plan)[20:].any()
            assert not has_OB[o, :20].any()
            assert not loss_OB[o, :20].any()
            present = slice(20, None)
        else:
            present = slice(None)
        # A modality that is visible throughout has nothing to reconstruct.
        hidden_B = ~visible(output_source(name).name, plan).all(1)
        assert torch.equal(has_OB[o, present], hidden_B[present])
        assert torch.equal(loss_OB[o, present] > 0, hidden_B[present])
    # Its loss is the mean over the tiles that have it.
    _, loss_O = combine(loss_OB, has_OB.sum(1), 1.0)
    torch.testing.assert_close(loss_O, torch.stack([row[has].mean() for row, has in zip(loss_OB, has_OB, strict=True)]))


def test_what_a_tile_lacks_reaches_no_prediction() -> None:
    """The pixels of an absent modality may hold anything that means no data: the model says the same."""
    arrays = whole_tiles(2)
    arrays["sentinel1"][0], arrays["esa_worldcover"][0] = -np.inf, 0
    other = {name: array.copy() for name, array in arrays.items()}
    other["sentinel1"][0], other["esa_worldcover"][0] = np.nan, 255
    model = MultiMAE(CONFIG, VARIANT)
    outputs = []
    for stored in (arrays, other):
        inputs, plan = prepare(stored)
        output = model(inputs.values, plan)
        outputs.append((output.encoded_BLD, sample_losses(output, inputs, plan, CONFIG)))
    assert torch.equal(outputs[0][0], outputs[1][0])
    assert torch.equal(outputs[0][1], outputs[1][1])


@pytest.mark.parametrize("left", [0, 1, 5, 19, 20, 21])
def test_too_few_valid_tokens_are_filled_up_and_counted(left: int) -> None:
    """A tile with data in so many tokens of aster's two modalities and Sentinel-2's four, 20 wanted."""
    arrays = whole_tiles(50)
    config = replace(CONFIG, in_domains=("rgb", "ired", "sired", "ebands"), num_encoded_tokens=20)
    for name in set(NO_DATA) - {"sentinel2"}:
        arrays[name][:] = NO_DATA[name][0]
    arrays["sentinel2"][:] = 0
    for token in range(left):
        band = MODALITIES[config.in_domains[token // 8]].bands[0]
        row, column = divmod(token % 8, 4)
        arrays["sentinel2"][:, band, 8 * row + 3, 8 * column + 5] = 700
    inputs, plan = prepare(arrays, config)
    token_valid_BN = torch.cat([inputs.token_valid[name] for name in config.in_domains], dim=1)
    assert (token_valid_BN.sum(1) == left).all()
    assert plan.keep_BK.shape == (50, 20)
    assert (plan.keep_BK.diff(dim=1) > 0).all()
    assert (plan.filled_B == max(0, 20 - left)).all()
    seen_BN = ~plan.hidden_BN
    assert (seen_BN.sum(1) == 20).all()
    assert ((seen_BN & token_valid_BN).sum(1) == min(left, 20)).all()
    # What fills is drawn afresh for each tile.
    if left < 20:
        assert len({tuple(row) for row in plan.keep_BK.tolist()}) > 8


def test_a_tile_without_anything_adds_nothing() -> None:
    arrays = whole_tiles(3)
    config = replace(CONFIG, in_domains=("rgb", "semseg"), out_domains=("rgb", "semseg"), num_encoded_tokens=6)
    for name, codes in NO_DATA.items():
        arrays[name][1] = codes[0]
    inputs, plan = prepare(arrays, config)
    assert plan.filled_B.tolist() == [0, 6, 0]
    model = MultiMAE(config, VARIANT)

    def gradients(tiles: slice) -> list[Tensor]:
        part = Inputs(
            {name: value[tiles] for name, value in inputs.values.items()},
            {name: value[tiles] for name, value in inputs.valid.items()},
            {name: value[tiles] for name, value in inputs.token_valid.items()},
            inputs.key_B[tiles],
            inputs.real_B[tiles],
        )
        cut = MaskPlan(plan.keep_BK[tiles], plan.hidden_BN[tiles], plan.filled_B[tiles])
        count_O = scored(part, cut, config).sum(1)
        total, _ = combine(sample_losses(model(part.values, cut), part, cut, config), count_O, 1.0)
        assert count_O.tolist() == [2] * 3
        return list(torch.autograd.grad(total, list(model.parameters())))

    for whole, without in zip(gradients(slice(0, 3)), gradients(slice(0, 3, 2)), strict=True):
        torch.testing.assert_close(whole, without, rtol=1e-4, atol=2e-6)


def test_normalised_patches_know_their_valid_pixels_only() -> None:
    arrays = whole_tiles(1)
    arrays["sentinel2"][:, :, :8, :4] = 0
    config = replace(CONFIG, in_domains=("depth",), num_encoded_tokens=3)
    inputs, plan = prepare(arrays, config)
    patches = predictions(1, config)
    rgb = arrays["sentinel2"][0, [3, 2, 1], :8, 4:8].astype(np.float64)
    target = (rgb - rgb.mean()) / rgb.std(ddof=1)
    with torch.no_grad():
        for patch in patches.values():
            patch.zero_()
        patches[NORM_RGB][0, 0, :, :, 4:] = torch.from_numpy(target)
        for token in range(1, 8):
            row, column = divmod(token, 4)
            pixels = arrays["sentinel2"][0, [3, 2, 1], 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] / 1.0
            patches[NORM_RGB][0, token] = torch.from_numpy((pixels - pixels.mean()) / pixels.std(ddof=1))
    loss_OB = losses(patches, inputs, plan, config)
    assert loss_OB[config.outputs.index(NORM_RGB), 0].item() < 1e-8


def test_under_paper_exact_no_rule_holds() -> None:
    arrays = whole_tiles(40)
    for name in set(NO_DATA) - {"sentinel1"}:
        arrays[name][:20] = NO_DATA[name][0]
    inputs, plan = prepare(arrays, EXACT)
    patches = predictions(40)
    loss_OB = losses(patches, inputs, plan, EXACT)
    for name in set(NAMES) - {"sentinel1"}:
        assert inputs.token_valid[name].all()
        assert visible(name, plan)[:20].any()
    assert (plan.filled_B == 0).all()
    hidden = torch.stack([~visible(output_source(name).name, plan).all(1) for name in EXACT.outputs])
    assert torch.equal(scored(inputs, plan, EXACT), hidden)
    assert torch.equal(loss_OB > 0, hidden)
    # No-data is normalised as a number, and its class is one to predict.
    torch.testing.assert_close(inputs.values["rgb"][:20], torch.full((20, 3, 16, 32), -5 / 3))
    assert (inputs.values["semseg"][:20] == 11).all()


def test_masks_do_not_look_at_numbers() -> None:
    """On the meta device there are none: whatever waited for one would fail."""
    _, plan = prepare(whole_tiles(2))
    meta = torch.device("meta")
    valid_BN = torch.ones(2, CONFIG.num_tokens, dtype=torch.bool, device=meta)
    for config in (CONFIG, replace(CONFIG, alphas=0.5, sample_tasks_uniformly=True)):
        blind = plan_masks(valid_BN, torch.zeros(2, dtype=torch.int64, device=meta), config)
        assert blind.keep_BK.shape == plan.keep_BK.shape
        assert blind.hidden_BN.shape == plan.hidden_BN.shape
