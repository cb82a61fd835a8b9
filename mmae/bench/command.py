"""`mmae bench WHAT`: a measurement a line. What one needs is imported when it is run."""

from __future__ import annotations

import argparse
import importlib
from typing import Final

BENCHES: Final = {
    "shuffle": ("mmae.bench.shuffle", "how well an epoch's order mixes a shard set, beside a perfect shuffle"),
    "loader": ("mmae.bench.loader", "shards to shuffled batches: tiles/s beside h5py, webdataset and the limit"),
    "repack": ("mmae.bench.repack", "HDF5 to shards: tiles/s beside h5py with webdataset's writer, and the limit"),
    "step": ("mmae.bench.step", "a training step: MFU, memory, where its time goes, beside its matrix products alone"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    listing = parser.add_subparsers(dest="bench", required=True, metavar="WHAT")
    for name, (module, help_line) in BENCHES.items():
        command = listing.add_parser(name, help=help_line, description=help_line)
        importlib.import_module(module).add_arguments(command)
        command.set_defaults(bench_module=module)


def run(args: argparse.Namespace) -> int:
    """Exit status of the bench. Bad input is an InputError."""
    status: int = importlib.import_module(args.bench_module).run(args)
    return status
