"""`mmae verify SHARDS [--against SRC]`: is every shard what was packed, and is that what the source holds?"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mmae.data.index import Index

EXIT_DIFFERENT: Final = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shards", metavar="SHARDS", type=Path, help="folder that `mmae repack` wrote")
    parser.add_argument(
        "--against", metavar="SRC", type=Path, help="compare every value with the HDF5 file that was packed"
    )


def run(args: argparse.Namespace) -> int:
    """Exit status 0 where all is well, 1 where anything differs. Unusable input is an InputError."""
    report = verify(args.shards, args.against)
    for difference in report.differences:
        print(difference)
    against = f" against {args.against}" if args.against else ""
    print(f"checked {report.tiles} tiles in {report.shards} shards{against}: {len(report.differences)} differences")
    return EXIT_DIFFERENT if report.differences else 0


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it should be; `shard` is empty where it concerns the whole set."""

    shard: str
    row: int | None
    dataset: str | None
    what: str

    def __str__(self) -> str:
        where = [self.shard or "index"]
        where += [f"row {self.row}"] if self.row is not None else []
        where += [self.dataset] if self.dataset is not None else []
        return f"{', '.join(where)}: {self.what}"


@dataclass
class Report:
    """What was looked at and what was found."""

    tiles: int = 0
    shards: int = 0
    differences: list[Difference] = field(default_factory=list)


def verify(shards: Path | str, against: Path | str | None = None, progress: bool = True) -> Report:
    """Check every shard with the standard library's tarfile, every member's checksum and content.

    Args:
        shards: folder that `mmae repack` wrote.
        against: NAME.h5 or its folder: every value of every dataset, splits and metadata are compared with it.
        progress: draw a bar where the output is a terminal.

    Raises:
        InputError: there is no finished set to check, or the source cannot be used.
    """
    from contextlib import ExitStack

    from tqdm import tqdm

    from data_tools.verify_shard import check_shard
    from mmae.data.index import open_index

    index = open_index(shards)
    report = Report()
    report.differences += _unlisted(index)
    with ExitStack() as stack:
        reference = None
        if against is not None:
            from data_tools.hdf5 import open_source
            from data_tools.verify_source import Reference, compare_sets

            source = stack.enter_context(open_source(against, list(index.datasets)))
            report.differences += compare_sets(index, source)
            reference = Reference(index, source)
        bar = stack.enter_context(
            tqdm(total=len(index), unit="tile", desc="verify", disable=None if progress else True)
        )
        for number in range(len(index.shards)):
            tiles, differences = check_shard(index, number, reference, bar)
            report.tiles += tiles
            report.shards += 1
            report.differences += differences
    return report


def _unlisted(index: Index) -> list[Difference]:
    listed = {shard.name for shard in index.shards}
    found = sorted(path.name for path in index.folder.glob("*.tar"))
    return [Difference(name, None, None, "is not in the index") for name in found if name not in listed]
