"""What tests of checking and repairing share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from data_tools.repack.command import repack


@pytest.fixture(scope="session")
def sound_shards(sound_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve tiles in four shards, which no test changes."""
    folder = tmp_path_factory.mktemp("packed") / "out"
    repack(sound_source, folder, tiles_per_shard=3)
    return folder


@pytest.fixture
def packed(sound_shards: Path, tmp_path: Path) -> Path:
    """A copy of them."""
    return Path(shutil.copytree(sound_shards, tmp_path / "out"))
