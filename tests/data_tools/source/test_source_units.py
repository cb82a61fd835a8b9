"""A source whose values are not what its statistics say is refused before anything is packed."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from data_tools.repack.command import add_arguments, repack, run
from mmae.errors import InputError

Make = Callable[..., Any]
MEAN = [1500.0] * 10 + [30.0, 1500.0, 1500.0]


def small(data: Any) -> Any:
    """Reflectance as it is, where the statistics say reflectance x 10000."""
    data.arrays["sentinel2"] = (data.arrays["sentinel2"] / 10_000).astype(np.float32)
    return data


def test_other_units_are_refused_and_nothing_is_written(mmearth: Make, tmp_path: Path) -> None:
    source = small(mmearth()).write(tmp_path / "source")
    with pytest.raises(InputError, match=r"data\.h5: sentinel2_l1c: scale: values are .*use --no-unit-check"):
        repack(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert len(repack(source, tmp_path / "out", check_units=False)) == 12


def test_the_switch_of_the_command(mmearth: Make, tmp_path: Path) -> None:
    parser = ArgumentParser()
    add_arguments(parser)
    words = [f"{small(mmearth()).write(tmp_path / 'source')}", f"{tmp_path / 'out'}", "--workers", "1"]
    with pytest.raises(InputError, match="scale"):
        run(parser.parse_args(words))
    assert run(parser.parse_args([*words, "--no-unit-check"])) == 0


def test_the_switch_changes_no_byte(source: Path, tmp_path: Path) -> None:
    found = [repack(source, tmp_path / f"{on}", check_units=on).fingerprint for on in (True, False)]
    assert found[0] == found[1]


def test_statistics_of_the_tiles_themselves_agree(mmearth: Make, tmp_path: Path) -> None:
    source = small(mmearth()).write(tmp_path / "source")
    assert len(repack(source, tmp_path / "out", stats="compute")) == 12


def test_a_level_that_is_the_other(mmearth: Make, tmp_path: Path) -> None:
    data = mmearth()
    light = np.random.default_rng(0).uniform(0.2, 1.8, (12, 1, 8, 8))
    data.arrays["sentinel2"] = (np.array(MEAN)[:, None, None] * light).astype(np.uint16)
    no_b10 = [*MEAN[:10], 0.0, *MEAN[11:]]
    data.band_stats = {"sentinel2_l1c": {"mean": MEAN, "std": MEAN}, "sentinel2_l2a": {"mean": no_b10, "std": no_b10}}
    with pytest.raises(InputError, match="sentinel2_l2a: level: 6 of 6 tiles hold data in B10"):
        repack(data.write(tmp_path / "source"), tmp_path / "out")
    data.arrays["sentinel2"][1::2, 10] = 0
    assert len(repack(data.write(tmp_path / "right"), tmp_path / "out")) == 12


def test_codes_that_are_no_class(mmearth: Make, tmp_path: Path) -> None:
    data = mmearth()
    data.arrays["esa_worldcover"] //= 10
    with pytest.raises(
        InputError, match=r"esa_worldcover: 100% of the pixels hold codes that belong to no class \(1, 8\)"
    ):
        repack(data.write(tmp_path / "source"), tmp_path / "out")


def test_tiles_that_cannot_be_read_are_left_to_the_packing(
    mmearth: Make, tmp_path: Path, damage: Callable[..., None]
) -> None:
    source = mmearth().write(tmp_path / "source")
    damage(source, "sentinel2", 3)
    assert len(repack(source, tmp_path / "out", on_error="skip").losses) == 1


def test_what_no_modality_is_made_of_is_packed_and_named(
    mmearth: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = mmearth()
    data.arrays["sentinel2"] = data.arrays["sentinel2"][:, :12]
    data.arrays["aster"] = data.arrays["aster"][:, 0, 0, 0]
    index = repack(data.write(tmp_path / "source"), tmp_path / "out", stats="compute")
    assert index.datasets["sentinel2"].shape == (12, 8, 8)
    said = capsys.readouterr().out
    assert "note: a tile of sentinel2 is (12, 8, 8), and modalities need (13, height, width)" in said
    assert "note: a tile of aster is ()" in said


@pytest.mark.long
@pytest.mark.parametrize("name", ["data_1M_v001_64", "data_100k_v001"])
def test_real_sources_are_right(shared: Path, tmp_path: Path, name: str) -> None:
    folder = shared / "mini_mmearth" / name
    assert repack(folder, tmp_path / "out", tiles_per_shard=100).band_stats["sentinel2_l2a"]["std"][10] == 0
    with h5py.File(folder / f"{name}.h5") as file:
        later = file["sentinel2"][:]
        arrays = {key: file[key][:] for key in ("metadata", "esa_worldcover")}
    arrays["sentinel2"] = np.where(later > 0, later + 1000, 0).astype(np.uint16)
    (tmp_path / name).mkdir()
    with h5py.File(tmp_path / name / f"{name}.h5", "w") as file:
        for key, values in arrays.items():
            file[key] = values
    for kind in ("splits", "tile_info", "band_stats"):
        part = f"{name}_{kind}.json"
        (tmp_path / name / part).write_text(json.dumps(json.loads((folder / part).read_text())))
    with pytest.raises(InputError, match=r"offset: .*subtract 1000"):
        repack(tmp_path / name, tmp_path / "later")
