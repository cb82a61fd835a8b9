"""The table rows of a speed measurement: each way is compared with the limit and with plain h5py."""

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
    Column("of_limit", "of limit", "{:.0%}"),
    Column("cpu_us", "CPU us", "{:.1f}"),
    Column("of_limit_cpu", "by CPU", "{:.0%}"),
    Column("of_h5py", "x h5py", "{:.2f}"),
    Column("own_mb", "own MB", "{:.0f}"),
)

NOTE: Final = (
    "CPU us: processor time a tile, of all processes; of limit: by wall time; by CPU: by processor time, which counts "
    "where others use the machine too; own MB: memory that a process does not share"
)

KEYS: Final = 3
"""So many of the first columns identify a row."""

Key = tuple[str, str]
"""A way and the codec of its shards, which is "" if the way has no shards."""


def label(key: Key) -> str:
    return " ".join(key).strip()


def speed_rows(
    results: Mapping[tuple[str, int], Result], keys: Sequence[Key], processes: int, baseline: str
) -> list[dict[str, Value]]:
    """One row for each way with one process, then one for each way with `processes`.

    Args:
        results: by (label of the way, number of processes).
        baseline: the way that all are compared with, at the same codec if it has codecs.
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
                    "of_limit": None if limit is None else result.tiles_per_s / limit.tiles_per_s,
                    "cpu_us": result.cpu_us,
                    "of_limit_cpu": None if limit is None else limit.cpu_us / result.cpu_us,
                    "of_h5py": result.tiles_per_s / base.tiles_per_s,
                    "own_mb": None if way == LIMIT else result.own_mb,
                }
            )
    return rows
