"""`mmae verify SHARDS [--against SRC [--repair]]`: checks of all shards, alone or against their source."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from data_tools.verify.check_set import tell, verify
from mmae.errors import InputError

EXIT_DIFFERENT: Final = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shards", metavar="SHARDS", type=Path, help="folder that `mmae repack` wrote")
    parser.add_argument(
        "--against", metavar="SRC", type=Path, help="compare every value with the HDF5 file that was packed"
    )
    parser.add_argument(
        "--splits",
        metavar="FILE",
        type=Path,
        help="with --against: the splits file that `mmae repack --splits` was given",
    )
    parser.add_argument(
        "--repair", action="store_true", help="write damaged and missing shards anew from the source (needs --against)"
    )
    parser.add_argument("--workers", metavar="N", type=int, help="processes (default: one a core)")


def run(args: argparse.Namespace) -> int:
    """Exit status 0 without differences (after a repair), 1 with any. Unusable input is an InputError."""
    if args.splits is not None and args.against is None:
        raise InputError(f"--splits {args.splits}: needs --against SRC, the HDF5 file that was packed")
    from data_tools.workers.pool import processes

    workers = processes(args.workers)
    if args.repair:
        from data_tools.verify.repair import verify_and_repair

        return EXIT_DIFFERENT if verify_and_repair(args.shards, args.against, workers, args.splits).count else 0
    report = verify(args.shards, args.against, workers, splits=args.splits)
    tell(report, args.against)
    if report.damaged:
        remedy = "--repair" if args.against and not report.other_source else f"--against {report.packed_from} --repair"
        those = (
            "1 shard is not as it was"
            if len(report.damaged) == 1
            else f"{len(report.damaged)} shards are not as they were"
        )
        print(f"{those} packed: {remedy} writes {'it' if len(report.damaged) == 1 else 'them'} anew")
    return EXIT_DIFFERENT if report.count else 0
