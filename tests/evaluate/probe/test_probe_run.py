"""What the parts of a probe are checked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from mmae.evaluate.probe.probe_run import overlap_notes


def index_of(kilometres_east: list[float]) -> Any:
    """Tiles of 640 m in a row on the equator."""
    lon = np.array(kilometres_east) / 111.19
    return SimpleNamespace(
        tile_id=np.array([f"tile {number}" for number in range(len(lon))], "S"), lat=np.zeros(len(lon)), lon=lon,
        datasets={"sentinel2": SimpleNamespace(shape=(13, 64, 64))},
    )  # fmt: skip


def test_tiles_of_different_parts_that_share_ground_are_said() -> None:
    index = index_of([0, 0.3, 1.3, 1.5, 5.0, 5.2])
    # Train, train, val, test, test, and a tile in the gap.
    part_N = np.array([0, 0, 1, 2, 2, -1], np.int8)
    (note,) = overlap_notes(index, np.arange(6), part_N, 0.0)
    assert note.startswith("1 tile of train or val show ground of tiles in another part")
    assert "say a larger --gap-km than 0" in note
    part_N[2] = -1
    assert overlap_notes(index, np.arange(6), part_N, 0.0) == []
