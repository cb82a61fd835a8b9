"""`mmae bench loader [SRC]`: from shards on disk to shuffled batches, ready for the device."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from mmae.bench.arguments import add_common_arguments, codecs_of, counts_of
from mmae.bench.speeds import COLUMNS, KEYS, NOTE, Key, label, speed_rows
from mmae.errors import InputError
from mmae.terminal.plurals import counted
from mmae.terminal.table import Table, check_json_path, report

if TYPE_CHECKING:
    import argparse

    from mmae.bench.repeated_source import BenchSource
    from mmae.bench.runner import Way
    from mmae.data.shards.index import Index

DOMAINS: Final = ("rgb", "depth", "semseg")
"""Modalities whose datasets are read: sentinel2, aster, esa_worldcover."""

_BATCH: Final = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)
    parser.add_argument(
        "--batch", metavar="N", type=int, help=f"tiles in a batch (default: {_BATCH}, or --tiles if fewer)"
    )


def run(args: argparse.Namespace) -> int:
    """Exit status 0. Bad input is an InputError."""
    from mmae.bench import machine
    from mmae.bench.packed_shards import packed
    from mmae.bench.repeated_source import prepare
    from mmae.bench.scratch import scratch_folder

    check_json_path(args.json)
    codecs, processes = codecs_of(args), counts_of(args)
    batch = min(_BATCH, args.tiles) if args.batch is None else args.batch
    if not 1 <= batch <= args.tiles:
        raise InputError(f"--batch {batch}: must be at least 1 and at most --tiles {args.tiles}")
    known = machine.facts()
    with scratch_folder(args.scratch) as scratch:
        source = prepare(args.src, scratch, args.tiles)
        indexes = {codec: packed(source, scratch, codec, processes) for codec in codecs}
        table = _measure(source, indexes, batch, processes, args.repeats)
    report(table.noting(machine.lines(known)), args.json, known)
    return 0


def _measure(source: BenchSource, indexes: dict[str, Index], batch: int, processes: int, repeats: int) -> Table:
    from mmae.bench.loader.decode_limit import DecodeLimit, large_buffer_mb_per_s
    from mmae.bench.loader.loader_ways import H5py, Ours, Stock, Work
    from mmae.bench.runner import measure_all
    from mmae.data.sampling.shard_sets import needed_datasets

    first = next(iter(indexes.values()))
    datasets = needed_datasets(first, DOMAINS)
    work = Work(datasets, source.tiles, batch)
    ways: dict[Key, Way] = {("h5py", ""): H5py(work, source.file)}
    for codec, index in indexes.items():
        shards = tuple(str(index.folder / shard.name) for shard in index.shards)
        ways["webdataset", codec] = Stock(work, shards)
        ways["mmae", codec] = Ours(work, index.folder, DOMAINS)
        ways["limit", codec] = DecodeLimit(work, index.folder)
    results = measure_all({label(key): way for key, way in ways.items()}, processes, repeats)
    infos = [first.datasets[name] for name in datasets]
    tile_bytes = sum(math.prod(info.shape) * info.dtype.itemsize for info in infos)
    rows = speed_rows(results, list(ways), processes, "h5py")
    notes = [
        f"{source.about}; {', '.join(datasets)}: {tile_bytes / 1e3:.0f} KB a tile; batches of {batch}; "
        f"median of {counted(repeats, 'round')}, in which the ways take turns; files are in the page cache",
        "limit: the same Blosc2 frames, decoded from memory into one batch's arrays by processes that do nothing else",
        NOTE,
    ]
    for codec, index in indexes.items():
        if codec != "none":
            large = large_buffer_mb_per_s(index.folder, datasets, codec)
            notes.append(f"Blosc2 on the same arrays, {codec}, one process, many tiles in one buffer: {large:.0f} MB/s")
    return Table("mmae bench loader", COLUMNS, rows, notes, KEYS)
