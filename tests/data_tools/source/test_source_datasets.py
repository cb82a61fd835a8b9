"""What is packed of a file, and why the rest is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from data_tools.repack.command import repack
from data_tools.source.dataset import open_source
from data_tools.source.source_datasets import told
from data_tools.verify.check_set import tell, verify
from mmae.data.shards.index import open_index
from mmae.data.shards.reader import ShardReader
from mmae.errors import InputError

Make = Callable[..., Any]
REASONS = {
    "a b": "its name is more than letters, digits and _, or longer than 80",
    "classes": "its shape is (3,), not a row for each of 12 tiles",
    "complex": "shards cannot hold numbers of type complex64",
    "dangling": "its link leads nowhere",
    "empty": "its shape is None, not a row for each of 12 tiles",
    "folder": "it is a group",
    "names": "shards cannot hold numbers of type |S4",
    "one": "its shape is (), not a row for each of 12 tiles",
    "times": "numpy has no such type",
}


@pytest.fixture
def odd(mmearth: Make, tmp_path: Path) -> Path:
    """A data set with everything beside its tiles that cannot be packed."""
    path: Path = mmearth().write(tmp_path / "odd")
    with h5py.File(path, "a") as file:
        file["a b"] = np.zeros(12, np.uint8)
        file["classes"] = np.zeros(3, np.uint8)
        file["complex"] = np.zeros(12, np.complex64)
        file["dangling"] = h5py.SoftLink("/nowhere")
        file["empty"] = h5py.Empty("f4")
        file.create_group("folder")
        file["names"] = np.array([b"oak"] * 12, "S4")
        file["one"] = 1.5
        h5py.h5d.create(file.id, b"times", h5py.h5t.UNIX_D32LE, h5py.h5s.create_simple((12,)))
    return path


@pytest.fixture
def exact(mmearth: Make, tmp_path: Path) -> Path:
    """A data set with kinds of numbers that MMEarth does not have, constant and not."""
    data, draw = mmearth(), np.random.default_rng(0)
    data.arrays["half"] = draw.normal(size=(12, 3, 8, 8)).astype(">f2")
    data.arrays["half"][3, 0, 0, 0] = np.nan
    data.arrays["flag"] = draw.integers(0, 2, (12, 1, 8, 8)).astype(np.bool_)
    data.arrays["yes"] = np.arange(12) % 2 == 0
    data.arrays["label"] = draw.integers(-(1 << 62), 1 << 62, 12)
    data.arrays["aster"] = data.arrays["aster"].astype(np.float16)
    data.arrays["canopy_height_eth"] = np.ones((12, 2, 8, 8), np.bool_)
    path: Path = data.write(tmp_path / "exact")
    return path


def test_each_is_named_with_its_reason(odd: Path) -> None:
    with open_source(odd) as source:
        assert source.left_out == REASONS
        assert list(source.datasets) == ["sentinel2", "aster", "esa_worldcover", "sentinel1", "era5", "month"]


def test_repack_and_verify_tell_of_them(odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repack(odd, tmp_path / "out")
    packed = capsys.readouterr().out.splitlines()
    assert "not packed: 'folder': it is a group" in packed
    report = verify(tmp_path / "out", odd)
    assert (report.count, report.not_packed) == (0, REASONS)
    tell(report, odd)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("not packed")] == [
        line for line in packed if line.startswith("not packed")
    ]
    assert lines[-1].endswith(": 0 differences, 9 datasets not packed")


def test_what_was_not_asked_for_is_named_in_one_line(source: Path, tmp_path: Path) -> None:
    with open_source(source, ["sentinel2", "month"]) as opened:
        assert list(told(opened.left_out)) == [
            "not packed: 'aster', 'era5', 'esa_worldcover', 'sentinel1': not among --datasets"
        ]
    repack(source, tmp_path / "out", datasets=["sentinel2", "month"])
    report = verify(tmp_path / "out", source)
    assert (report.count, sorted(report.not_packed)) == (0, ["aster", "era5", "esa_worldcover", "sentinel1"])
    assert not list(told({}))


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.process)])
def test_numbers_that_can_be_stored_exactly_are(exact: Path, tmp_path: Path, workers: int) -> None:
    repack(exact, tmp_path / "out", workers=workers, tiles_per_shard=3)
    index = open_index(tmp_path / "out")
    reader = ShardReader(index, list(index.datasets))
    with h5py.File(exact) as file:
        for name in ("half", "flag", "yes", "label", "aster", "canopy_height_eth"):
            for position, row in enumerate(index.row.tolist()):
                original = np.asarray(file[name][row])
                original = original.astype(original.dtype.newbyteorder("<"))
                stored = reader.read(position).arrays[name]
                assert stored.dtype == original.dtype
                assert stored.tobytes() == original.tobytes(), (name, row)
    report = verify(tmp_path / "out", exact)
    assert (report.count, report.not_packed) == (0, {})
    assert {"yes", "label"} <= index.constants.keys()


def test_asking_for_what_cannot_be_stored(odd: Path) -> None:
    for name, why in REASONS.items():
        with pytest.raises(InputError) as caught:
            open_source(odd, [name])
        assert str(caught.value) == f"{odd}: dataset {name!r} cannot be stored ({why}): leave it out"
    with pytest.raises(InputError, match="no dataset 'astre'; did you mean 'aster'"):
        open_source(odd, ["astre"])
    with pytest.raises(InputError, match="no dataset to pack"):
        open_source(odd, [])


def test_those_of_models_stand_first(source: Path) -> None:
    with open_source(source, ["month", "aster"]) as opened:
        assert list(opened.datasets) == ["aster", "month"]


def test_names_are_printed_without_their_escapes() -> None:
    assert list(told({"\x1b[2J": "it is a group"})) == ["not packed: '\\x1b[2J': it is a group"]
