"""What tests of checking and repairing share."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_tools.repack.command import repack


@pytest.fixture
def packed(source: Path, tmp_path: Path) -> Path:
    """Twelve tiles in four shards."""
    repack(source, tmp_path / "out", tiles_per_shard=3)
    return tmp_path / "out"
