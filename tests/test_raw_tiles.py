from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import mmae
from mmae.config.schema import ModelConfig
from mmae.errors import InputError
from mmae.model.features import features
from mmae.model.mmae import MultiMAE
from mmae.model.saved.saved_config import read_model_config
from mmae.model.saved.saved_model import save_model
from mmae.raw_tiles import raw_inputs

STATS = {
    "sentinel2_l1c": {"mean": [100.0 * band for band in range(13)], "std": [10.0] * 13},
    "sentinel2_l2a": {"mean": [50.0 * band for band in range(13)], "std": [20.0] * 13},
    "aster": {"mean": [300.0, 10.0], "std": [100.0, 5.0]},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "model", MultiMAE(ModelConfig(size="nano")), STATS)
    return tmp_path / "model"


def arrays(hw: tuple[int, int] = (16, 24)) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    return {
        "sentinel2": rng.integers(1, 60_000, (2, 13, *hw), np.uint16),
        "aster": rng.integers(-50, 3000, (2, 2, *hw), np.int16),
        "esa_worldcover": rng.choice(np.array([10, 20, 100], np.uint8), (2, 1, *hw)),
    }


def test_stored_arrays_to_features(folder: Path) -> None:
    stored = arrays()
    stored["sentinel2"][0, :, :8, :8] = 0
    stored["sentinel2"].flags.writeable = False
    saved = read_model_config(folder)
    inputs = raw_inputs(saved, stored, ["l1c", "l2a"])
    for tile, level in enumerate(("sentinel2_l1c", "sentinel2_l2a")):
        for channel, band in enumerate((3, 2, 1)):
            mean, std = STATS[level]["mean"][band], STATS[level]["std"][band]
            raw = stored["sentinel2"][tile, band].astype(np.float64)
            expected = np.where(raw == 0, 0.0, (raw - mean) / std)
            np.testing.assert_allclose(inputs.values["rgb"][tile, channel].numpy(), expected, rtol=1e-5)
    assert inputs.values["semseg"].shape == (2, 4, 6)
    assert set(inputs.values["semseg"].flatten().tolist()) <= {0, 1, 10}
    assert not inputs.token_valid["rgb"][0, 0]
    assert inputs.token_valid["rgb"].sum() == 11
    model = mmae.load_model(folder)
    with torch.no_grad():
        found = features(model, inputs.values, inputs.token_valid)
    assert {tuple(part.shape) for part in found.maps.values()} == {(2, 2, 3, 64)}
    assert not found.maps["rgb"][0, 0, 0].any()
    assert found.maps["depth"][0, 0, 0].any()


def test_what_a_mask_hides_is_no_data(folder: Path) -> None:
    stored: dict[str, NDArray[Any]] = {}
    for name, array in arrays().items():
        hidden = np.zeros(array.shape, bool)
        hidden[0, :, :8, :8] = True
        stored[name] = np.ma.masked_array(array, hidden)
    inputs = raw_inputs(read_model_config(folder), stored, ["l1c", "l2a"])
    assert {name: valid.sum().item() for name, valid in inputs.token_valid.items()} == dict.fromkeys(inputs.values, 11)


def test_flipped_arrays(folder: Path) -> None:
    stored, saved = arrays(), read_model_config(folder)
    flipped = raw_inputs(saved, {name: array[..., ::-1] for name, array in stored.items()}, ["l1c", "l2a"])
    straight = raw_inputs(saved, stored, ["l1c", "l2a"])
    assert torch.equal(flipped.values["rgb"].flip(-1), straight.values["rgb"])


def test_only_what_the_datasets_give(folder: Path) -> None:
    stored = arrays((8, 8))
    inputs = raw_inputs(read_model_config(folder), {"sentinel2": stored["sentinel2"][:1]}, ["l2a"])
    assert set(inputs.values) == {"rgb", "ired", "sired", "ebands"}
    # Statistics of a dataset that is not given are not needed.
    bare = {name: entry for name, entry in STATS.items() if name != "aster"}
    save_model(folder.parent / "bare", MultiMAE(ModelConfig(size="nano")), bare)
    again = raw_inputs(read_model_config(folder.parent / "bare"), {"sentinel2": stored["sentinel2"][:1]}, ["l2a"])
    assert torch.equal(again.values["rgb"], inputs.values["rgb"])


@pytest.mark.parametrize(
    ("change", "levels", "message"),
    [
        (lambda a: a.clear(), ["l1c", "l2a"], "no dataset is given; .* aster, esa_worldcover, sentinel2"),
        (lambda a: a.update(sentinel_2=a.pop("sentinel2")), ["l1c", "l2a"], "dataset 'sentinel_2'; did you mean"),
        (lambda a: None, ["l1c"], "holds 2 tiles, but levels are given for 1"),
        (lambda a: None, ["l1c", "l2b"], "unknown Sentinel-2 level 'l2b'"),
        (lambda a: a.update(aster=a["aster"][0]), ["l1c", "l2a"], r"'aster' has shape \(2, 16, 24\)"),
        (lambda a: a.update(aster=a["aster"][..., :8]), ["l1c", "l2a"], "differ in size"),
        (lambda a: a.update({k: v[..., :20] for k, v in a.items()}), ["l1c", "l2a"], "16x20 pixels do not divide"),
    ],
)
def test_what_does_not_fit(change: Any, levels: Any, message: str, folder: Path) -> None:
    stored = arrays()
    change(stored)
    with pytest.raises(InputError, match=message):
        raw_inputs(read_model_config(folder), stored, levels)


def test_a_model_without_statistics(tmp_path: Path) -> None:
    save_model(tmp_path / "model", MultiMAE(ModelConfig(size="nano")), {})
    with pytest.raises(InputError, match="band statistics of the model have no entry 'sentinel2_l1c'"):
        raw_inputs(read_model_config(tmp_path / "model"), arrays(), ["l1c", "l2a"])


def likely(level: str, tiles: int = 3) -> NDArray[Any]:
    """Sentinel-2 that agrees with `REAL`."""
    light = np.random.default_rng(0).uniform(0.2, 1.8, (tiles, 1, 16, 16))
    return (np.array(REAL[f"sentinel2_{level}"]["mean"])[:, None, None] * light).astype(np.uint16)


REAL = {
    "sentinel2_l1c": {"mean": [1500.0] * 10 + [30.0, 1500.0, 1500.0], "std": [1300.0] * 10 + [50.0, 1300.0, 1300.0]},
    "sentinel2_l2a": {"mean": [1500.0] * 10 + [0.0, 1500.0, 1500.0], "std": [1300.0] * 10 + [0.0, 1300.0, 1300.0]},
}


def saved_with(folder: Path, stats: dict[str, Any]) -> Any:
    save_model(folder, MultiMAE(ModelConfig(size="nano")), stats)
    return read_model_config(folder)


def test_a_level_that_the_model_never_saw(tmp_path: Path) -> None:
    level = {"sentinel2_l1c": REAL["sentinel2_l1c"]}
    zeros = {"sentinel2_l2a": {"mean": [0.0] * 13, "std": [0.0] * 13}}
    for number, stats in enumerate((level, level | zeros)):
        saved = saved_with(tmp_path / f"{number}", stats)
        assert raw_inputs(saved, {"sentinel2": likely("l1c")}, ["l1c"] * 3).token_valid["rgb"].all()
        with pytest.raises(InputError, match=r"1 of 3 tiles are Sentinel-2 l2a, .* no entry 'sentinel2_l2a'"):
            raw_inputs(saved, {"sentinel2": likely("l1c")}, ["l1c", "l2a", "l1c"])


def test_a_band_that_the_model_never_saw(tmp_path: Path) -> None:
    lacking = {kind: [*values[:3], None, *values[4:]] for kind, values in REAL["sentinel2_l1c"].items()}
    saved, stored = saved_with(tmp_path / "model", {"sentinel2_l1c": lacking}), likely("l1c")
    with pytest.raises(InputError, match=r"3 of 3 tiles hold data of sentinel2 B4"):
        raw_inputs(saved, {"sentinel2": stored}, ["l1c"] * 3)
    stored[:, 3] = 0
    inputs = raw_inputs(saved, {"sentinel2": stored}, ["l1c"] * 3)
    assert inputs.valid["rgb"].flatten(2).all(2).tolist() == [[False, True, True]] * 3


def test_tiles_in_other_units(tmp_path: Path) -> None:
    saved = saved_with(tmp_path / "model", REAL)
    small = {"sentinel2": (likely("l2a") / 10_000).astype(np.float32)}
    with pytest.raises(InputError, match=r"^the tiles: sentinel2_l2a: scale: .*check_units=False"):
        raw_inputs(saved, small, ["l2a"] * 3)
    assert raw_inputs(saved, small, ["l2a"] * 3, check_units=False).values["rgb"].std() < 0.01
    with pytest.raises(InputError, match="they are L1C"):
        raw_inputs(saved, {"sentinel2": likely("l1c")}, ["l2a"] * 3)
    codes = {"esa_worldcover": np.full((1, 1, 16, 16), 3, np.uint8)}
    with pytest.raises(InputError, match=r"esa_worldcover: 100% of the pixels .* belong to no class \(3\)"):
        raw_inputs(saved, codes, ["l2a"])


def test_another_number_of_bands(tmp_path: Path) -> None:
    saved = saved_with(tmp_path / "model", REAL)
    with pytest.raises(InputError, match=r"sentinel2 has 12 bands, but modality .* among MMEarth's 13"):
        raw_inputs(saved, {"sentinel2": likely("l2a")[:, :12]}, ["l2a"] * 3)
    with pytest.raises(InputError, match="esa_worldcover is float64"):
        raw_inputs(saved, {"esa_worldcover": np.full((1, 1, 16, 16), 10.0)}, ["l2a"])
