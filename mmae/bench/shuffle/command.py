"""`mmae bench shuffle SHARDS`: how well an epoch's order mixes a shard set, compared with a perfect shuffle."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmae.errors import InputError, check_seed
from mmae.terminal.plurals import counted
from mmae.terminal.table import Column, Table, add_json_argument, check_json_path, report

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmae.bench.shuffle.shuffle_quality import Quality
    from mmae.data.shards.index import Index
    from mmae.terminal.table import Value

_WINDOWS: Final = (1, 4, 16, 64)
_BATCH: Final = 1024
_COLUMNS: Final = (
    Column("order", "order"),
    Column("window_mb", "MB a window", "{:.0f}"),
    Column("moved", "moved (share of an epoch)", "{:.4f}"),
    Column("adjacent", "adjacent (share of pairs)", "{:.2e}"),
    Column("adjacent_ratio", "adjacent x perfect", "{:.2f}"),
    Column("within_10", "within 10 rows (share)", "{:.2e}"),
    Column("within_10_ratio", "within 10 x perfect", "{:.2f}"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shards", metavar="SHARDS", type=Path, help="folder that mmae repack wrote")
    parser.add_argument(
        "--window", metavar="W", type=int, action="append", help="a data.window to try; may be given several times"
    )
    parser.add_argument(
        "--batch", metavar="N", type=int, help=f"train.global_batch (default: {_BATCH}, or all tiles if fewer)"
    )
    parser.add_argument("--epochs", metavar="N", type=int, default=4, help="epochs to compare (default: 4)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="train.seed (default: 0)")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Exit status 0. Bad input is an InputError."""
    from mmae.data.shards.index import open_index

    check_json_path(args.json)
    check_seed(args.seed, "--seed")
    index = open_index(args.shards)
    tiles = len(index.positions("train"))
    if tiles < 2:
        raise InputError(f"{args.shards}: the train split has {counted(tiles, 'tile')}, and pairs are compared")
    batch = min(_BATCH, tiles) if args.batch is None else args.batch
    if not 2 <= batch <= tiles:
        raise InputError(
            f"--batch {batch}: must be at least 2 and at most the {counted(tiles, 'tile')} of the train split"
        )
    if args.epochs < 2:
        raise InputError(f"--epochs {args.epochs}: must be at least 2")
    if min(args.window or [1]) < 1:
        raise InputError(f"--window {min(args.window)}: must be at least 1")
    report(measure(index, args.window, batch, args.epochs, args.seed), args.json, {})
    return 0


def measure(index: Index, windows: list[int] | None, batch: int, epochs: int, seed: int) -> Table:
    """The table. Its rows are the stored order, each window, the full shuffle, and a perfect shuffle's expectation."""
    import numpy as np

    from mmae.bench.shuffle.shuffle_quality import perfect, quality

    positions = index.positions("train")
    rows = index.row[positions]
    sizes = [shard.bytes for shard in index.shards if shard.split == "train"]
    expected = perfect(rows)
    if windows is None:
        windows = [window for window in _WINDOWS if window < len(sizes)]
    stored = [np.arange(len(rows))] * epochs
    table = [_row("as stored, not shuffled", quality(stored, rows, batch), expected, None)]
    for window in [*windows, None]:
        found = quality(_orders(index, window, epochs, seed), rows, batch)
        megabytes = min(1, (window or len(sizes)) / len(sizes)) * sum(sizes) / 1e6
        table.append(_row("full shuffle" if window is None else f"data.window={window}", found, expected, megabytes))
    table.append(_row("perfect shuffle, expected", expected, expected, None))
    notes = [
        f"{index.folder}: {len(rows)} train tiles in {counted(len(sizes), 'shard')}; global batches of {batch}, "
        f"{epochs} epochs, seed {seed}",
        "moved: mean distance of a tile's positions in successive epochs, as a share of the epoch",
        "pairs: all pairs of tiles of a global batch; the shares are of pairs that are neighbours in the source file",
    ]
    return Table("mmae bench shuffle", _COLUMNS, table, notes)


def _orders(index: Index, window: int | None, epochs: int, seed: int) -> list[NDArray[np.int64]]:
    from mmae.config.schema import DataConfig
    from mmae.data.sampling.shard_sets import ShardSet
    from mmae.data.sampling.training_tiles import training_tiles

    tiles = training_tiles([ShardSet(index)], DataConfig(window=window), seed)
    whole = tiles.order(tiles.mixture.num_slots)
    return [whole.global_batch_at(epoch)[1] for epoch in range(epochs)]


def _row(order: str, found: Quality, expected: Quality, megabytes: float | None) -> dict[str, Value]:
    row: dict[str, Value] = {"order": order, "window_mb": megabytes, "moved": found.moved}
    for key, share, of in zip(("adjacent", "within_10"), found.neighbours, expected.neighbours, strict=True):
        row |= {key: share, f"{key}_ratio": share / of if of else None}
    return row
