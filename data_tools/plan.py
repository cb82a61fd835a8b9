"""Which rows go into which shard, and whether a folder may take them."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from data_tools.places import Facts, draw_by_place, place_groups
from data_tools.source_json import TRAIN, VAL
from mmae.data.atomic import TEMPORARY, atomic_file, sync
from mmae.data.index import JSON_NAME, open_index
from mmae.data.layout import shard_name
from mmae.draws import tile_keys
from mmae.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from data_tools.hdf5 import Source

PLAN_NAME: Final = ".repack.json"
LOCK_NAME: Final = ".repack.lock"
_ORDER_DRAW: Final = 0


@dataclass(frozen=True, eq=False)
class PlannedShard:
    """A shard to be: its file name, its split, its source rows in stored order (int64)."""

    name: str
    split: str
    rows: NDArray[np.int64]


def plan_splits(source: Source, facts: Facts, val_fraction: float, seed: int) -> dict[str, NDArray[np.int64]]:
    """The source's splits; with a fraction, `val` is made of whole places out of `train`.

    Raises:
        InputError: a fraction although the source has a `val`, places unknown, or all of train is one place.
    """
    splits = dict(source.splits)
    if val_fraction == 0:
        return splits
    if len(splits.get(VAL, ())):
        raise InputError(f"{source.path}: has {len(splits[VAL])} tiles in val already: leave --val-fraction out")
    train = splits[TRAIN]
    placed = train[np.isfinite(facts.lat[train]) & np.isfinite(facts.lon[train])]
    if len(placed) == 0:
        raise InputError(f"{source.path}: no tile of train has lat and lon: --val-fraction cannot tell places apart")
    # A tile of unknown place is never drawn: val must not show what train has seen.
    groups = place_groups(facts.lat[placed], facts.lon[placed])
    splits[VAL] = draw_by_place(placed, groups, val_fraction, seed)
    splits[TRAIN] = train[~np.isin(train, splits[VAL])]
    if len(splits[TRAIN]) == 0:
        raise InputError(f"{source.path}: all tiles of train lie in one place: leave --val-fraction out")
    return splits


def plan_shards(splits: Mapping[str, NDArray[np.int64]], tiles_per_shard: int, seed: int) -> list[PlannedShard]:
    """Rows of each split in the order of a seeded hash, cut into shards of nearly equal length.

    Each shard, and each run of shards from the first, is therefore a fair sample of its split.
    """
    planned = []
    for split, rows in splits.items():
        ordered = rows[np.argsort(tile_keys(seed, _ORDER_DRAW, rows), kind="stable")]
        count = -(-len(rows) // tiles_per_shard)
        parts = np.array_split(ordered, count) if count else []
        planned += [PlannedShard(shard_name(split, number), split, part) for number, part in enumerate(parts)]
    return planned


def is_finished(out: Path, source: Source, options: Mapping[str, Any]) -> bool:
    """Whether `out` holds the finished set already; False where it may be written to or continued.

    Raises:
        InputError: it holds anything else. Nothing is touched.
    """
    if not out.exists():
        return False
    if not out.is_dir():
        raise InputError(f"{out}: is a file: give a folder to write to")
    if (out / JSON_NAME).exists():
        index = open_index(out)
        _same(out, index.source.fingerprint, index.options, source, options)
        for shard in index.shards:
            path = out / shard.name
            if not path.is_file() or path.stat().st_size != shard.bytes:
                raise InputError(f"{path}: missing or cut, though the set was finished: delete {out} and repack")
        return True
    if (out / PLAN_NAME).exists():
        begun = _read_plan(out)
        _same(out, begun.get("source"), begun.get("options"), source, options)
    elif any(not _is_ours(path) for path in out.iterdir()):
        raise InputError(f"{out}: not empty, and not shards of mmae: give another folder, or empty it")
    return False


def _is_ours(path: Path) -> bool:
    return path.name == LOCK_NAME or (path.name.startswith(".") and path.name.endswith(TEMPORARY))


def _read_plan(out: Path) -> dict[str, Any]:
    try:
        begun = json.loads((out / PLAN_NAME).read_bytes())
    except (OSError, ValueError):
        begun = None
    if not isinstance(begun, dict):
        raise InputError(f"{out / PLAN_NAME}: not a plan of mmae repack: delete {out} and repack")
    return begun


def _same(out: Path, fingerprint: object, had: object, source: Source, options: Mapping[str, Any]) -> None:
    if fingerprint != source.info.fingerprint:
        raise InputError(f"{out}: holds shards of another data set: give another folder, or delete this one")
    had = had if isinstance(had, dict) else {}
    for name in sorted({*had, *options}):
        if had.get(name) != options.get(name):
            raise InputError(
                f"{out}: was packed with {name}={had.get(name)!r}, not {options.get(name)!r}: "
                "give another folder, or delete this one"
            )


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the folder against a second repack, as requeued jobs start them.

    Raises:
        InputError: another process holds it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / LOCK_NAME).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{out}: another mmae repack is writing there: wait for it") from None
        except OSError:  # a file system without locks
            pass
        yield
        # Kept after an error: whoever opened it meanwhile must find the same file as whoever comes next.
        with suppress(FileNotFoundError):
            (out / LOCK_NAME).unlink()


def begin(out: Path, source: Source, options: Mapping[str, Any]) -> None:
    """Remove what an earlier attempt left half-written, and say whose folder this is."""
    for path in out.glob(f".*{TEMPORARY}"):
        path.unlink()
    plan = {"source": source.info.fingerprint, "options": dict(options)}
    with atomic_file(out / PLAN_NAME) as file:
        file.write(json.dumps(plan, sort_keys=True).encode())


def finish(out: Path) -> None:
    """Remove what only an unfinished set needs."""
    for path in (*out.glob(".*.npz"), *out.glob(f".*{TEMPORARY}"), out / PLAN_NAME):
        path.unlink(missing_ok=True)
    sync(out)
