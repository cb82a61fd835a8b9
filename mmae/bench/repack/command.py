"""`mmae bench repack [SRC]`: from MMEarth's HDF5 file to shards on disk."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mmae.bench.arguments import add_common_arguments, codecs_of, counts_of
from mmae.bench.speeds import COLUMNS, KEYS, NOTE, Key, label, speed_rows
from mmae.terminal.plurals import counted
from mmae.terminal.table import Table, check_json_path, report

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from mmae.bench.repeated_source import BenchSource
    from mmae.bench.runner import Way


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Exit status 0. Bad input is an InputError."""
    from mmae.bench import machine
    from mmae.bench.packed_shards import shard_bytes, warm
    from mmae.bench.repeated_source import prepare
    from mmae.bench.scratch import need_disk_space, scratch_folder

    check_json_path(args.json)
    codecs, processes = codecs_of(args), counts_of(args)
    known = machine.facts()
    with scratch_folder(args.scratch) as scratch:
        source = prepare(args.src, scratch, args.tiles)
        need_disk_space(scratch, max(shard_bytes(source, codec) for codec in codecs))
        warm(source.file)
        table = _measure(source, scratch, codecs, processes, args.repeats)
    report(table.noting(machine.lines(known)), args.json, known)
    return 0


def _measure(source: BenchSource, scratch: Path, codecs: Sequence[str], processes: int, repeats: int) -> Table:
    from data_tools.source.dataset import open_source
    from mmae.bench.packed_shards import tiles_per_shard
    from mmae.bench.repack.repack_limit import PackLimit, inflate_name
    from mmae.bench.repack.repack_ways import Job, Ours, Stock
    from mmae.bench.runner import measure_all

    with open_source(source.file) as opened:
        infos = dict(opened.datasets)
    ways: dict[Key, Way] = {}
    per_shard = tiles_per_shard(source.tiles, processes)
    jobs = [Job(source.file, source.tiles, tuple(infos), codec, per_shard, scratch) for codec in codecs]
    for job in jobs:
        ways["h5py + webdataset", job.codec] = Stock(job)
        ways["mmae", job.codec] = Ours(job)
        ways["limit", job.codec] = PackLimit(job)
    results = measure_all({label(key): way for key, way in ways.items()}, processes, repeats)
    tile_bytes = sum(math.prod(info.shape) * info.dtype.itemsize for info in infos.values())
    rows = speed_rows(results, list(ways), processes, "h5py + webdataset")
    notes = [
        f"{source.about}; {counted(len(infos), 'dataset')}, {tile_bytes / 1e3:.0f} KB a tile; "
        f"median of {counted(repeats, 'round')}, in which the ways take turns; the source is in the page cache",
        f"limit: inflated ({inflate_name(jobs[0])}) and compressed (Blosc2) in memory by processes that do nothing "
        "else; arrays that are constant over a tile are only inflated",
        NOTE,
    ]
    return Table("mmae bench repack", COLUMNS, rows, notes, KEYS)
