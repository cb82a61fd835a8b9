"""Tiny data sets in MMEarth's layout."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from tests.support.mmearth import MMEarth


@pytest.fixture
def mmearth() -> Callable[..., MMEarth]:
    return MMEarth


@pytest.fixture(scope="session")
def sound_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small, sound data set, which no test changes."""
    return MMEarth().write(tmp_path_factory.mktemp("sound") / "source")


@pytest.fixture
def source(sound_source: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(sound_source.parent, tmp_path / "source")) / sound_source.name


@pytest.fixture
def damage() -> Callable[..., None]:
    """Call it with an HDF5 file, a dataset and a row: the bytes of that chunk are overwritten."""

    def overwrite(path: Path, dataset: str, row: int, stored: bytes | None = None) -> None:
        with h5py.File(path) as file:
            chunk = file[dataset].id.get_chunk_info(row)
        with path.open("r+b") as raw:
            raw.seek(chunk.byte_offset)
            raw.write((stored or os.urandom(chunk.size))[: chunk.size])

    return overwrite
