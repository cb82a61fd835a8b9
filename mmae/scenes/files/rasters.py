"""Rasters that a scene becomes, and their parts of bounded size: what is finished, stored and resumed as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

UNIT_ROWS: Final = 32
"""Rows of patches in a unit. A multiple of 16 makes whole blocks of a TIFF file."""
_MOST_BYTES: Final = 1 << 28
_LEAST_COLUMNS: Final = 64


@dataclass(frozen=True)
class Raster:
    """One raster that a scene becomes.

    Attributes:
        name: in the partial output, and of its file where there are several.
        cells: its pixels along a side of a patch.
        channels: numbers a cell that are summed over windows.
        dtype: of the finished raster.
        no_data: its value where the scene holds no data.
        bands: description of each band of the finished raster.
        colours: value -> red, green, blue; for classes.
        tags: what a reader must know about the numbers.
    """

    name: str
    cells: int
    channels: int
    dtype: str
    no_data: float
    bands: tuple[str, ...]
    colours: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Unit:
    """A part of a raster, in patches: rows `top` up to `bottom`, columns `left` up to `right`."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def name(self) -> str:
        return f"unit-{self.top:07d}-{self.left:07d}"


def units_of(rows: int, columns: int, window: int, patch_bytes: int) -> list[Unit]:
    """A raster's units, panel after panel, from top to bottom.

    Args:
        patch_bytes: bytes that the sums of one patch take, over all rasters. Panels are so narrow that the sums of a
            unit, and of the windows that reach beyond it, stay within a bound.
    """
    width = max(_LEAST_COLUMNS, _MOST_BYTES // (patch_bytes * (UNIT_ROWS + window)))
    return [
        Unit(top, min(top + UNIT_ROWS, rows), left, min(left + width, columns))
        for left in range(0, columns, width)
        for top in range(0, rows, UNIT_ROWS)
    ]


def runs_of(todo: Sequence[Unit], parts: int) -> list[tuple[Unit, ...]]:
    """Units in runs that follow one another from top to bottom, about `parts` of them for each panel.

    Units of a run share the windows between them; those of two runs compute them twice.
    """
    runs: list[tuple[Unit, ...]] = []
    for _, panel in groupby(todo, key=lambda unit: unit.left):
        units = list(panel)
        most = -(-len(units) // parts)
        run: list[Unit] = []
        for unit in units:
            if run and (run[-1].bottom != unit.top or len(run) == most):
                runs.append(tuple(run))
                run = []
            run.append(unit)
        runs.append(tuple(run))
    return runs
