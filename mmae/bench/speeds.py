"""Rows of a bench of speeds: each way beside the limit and beside plain h5py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mmae.terminal.table import Column

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mmae.bench.runner import Result
    from mmae.terminal.table import Value

LIMIT: Final = "limit"

COLUMNS: Final = (
    Column("way", "way"),
    Column("codec", "codec"),
    Column("processes", "processes"),
    Column("tiles_per_s", "tiles/s", "{:.0f}"),
    Column("mb_per_s", "pixel MB/s", "{:.0f}"),
    Column("of_limit", "% of limit", "{:.0%}"),
    Column("of_h5py", "x h5py", "{:.2f}"),
    Column("own_mb", "MB/process", "{:.0f}"),
)

KEYS: Final = 3
"""The number of first columns that identify a row."""

Key = tuple[str, str]
"""A way and the codec of its shards, "" where it has none."""


def label(key: Key) -> str:
    return " ".join(key).strip()


def speed_rows(
    results: Mapping[tuple[str, int], Result], keys: Sequence[Key], processes: int, tile_bytes: int, baseline: str
) -> list[dict[str, Value]]:
    """One row a way, for one process and then for `processes`.

    Args:
        results: by (label of the way, processes).
        tile_bytes: of a tile's pixels, not compressed.
        baseline: the way that all are compared with, of the same codec where it has one.
    """
    rows: list[dict[str, Value]] = []
    for count in sorted({1, processes}):
        for way, codec in keys:
            result = results[label((way, codec)), count]
            limit = results.get((label((LIMIT, codec)), count)) if way != LIMIT else None
            base = results.get((label((baseline, codec)), count)) or results[baseline, count]
            rows.append(
                {
                    "way": way,
                    "codec": codec or None,
                    "processes": count,
                    "tiles_per_s": result.tiles_per_s,
                    "mb_per_s": result.tiles_per_s * tile_bytes / 1e6,
                    "of_limit": None if limit is None else result.tiles_per_s / limit.tiles_per_s,
                    "of_h5py": result.tiles_per_s / base.tiles_per_s,
                    "own_mb": None if way == LIMIT else result.own_mb,
                }
            )
    return rows
