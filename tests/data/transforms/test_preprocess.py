"""The device side as a whole, against a loop over tiles in plain numpy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from mmae.config.schema import DataConfig, ModelConfig
from mmae.data.transforms.crop import random_corners, random_flips
from mmae.data.transforms.preprocess import Preprocess
from mmae.draws import tile_keys
from mmae.errors import InputError
from mmae.modalities import MODALITIES, S2_LEVELS
from mmae.types import Batch, Inputs

CPU = torch.device("cpu")
DOMAINS = (*MODALITIES,)
MODEL = ModelConfig(in_domains=DOMAINS, out_domains=DOMAINS, input_size=16, patch_size=8, num_encoded_tokens=8)
DATA = DataConfig()


def band_stats() -> dict[str, Any]:
    rng = np.random.default_rng(5)
    counts = {"sentinel2_l1c": 13, "sentinel2_l2a": 13, "aster": 2, "sentinel1": 8, "canopy_height_eth": 2}
    return {
        name: {"mean": (100 * rng.random(n)).tolist(), "std": (1 + 50 * rng.random(n)).tolist()}
        for name, n in counts.items()
    }


def random_batch(size: int = 6, hw: tuple[int, int] = (24, 24), seed: int = 0) -> Batch:
    """Tiles full of gaps, extremes of every dtype included."""
    rng = np.random.default_rng(seed)

    def holes(array: np.ndarray, *values: float) -> torch.Tensor:
        for value in values:
            array[rng.random(array.shape) < 0.1] = value
        return torch.from_numpy(array)

    pixels = {
        "sentinel2": holes(rng.integers(1, 9000, (size, 13, *hw), np.uint16), 0, 40000, 65535),
        "sentinel1": holes(rng.normal(-12, 5, (size, 8, *hw)).astype(np.float32), -np.inf, np.nan, np.inf),
        "aster": holes(rng.integers(-400, 8800, (size, 2, *hw), np.int16), 0),
        "canopy_height_eth": holes(rng.integers(0, 60, (size, 2, *hw), np.int8), 127),
        "dynamic_world": holes(rng.integers(1, 10, (size, 1, *hw), np.uint8), 0, 10, 255),
        "esa_worldcover": holes(rng.choice([10, 20, 95, 100], (size, 1, *hw)).astype(np.uint8), 0, 255, 11),
    }
    row_B = np.arange(size, dtype=np.int64) * 7
    return Batch(
        pixels=pixels,
        level_B=torch.from_numpy(rng.integers(0, 2, size).astype(np.uint8)),
        row_B=torch.from_numpy(row_B),
        key_B=torch.from_numpy(tile_keys(seed, 0, row_B)),
        real_B=torch.ones(size, dtype=torch.bool),
    )


def window(array_CHW: np.ndarray, config: DataConfig, key: torch.Tensor, hw: tuple[int, int], train: bool) -> Any:
    """The sample's pixels by slicing, flipping and transposing."""
    tile_hw = array_CHW.shape[-2:]
    hw = tile_hw if config.crop == "resize" else hw
    top, left = (tile_hw[0] - hw[0]) // 2, (tile_hw[1] - hw[1]) // 2
    symmetry = 0
    if train:
        top, left = (int(corner) for corner in random_corners(key, tile_hw, hw))
        symmetry = int(random_flips(key, config.flip, hw[0] == hw[1]))
    cut = array_CHW[:, top : top + hw[0], left : left + hw[1]]
    cut = cut[:, :, ::-1] if symmetry & 1 else cut
    cut = cut[:, ::-1] if symmetry & 2 else cut
    return np.ascontiguousarray(cut.transpose(0, 2, 1) if symmetry & 4 else cut)


def reference_pixels(name: str, cut: np.ndarray, level: int, hw: tuple[int, int], exact: bool) -> tuple[Any, Any]:
    row = MODALITIES[name]
    stored = cut[list(row.bands)].astype(np.float64)
    valid = np.isfinite(stored)
    if not exact:
        valid &= ~np.isin(stored, row.no_data)
    stats = band_stats()[f"{row.dataset}_{S2_LEVELS[level]}" if row.by_level else row.dataset]
    mean, std = (np.array(stats[key])[list(row.bands), None, None] for key in ("mean", "std"))
    values = np.where(valid, (np.where(valid, stored, 0) - mean) / std, 0)
    if values.shape[-2:] != hw:
        both = torch.from_numpy(np.stack([values, (~valid).astype(np.float64)]))
        values, invalid = interpolate(both, hw, mode="bilinear", align_corners=False).numpy()
        valid = invalid == 0
        values = np.where(valid, values, 0)
    if row.standardise:
        known = np.sort(values[valid])
        inner = known[int(0.1 * len(known)) : int(0.9 * len(known))]
        values = np.where(valid, (values - inner.mean()) / np.sqrt(inner.var(ddof=1) + 1e-6), 0)
    return values, valid


def reference_labels(name: str, cut: np.ndarray, hw: tuple[int, int], config: DataConfig) -> np.ndarray:
    row = MODALITIES[name]
    codes = cut[0]
    rows = [(2 * i + 1) * codes.shape[0] // (2 * hw[0]) for i in range(hw[0])]
    columns = [(2 * j + 1) * codes.shape[1] // (2 * hw[1]) for j in range(hw[1])]
    codes = codes[np.ix_(rows, columns)]
    known = {code: number for number, code in enumerate(row.class_codes)}
    ids = np.vectorize(lambda code: known.get(int(code), row.no_data_class), otypes=[np.int64])(codes)
    s = row.stride
    if config.labels == "nearest":
        return np.ascontiguousarray(ids[s // 2 :: s, s // 2 :: s])
    out = np.full((hw[0] // s, hw[1] // s), row.no_data_class)
    for i, j in np.ndindex(out.shape):
        block = ids[i * s : (i + 1) * s, j * s : (j + 1) * s]
        votes = np.bincount(block[block != row.no_data_class], minlength=1)
        if votes.any():
            out[i, j] = votes.argmax()
    return out


def check(batch: Batch, inputs: Inputs, config: DataConfig, model: ModelConfig, train: bool) -> None:
    for name in model.domains:
        row = MODALITIES[name]
        for tile in range(len(batch.row_B)):
            stored = batch.pixels[row.dataset][tile].numpy()
            cut = window(stored, config, batch.key_B[tile : tile + 1], model.image_hw, train)
            if row.categorical:
                values = reference_labels(name, cut, model.image_hw, config)
                valid = (values != row.no_data_class) | model.paper_exact
            else:
                level = int(batch.level_B[tile])
                values, valid = reference_pixels(name, cut, level, model.image_hw, model.paper_exact)
            np.testing.assert_array_equal(inputs.valid[name][tile].numpy(), valid, err_msg=name)
            np.testing.assert_allclose(inputs.values[name][tile].numpy(), values, rtol=1e-4, atol=2e-4, err_msg=name)
            p = row.patch(model.patch_size)
            merged = valid if row.categorical else valid.any(0)
            tokens = [merged[i * p : (i + 1) * p, j * p : (j + 1) * p].any() for i, j in np.ndindex(model.grid_hw)]
            assert inputs.token_valid[name][tile].tolist() == tokens


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("labels", ["majority", "nearest"])
@pytest.mark.parametrize("flip", ["none", "horizontal", "dihedral"])
@pytest.mark.parametrize("crop", ["random", "resize"])
def test_it_equals_a_loop_over_tiles(crop: Any, flip: Any, labels: Any, train: bool) -> None:
    config = DataConfig(crop=crop, flip=flip, labels=labels)
    batch = random_batch()
    check(batch, Preprocess(config, MODEL, band_stats(), CPU)(batch, train), config, MODEL, train)


@pytest.mark.parametrize("size", [(8, 16), (16, 8), (24, 24)])
def test_rectangles_and_whole_tiles(size: tuple[int, int]) -> None:
    model = replace(MODEL, input_size=size)
    batch = random_batch()
    check(batch, Preprocess(DATA, model, band_stats(), CPU)(batch, True), DATA, model, True)


def test_rectangular_tiles() -> None:
    batch = random_batch(hw=(32, 24))
    check(batch, Preprocess(DATA, MODEL, band_stats(), CPU)(batch, True), DATA, MODEL, True)


@pytest.mark.parametrize("crop", ["random", "resize"])
def test_paper_exact_normalises_stored_no_data_but_nothing_that_is_not_finite(crop: Any) -> None:
    config, model = DataConfig(crop=crop), replace(MODEL, paper_exact=True)
    batch = random_batch()
    inputs = Preprocess(config, model, band_stats(), CPU)(batch, True)
    check(batch, inputs, config, model, True)
    for name in set(DOMAINS) - {"sentinel1"}:
        assert inputs.valid[name].all()
        assert inputs.token_valid[name].all()


def test_dtypes_and_shapes() -> None:
    batch = random_batch(size=1)
    inputs = Preprocess(DATA, MODEL, band_stats(), CPU)(batch, True)
    assert inputs.values["rgb"].shape == inputs.valid["rgb"].shape == (1, 3, 16, 16)
    assert inputs.values["semseg"].shape == inputs.valid["semseg"].shape == (1, 4, 4)
    for name, values in inputs.values.items():
        assert values.dtype == (torch.int64 if MODALITIES[name].categorical else torch.float32)
        assert inputs.valid[name].dtype == inputs.token_valid[name].dtype == torch.bool
        assert inputs.token_valid[name].shape == (1, 4)
    assert inputs.key_B is batch.key_B
    assert inputs.real_B is batch.real_B


@pytest.mark.long
@settings(deadline=None, max_examples=20)
@given(st.sampled_from(["random", "resize"]), st.lists(st.integers(0, 5), min_size=1, max_size=5))
def test_a_tile_is_the_same_sample_in_any_company(crop: Any, company: list[int]) -> None:
    preprocess = Preprocess(DataConfig(crop=crop), MODEL, band_stats(), CPU)
    batch = random_batch()
    some = batch._map("__getitem__", torch.tensor(company))
    whole, part = preprocess(batch, True), preprocess(some, True)
    for name in DOMAINS:
        for ours, others in ((part.values, whole.values), (part.valid, whole.valid)):
            torch.testing.assert_close(ours[name], others[name][company], rtol=0, atol=0)


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(["random", "resize"]), st.booleans())
def test_no_data_never_touches_a_value(crop: Any, train: bool) -> None:
    batch = random_batch()
    spoiled = dict(batch.pixels)
    # One no-data value for another, where a modality has two.
    codes = batch.pixels["esa_worldcover"]
    spoiled["esa_worldcover"] = torch.where(codes == 0, 255, codes)
    decibel = batch.pixels["sentinel1"]
    spoiled["sentinel1"] = torch.where(decibel.isfinite(), decibel, torch.nan)
    preprocess = Preprocess(DataConfig(crop=crop), MODEL, band_stats(), CPU)
    before, after = preprocess(batch, train), preprocess(replace(batch, pixels=spoiled), train)
    for name in DOMAINS:
        torch.testing.assert_close(before.values[name], after.values[name], rtol=0, atol=0)
        assert before.values[name].isfinite().all()
        if not MODALITIES[name].categorical:
            assert (before.values[name][~before.valid[name]] == 0).all()


def uniform_batch(**stored: float) -> Batch:
    """Two tiles, L1C and L2A, each dataset one value throughout."""
    batch = random_batch(size=2)
    pixels = {
        name: torch.full(array.shape, stored[name], dtype=torch.float64).to(array.dtype) if name in stored else array
        for name, array in batch.pixels.items()
    }
    return replace(batch, pixels=pixels, level_B=torch.tensor([0, 1], dtype=torch.uint8))


@pytest.mark.parametrize("crop", ["random", "resize"])
def test_tree_cover_survives_and_no_data_is_no_class(crop: Any) -> None:
    preprocess = Preprocess(DataConfig(crop=crop), MODEL, band_stats(), CPU)
    for code, expected in ((10, 0), (100, 10), (0, 11), (255, 11), (11, 11)):
        inputs = preprocess(uniform_batch(esa_worldcover=code), True)
        assert (inputs.values["semseg"] == expected).all()
        assert (inputs.valid["semseg"] == (expected != 11)).all()


@pytest.mark.parametrize("stored", [1, 32767, 32768, 65535])
def test_large_reflectance_at_both_levels(stored: int) -> None:
    inputs = Preprocess(DATA, MODEL, band_stats(), CPU)(uniform_batch(sentinel2=stored), True)
    for tile, level in enumerate(S2_LEVELS):
        stats = band_stats()[f"sentinel2_{level}"]
        for channel, band in enumerate(MODALITIES["rgb"].bands):
            expected = (stored - stats["mean"][band]) / stats["std"][band]
            torch.testing.assert_close(inputs.values["rgb"][tile, channel], torch.full((16, 16), expected))


def test_a_tile_without_anything() -> None:
    gone = uniform_batch(
        sentinel2=0, sentinel1=-np.inf, canopy_height_eth=127, dynamic_world=0, esa_worldcover=255, aster=0
    )
    inputs = Preprocess(DATA, MODEL, band_stats(), CPU)(gone, True)
    for name in set(DOMAINS) - {"depth", "slope"}:
        assert not inputs.valid[name].any()
        assert not inputs.token_valid[name].any()
    assert (inputs.values["depth"].abs() < 1e-3).all()


def test_epochs_crop_differently_and_validation_does_not() -> None:
    batch = random_batch()
    later = replace(batch, key_B=torch.from_numpy(tile_keys(0, 1, batch.row_B.numpy())))
    preprocess = Preprocess(DATA, MODEL, band_stats(), CPU)
    for train in (True, False):
        same = torch.equal(preprocess(batch, train).values["rgb"], preprocess(later, train).values["rgb"])
        assert same is not train


def test_small_tiles_are_named_unless_resized() -> None:
    model = replace(MODEL, input_size=(16, 32))
    with pytest.raises(InputError, match=r"tiles of 24x24 pixels are smaller than model\.input_size=16x32"):
        Preprocess(DATA, model, band_stats(), CPU)(random_batch(), True)
    inputs = Preprocess(DataConfig(crop="resize"), model, band_stats(), CPU)(random_batch(), True)
    assert inputs.values["rgb"].shape == (6, 3, 16, 32)


def test_datasets_of_different_size_are_named() -> None:
    batch = random_batch()
    odd = replace(batch, pixels={**batch.pixels, "aster": batch.pixels["aster"][..., :20]})
    with pytest.raises(InputError, match="sentinel2 24x24, aster 24x20"):
        Preprocess(DATA, MODEL, band_stats(), CPU)(odd, True)


def test_missing_statistics_are_named() -> None:
    stats = band_stats()
    del stats["sentinel1"]
    with pytest.raises(InputError, match="no entry 'sentinel1'"):
        Preprocess(DATA, MODEL, stats, CPU)


@pytest.mark.parametrize("crop", ["random", "resize"])
@pytest.mark.parametrize("train", [True, False])
def test_shapes_are_known_without_a_number(crop: Any, train: bool) -> None:
    """On the meta device there are no values: whatever asked for one would fail."""
    meta = torch.device("meta")
    inputs = Preprocess(DataConfig(crop=crop), MODEL, band_stats(), meta)(random_batch().to(meta), train)
    assert inputs.values["rgb"].shape == (6, 3, 16, 16)
    assert inputs.token_valid["semseg"].shape == (6, 4)


@pytest.mark.gpu
# torch says that its own check is a prototype.
@pytest.mark.filterwarnings("ignore:Synchronization debug mode:UserWarning")
@pytest.mark.parametrize("crop", ["random", "resize"])
def test_a_gpu_makes_the_same_samples_and_never_waits(crop: Any) -> None:
    device, batch = torch.device("cuda"), random_batch()
    config = DataConfig(crop=crop)
    preprocess = Preprocess(config, MODEL, band_stats(), device)
    there = batch.pin_memory().to(device)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        inputs = preprocess(there, True)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = Preprocess(config, MODEL, band_stats(), CPU)(batch, True)
    for name in DOMAINS:
        assert torch.equal(inputs.valid[name].cpu(), expected.valid[name])
        torch.testing.assert_close(inputs.values[name].cpu(), expected.values[name], rtol=1e-4, atol=1e-4)
