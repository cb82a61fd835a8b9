"""HDF5 files that point at others: a data set must not choose which files of its reader are packed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from data_tools.source.dataset import open_source
from mmae.errors import InputError

SHAPE = (12, 1, 8, 8)
Change = Callable[[h5py.File, Path], None]


def external_storage(file: h5py.File, other: Path) -> None:
    other.write_bytes(bytes(768))
    file.create_dataset("secret", SHAPE, np.uint8, external=[(str(other), 0, 768)])


def external_link(file: h5py.File, other: Path) -> None:
    with h5py.File(other, "w") as there:
        there["x"] = np.zeros(SHAPE, np.uint8)
    file["secret"] = h5py.ExternalLink(str(other), "x")


def link_through_another(file: h5py.File, other: Path) -> None:
    external_link(file, other)
    file.move("secret", "zz")
    file["secret"] = h5py.SoftLink("/zz")


def virtual(file: h5py.File, other: Path) -> None:
    with h5py.File(other, "w") as there:
        there["x"] = np.zeros(SHAPE, np.uint8)
    layout = h5py.VirtualLayout(SHAPE, np.uint8)
    layout[:] = h5py.VirtualSource(str(other), "x", SHAPE)
    file.create_virtual_dataset("secret", layout)


@pytest.mark.parametrize("change", [external_storage, external_link, link_through_another, virtual])
def test_what_lies_in_another_file_is_refused(source: Path, tmp_path: Path, change: Change) -> None:
    with h5py.File(source, "a") as file:
        change(file, tmp_path / "other")
    with pytest.raises(InputError, match=rf"{source}: 'secret' lies in other files"):
        open_source(source)


def test_a_link_to_nowhere_is_named_and_left_out(source: Path) -> None:
    with h5py.File(source, "a") as file:
        file["lost"] = h5py.SoftLink("/nowhere")
    with open_source(source) as opened:
        assert "lost" in opened.left_out


def test_a_link_within_the_file_is_read(source: Path) -> None:
    with h5py.File(source, "a") as file:
        file["again"] = h5py.SoftLink("/aster")
    with open_source(source) as opened:
        assert "again" in opened.datasets


def test_a_whole_file_is_read(source: Any) -> None:
    with open_source(source) as opened:
        assert opened.info.rows == 12
