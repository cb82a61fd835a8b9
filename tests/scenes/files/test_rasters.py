from __future__ import annotations

from itertools import pairwise

from mmae.scenes.files.rasters import UNIT_ROWS, Unit, runs_of, units_of


def test_units_tile_the_raster_and_their_sums_are_bounded() -> None:
    for patch_bytes in (4, 768 * 4, 1664 * 4, 1 << 22):
        units = units_of(100, 5000, 7, patch_bytes)
        assert sum((unit.bottom - unit.top) * (unit.right - unit.left) for unit in units) == 100 * 5000
        assert all(unit.bottom - unit.top == UNIT_ROWS or unit.bottom == 100 for unit in units)
        widest = max(unit.right - unit.left for unit in units)
        assert widest == 64 or widest * (UNIT_ROWS + 7) * patch_bytes <= 1 << 28
        assert len({unit.name for unit in units}) == len(units)


def test_runs_hold_units_that_follow_one_another() -> None:
    units = [Unit(top, top + 32, left, left + 9) for left in (0, 9) for top in range(0, 320, 32)]
    whole = runs_of(units, 1)
    assert [len(run) for run in whole] == [10, 10]
    todo = [unit for unit in units if unit.top not in {64, 96}]
    runs = runs_of(todo, 3)
    assert [unit for run in runs for unit in run] == todo
    for run in runs:
        assert len(run) <= 3
        assert all(one.bottom == other.top and one.left == other.left for one, other in pairwise(run))
    assert runs_of([], 4) == []
