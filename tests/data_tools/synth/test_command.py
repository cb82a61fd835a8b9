"""The synthetic data set: MMEarth's layout, every gap, the same each time, and something to learn in it."""

from __future__ import annotations

import argparse
import gc
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from data_tools.synth import command
from data_tools.synth.command import synthesise
from data_tools.synth.gaps import GAPS, gap_rows
from data_tools.synth.synthetic_stats import BandStats
from mmae.errors import InputError
from mmae.modalities import MODALITIES
from tests.support.full_disk import REASON, files_up_to

TILES = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "mini"
    synthesise(out, TILES, size=32)
    return out


def read(folder: Path) -> dict[str, Any]:
    with h5py.File(folder / f"{folder.name}.h5") as file:
        return {name: dataset[...] for name, dataset in file.items()}


def read_json(folder: Path, part: str) -> Any:
    return json.loads((folder / f"{folder.name}_{part}.json").read_text())


@pytest.fixture(scope="module")
def arrays(folder: Path) -> dict[str, Any]:
    return read(folder)


@pytest.mark.long
def test_the_layout_is_that_of_real_tiles(folder: Path, shared: Path) -> None:
    real = shared / "mini_mmearth" / "data_1M_v001_64"
    assert sorted(path.name for path in folder.iterdir()) == [
        "mini.h5",
        "mini_band_stats.json",
        "mini_splits.json",
        "mini_tile_info.json",
    ]
    with h5py.File(folder / "mini.h5") as ours, h5py.File(real / f"{real.name}.h5") as theirs:
        assert set(ours) == set(theirs)
        for name in theirs:
            assert ours[name].dtype == theirs[name].dtype, name
            pixels = theirs[name].ndim == 4
            assert ours[name].shape[1:] == (*theirs[name].shape[1:2], *((32, 32) if pixels else ())), name
            assert ours[name].chunks == (1, *ours[name].shape[1:])
            assert (ours[name].compression, ours[name].shuffle) == ("gzip", False)
    assert read_json(folder, "splits").keys() == read_json(real, "splits").keys()
    ours_info, their_info = (next(iter(read_json(f, "tile_info").values())) for f in (folder, real))
    assert {key: type(value) for key, value in ours_info.items()} == {k: type(v) for k, v in their_info.items()}
    assert ours_info["BANDS"].keys() == their_info["BANDS"].keys()
    for entry, numbers in read_json(real, "band_stats").items():
        assert {k: len(v) for k, v in read_json(folder, "band_stats")[entry].items()} == {
            k: len(v) for k, v in numbers.items()
        }


def test_rows_ids_levels_and_places_belong_together(folder: Path, arrays: dict[str, Any]) -> None:
    info = read_json(folder, "tile_info")
    ids = [tile_id.decode() for tile_id in arrays["metadata"]["tile_id"]]
    assert list(info) == ids
    for row, tile_id in enumerate(ids):
        level = arrays["metadata"]["S2_type"][row].decode()
        assert level == info[tile_id]["S2_type"] == ("l1c", "l2a")[row % 2]
        for name in ("lat", "lon"):
            angle = np.radians(info[tile_id][name])
            np.testing.assert_allclose(arrays[name][row], [np.sin(angle), np.cos(angle)], atol=1e-6)
        month = np.arctan2(*arrays["month"][row]) * 12 / (2 * np.pi) % 12 or 12
        assert round(month) % 12 == int(info[tile_id]["S2_DATE"][5:7]) % 12


def test_validation_is_a_place_that_training_never_sees(folder: Path) -> None:
    splits = read_json(folder, "splits")
    places = [tile_id.split("_")[0] for tile_id in read_json(folder, "tile_info")]
    assert sorted(splits["train"] + splits["val"]) == list(range(TILES))
    assert splits["test"] == []
    assert {places[row] for row in splits["val"]} == {"savanna"}
    assert {places[row] for row in splits["train"]} == {"highland", "plain", "arctic", "delta"}


def whole(array: Any) -> Any:
    return array.reshape(len(array), -1).all(1)


@pytest.mark.parametrize(
    "has_gap",
    [
        pytest.param(lambda a: (a["sentinel2"][:, 3] == 0).any((1, 2)) & ~whole(a["sentinel2"] == 0), id="some s2"),
        pytest.param(lambda a: whole(a["sentinel2"][:, 3] == 0) & (a["sentinel2"][:, 2] > 0).all((1, 2)), id="s2 band"),
        pytest.param(lambda a: whole(a["sentinel2"] == 0), id="all s2"),
        pytest.param(lambda a: (a["sentinel2"] > 32767).any((1, 2, 3)), id="large s2"),
        pytest.param(lambda a: (a["sentinel2_cloudmask"] == 65535).any((1, 2, 3)), id="cloud mask"),
        pytest.param(lambda a: (a["sentinel2_scl"] == 255).any((1, 2, 3)), id="scene class"),
        pytest.param(lambda a: whole(np.isneginf(a["sentinel1"])), id="all s1"),
        pytest.param(lambda a: whole(np.isneginf(a["sentinel1"][:, :4])), id="ascending s1"),
        pytest.param(lambda a: np.isfinite(a["sentinel1"][:, [0, 4]]).all((1, 2, 3)), id="both orbits"),
        pytest.param(lambda a: np.isfinite(a["sentinel1"][:, 2]).all((1, 2)), id="HH"),
        pytest.param(lambda a: whole(a["canopy_height_eth"] == 127), id="all canopy"),
        pytest.param(
            lambda a: (a["canopy_height_eth"] == 127).any((1, 2, 3)) & ~whole(a["canopy_height_eth"] == 127),
            id="some canopy",
        ),
        pytest.param(lambda a: whole(a["esa_worldcover"] == 0), id="all worldcover"),
        pytest.param(
            lambda a: (a["esa_worldcover"] == 0).any((1, 2, 3)) & (a["esa_worldcover"] == 255).any((1, 2, 3)),
            id="some worldcover",
        ),
        pytest.param(lambda a: (a["dynamic_world"] == 0).any((1, 2, 3)), id="dynamic world 0"),
        pytest.param(lambda a: (a["dynamic_world"] > 9).any((1, 2, 3)), id="dynamic world beyond"),
        pytest.param(lambda a: np.isnan(a["era5"]).any(1) & np.isposinf(a["era5"]).any(1), id="some era5"),
        pytest.param(lambda a: np.isnan(a["era5"]).all(1), id="all era5"),
        pytest.param(lambda a: (a["biome"].sum(1) == 0) & (a["eco_region"].sum(1) == 0), id="biome"),
        pytest.param(lambda a: whole(a["aster"] == 0), id="flat"),
        pytest.param(lambda a: (a["sentinel2"] > 0).sum((1, 2, 3)) == 3, id="nearly nothing"),
    ],
)
def test_every_gap_is_there_and_not_everywhere(
    arrays: dict[str, Any], has_gap: Callable[[dict[str, Any]], Any]
) -> None:
    assert 0 < has_gap(arrays).sum() < TILES * 0.8


def test_b10_is_missing_at_l2a_alone(arrays: dict[str, Any], folder: Path) -> None:
    complete = (arrays["sentinel2"][:, 9] > 0).all((1, 2))
    assert (arrays["sentinel2"][1::2, 10] == 0).all()
    assert (arrays["sentinel2"][0::2, 10][complete[0::2]] > 0).all()
    stats = read_json(folder, "band_stats")
    assert stats["sentinel2_l2a"]["std"][10] == 0
    assert stats["sentinel2_l1c"]["std"][10] > 0


@pytest.mark.parametrize("tiles", [len(GAPS), 40, 64, 128, 1000])
def test_every_gap_has_its_own_row_and_gaps_occur_at_both_levels(tiles: int) -> None:
    rows = gap_rows(tiles)
    assert set(rows.values()) == set(GAPS)
    assert all(0 <= row < tiles for row in rows)
    assert {row % 2 for row in rows} == {0, 1}


def test_statistics_are_those_of_valid_training_pixels(folder: Path, arrays: dict[str, Any]) -> None:
    stats, train = read_json(folder, "band_stats"), read_json(folder, "splits")["train"]
    for entry in ("sentinel2_l1c", "sentinel2_l2a", "sentinel1", "aster", "canopy_height_eth", "era5"):
        name, _, level = entry.partition("_l")
        name = name if level in ("1c", "2a") else entry
        rows = [row for row in train if not name.startswith("sentinel2") or ("1c", "2a")[row % 2] == level]
        no_data = [row.no_data for row in MODALITIES.values() if row.dataset == name]
        bands = np.moveaxis(arrays[name][rows], 1, 0)
        for band, stored in enumerate(bands.reshape(len(bands), -1).astype(np.float64)):
            known = stored[np.isfinite(stored) & ~np.isin(stored, no_data[0] if no_data else ())]
            if len(known):
                ours = [stats[entry][key][band] for key in ("mean", "std", "min", "max")]
                np.testing.assert_allclose(ours, [known.mean(), known.std(), known.min(), known.max()], atol=1e-6)


def test_a_band_that_was_never_measured_has_statistics_of_zero() -> None:
    stats = BandStats()
    shapes = {"sentinel2": 13, "sentinel1": 8, "aster": 2, "canopy_height_eth": 2, "era5": 12}
    empty: dict[str, Any] = {name: np.full((bands, 2, 2), -np.inf) for name, bands in shapes.items()}
    stats.add(empty | {name: np.ones(2) for name in ("lat", "lon", "month")}, level=0)
    assert stats.tables()["sentinel1"] == {key: [0.0] * 8 for key in ("mean", "std", "min", "max")}


@pytest.mark.long
def test_the_seed_alone_decides(folder: Path, arrays: dict[str, Any], tmp_path: Path) -> None:
    synthesise(tmp_path / "again", TILES, size=32)
    synthesise(tmp_path / "other", TILES, size=32, seed=1)
    again, other = read(tmp_path / "again"), read(tmp_path / "other")
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)
    assert not np.array_equal(other["sentinel2"], arrays["sentinel2"])
    for part in ("splits", "tile_info", "band_stats"):
        assert read_json(tmp_path / "again", part) == read_json(folder, part)


def test_one_modality_helps_to_predict_another(arrays: dict[str, Any]) -> None:
    """Land cover explains most of the near infrared, and neighbouring pixels are alike."""
    plain = [row for row in range(1, TILES, 2) if row not in gap_rows(TILES)]
    infrared = arrays["sentinel2"][plain, 8].astype(np.float64)
    codes = arrays["esa_worldcover"][plain, 0]
    explained = np.zeros_like(infrared)
    for code in np.unique(codes):
        explained[codes == code] = infrared[codes == code].mean()
    assert ((infrared - explained) ** 2).mean() < 0.4 * infrared.var()
    for name, band in (("sentinel2", 3), ("aster", 0)):
        pixels = arrays[name][plain, band].astype(np.float64)
        assert (np.diff(pixels, axis=-1) ** 2).mean() < 0.2 * pixels.var()
    assert len(np.unique(arrays["esa_worldcover"])) == 11 + 2


@pytest.mark.parametrize(("tiles", "size"), [(len(GAPS), 8), (17, 9)])
def test_the_smallest_sets(tmp_path: Path, tiles: int, size: int) -> None:
    synthesise(tmp_path / "s", tiles, size)
    assert read(tmp_path / "s")["sentinel2"].shape == (tiles, 13, size, size)
    assert read_json(tmp_path / "s", "splits")["val"]


@pytest.mark.parametrize(
    ("tiles", "size", "word"), [(len(GAPS) - 1, 64, "--tiles 15"), (64, 7, "--size 7"), (64, 2049, "--size 2049")]
)
def test_impossible_sizes_are_refused(tmp_path: Path, tiles: int, size: int, word: str) -> None:
    with pytest.raises(InputError, match=word):
        synthesise(tmp_path / "s", tiles, size)
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for out, what in ((tmp_path, "is not empty"), (tmp_path / "file", "is a file")):
        with pytest.raises(InputError, match=f"{out} {what}: choose a new folder"):
            synthesise(out, 16, 8)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(InputError, match="cannot be written"):
        synthesise(tmp_path / "file" / "below", 16, 8)


def test_an_error_on_the_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BandStats, "tables", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        synthesise(tmp_path / "s", 16, 8)
    assert not list(tmp_path.iterdir())


@pytest.mark.long
@pytest.mark.parametrize("limit", [3_000, 100_000, 1_000_000])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    limit: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with files_up_to(limit), pytest.raises(InputError, match=rf"set: cannot be written \({REASON}\): make room, or"):
        synthesise(tmp_path / "set", 64, 64)
    assert not list(tmp_path.iterdir())
    # The HDF5 library reports what it cannot close when it is collected.
    gc.collect()
    assert capfd.readouterr() == ("", "")


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing(number: int, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mmae", "synth", str(tmp_path / "set"), "--tiles", "100000", "--size", "8"]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
        while not list(tmp_path.rglob("*.h5")):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
    assert process.returncode != 0
    assert process.returncode != -signal.SIGSEGV
    assert not list(tmp_path.iterdir())


def test_a_set_larger_than_the_disk_is_refused_before_it_is_begun(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"GB are free and 11,\d{3},\d{3}\.\d GB are needed: .*fewer --tiles"):
        synthesise(tmp_path / "set", 10**11)
    assert not list(tmp_path.iterdir())


def test_the_size_of_a_tile_is_estimated_before_it_is_written(folder: Path) -> None:
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert command._tile_bytes(32, 0) == pytest.approx(size / len(read_json(folder, "tile_info")), rel=0.2)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    (tmp_path / "s").mkdir()
    assert command.run(parser.parse_args([str(tmp_path / "s"), "--tiles", "16", "--size", "8", "--seed", "-3"])) == 0
    assert "16 tiles of 8x8" in capsys.readouterr().out
    assert (tmp_path / "s" / "s.h5").is_file()


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1, 2**64])
def test_a_seed_of_more_than_64_bits_is_refused(tmp_path: Path, seed: int) -> None:
    with pytest.raises(InputError, match=f"--seed {seed}: must fit into 64 bits"):
        command.synthesise(tmp_path / "s", seed=seed)
    assert not list(tmp_path.iterdir())
