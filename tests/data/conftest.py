"""Two small shard sets, to be mixed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmae.data.shards.index import Index
from tests.support.tiny_sets import ROWS, write_set


@pytest.fixture
def one(tmp_path: Path) -> Index:
    """Validation tiles stand first in the index."""
    return write_set(tmp_path / "one", {"val": [100, 101], "train": ROWS}, shard_tiles=3)


@pytest.fixture
def two(tmp_path: Path) -> Index:
    return write_set(tmp_path / "two", {"train": list(range(40, 60))}, shard_tiles=5)
