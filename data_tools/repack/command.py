"""`mmae repack SRC OUT`: MMEarth's HDF5 file -> tar shards and their index."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

from mmae.errors import InputError, check_seed, did_you_mean
from mmae.terminal.printable import printable

if TYPE_CHECKING:
    from data_tools.repack.part_lock import Part
    from mmae.data.shards.index import Index

TILES_PER_SHARD: Final = 4096
"""About 300 shards of 200 MB for MMEarth64: few enough to keep all open, enough to share the packing."""

EXIT_INTERRUPTED: Final = 130
ON_ERROR: Final = ("raise", "skip")


class _Keywords(TypedDict, total=False):
    codec: str
    tiles_per_shard: int
    seed: int
    val_fraction: float
    datasets: Sequence[str] | None
    splits: Path | str | None
    labels: Path | str | None
    stats: str
    on_error: str
    check_units: bool
    workers: int
    progress: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("src", metavar="SRC", type=Path, help="NAME.h5, or the folder that holds it and its JSON files")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder for the shards; a broken-off repack goes on")
    parser.add_argument(
        "--codec",
        default="small",
        help="small (bitshuffle + Zstd), fast (shuffle + LZ4: larger, cheaper to read) or none (default: small)",
    )
    parser.add_argument(
        "--val-fraction",
        metavar="F",
        type=float,
        default=0.0,
        help="where val is empty: make one of about this share of train, by place",
    )
    parser.add_argument(
        "--seed", metavar="S", type=int, default=0, help="of the order of tiles and of val (default: 0)"
    )
    parser.add_argument(
        "--tiles-per-shard", metavar="N", type=int, default=TILES_PER_SHARD, help=f"default: {TILES_PER_SHARD}"
    )
    parser.add_argument("--datasets", metavar="A,B", help="pack these datasets only, e.g. sentinel2,aster")
    parser.add_argument(
        "--splits",
        metavar="FILE",
        type=Path,
        help="take the splits from this file (default: NAME_splits.json beside SRC)",
    )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        type=Path,
        help="labels of your own for fine-tuning: CSV or Parquet with the column tile_id and a column a label",
    )
    parser.add_argument("--workers", metavar="N", type=int, help="processes, a shard at a time each (default: cores)")
    parser.add_argument(
        "--part",
        metavar="I/N",
        default="1/1",
        help="pack every N-th shard from the I-th: one command a machine, all on one folder; the last writes the index",
    )
    parser.add_argument(
        "--on-error",
        default="raise",
        help="a tile that cannot be read ends the command (raise, the default) or is left out and listed (skip)",
    )
    parser.add_argument(
        "--stats",
        default="auto",
        help="band statistics: from the source, computed where it lacks them (auto, the default); source; or compute",
    )
    parser.add_argument(
        "--no-unit-check",
        action="store_true",
        help="pack also where a sample of tiles does not agree with the band statistics of the source",
    )


def run(args: argparse.Namespace) -> int:
    """Exit status 0, or 130 after an interrupt. Bad input is an InputError."""
    from data_tools.repack.part_lock import parse_part
    from data_tools.workers.pool import processes

    options = Options(
        codec=args.codec,
        tiles_per_shard=args.tiles_per_shard,
        seed=args.seed,
        val_fraction=args.val_fraction,
        datasets=[name.strip() for name in args.datasets.split(",")] if args.datasets is not None else None,
        splits=args.splits,
        labels=args.labels,
        stats=args.stats,
        on_error=args.on_error,
        check_units=not args.no_unit_check,
        workers=processes(args.workers),
    )
    try:
        repack_part(args.src, args.out, parse_part(args.part), options)
    except KeyboardInterrupt:
        print(f"\nmmae: interrupted; whole shards are kept in {args.out}, the same command goes on", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `mmae repack` is asked for.

    Attributes:
        codec: one of `codec.CODECS`.
        tiles_per_shard: at most so many tiles a shard.
        seed: decides the order of tiles within splits, and which places become `val`.
        val_fraction: share of train's tiles that become `val`, 0 .. 1; only where the source's is empty.
        datasets: names to pack; None packs all.
        splits: the splits file where it is not the one beside the HDF5 file.
        labels: a file of labels of one's own, which the index then holds; None: there are none.
        stats: `auto` computes band statistics that the source lacks, over train; `source` none; `compute` all.
        on_error: `raise`, or `skip`: tiles that cannot be read are left out and listed in the index's losses.
        check_units: refuse a source whose values cannot be what its band statistics say.
        workers: processes; with 1, all is done in this one.
        progress: show how far it is.
    """

    codec: str = "small"
    tiles_per_shard: int = TILES_PER_SHARD
    seed: int = 0
    val_fraction: float = 0.0
    datasets: Sequence[str] | None = None
    splits: Path | str | None = None
    labels: Path | str | None = None
    stats: str = "auto"
    on_error: str = "raise"
    check_units: bool = True
    workers: int = 1
    progress: bool = True

    def check(self) -> None:
        """Raise InputError where a value cannot be; `stats` and `datasets` are looked at with the source."""
        from mmae.data.shards.codec import CODECS

        if self.codec not in CODECS:
            raise InputError(f"--codec {self.codec}: no such codec{did_you_mean(self.codec, CODECS)}")
        if self.tiles_per_shard < 1:
            raise InputError(f"--tiles-per-shard {self.tiles_per_shard}: must be at least 1")
        if not 0 <= self.val_fraction < 1:
            raise InputError(f"--val-fraction {self.val_fraction}: must be at least 0 and less than 1")
        check_seed(self.seed, "--seed")
        if self.on_error not in ON_ERROR:
            raise InputError(f"--on-error {self.on_error}: no such choice{did_you_mean(self.on_error, ON_ERROR)}")
        from data_tools.workers.pool import processes

        processes(self.workers)
        # Blosc2 obeys them before its arguments, and the bytes of a shard must follow from source and options.
        for name in sorted(os.environ):
            if name.startswith("BLOSC_"):
                raise InputError(f"{name}={os.environ[name]}: would change what Blosc2 writes: unset it")


def repack(src: Path | str, out: Path | str, **options: Unpack[_Keywords]) -> Index:
    """Pack every split of an MMEarth data set into `<split>-%06d.tar` and write the index.

    The shards' bytes follow from the source and the options, whatever the number of workers or parts. A finished set
    of the same source and options is left as it is; an unfinished one goes on after its whole shards.

    Args:
        src: NAME.h5, or the folder that holds exactly one.
        out: absent, empty, or begun with the same source and options.
        options: the attributes of `Options`.

    Raises:
        InputError: unusable options, source or folder, or a worker was killed; nothing half-written is left under a
            final name.
    """
    from data_tools.repack.part_lock import Part

    index = repack_part(src, out, Part(), Options(**options))
    assert index is not None
    return index


def repack_part(src: Path | str, out: Path | str, part: Part, options: Options) -> Index | None:
    """`repack`, of one part of the shards; whichever part ends last writes the index.

    Returns:
        The index; None where shards of other parts are still to be packed.
    """
    from data_tools.repack.missing_stats import entries_to_compute
    from data_tools.repack.own_labels import read_own_labels
    from data_tools.repack.pipeline import Request, pack
    from data_tools.source.dataset import open_source
    from data_tools.source.source_units import check_source, unfit

    options.check()
    with open_source(src, options.datasets, options.splits) as source:
        labels = None if options.labels is None else read_own_labels(Path(options.labels), source)
        computed = entries_to_compute(source, options.stats)
        if options.check_units:
            check_source(source, computed)
        for line in unfit(source):
            print(line)
        for line in labels.notes if labels is not None else ():
            print(printable(line))
        told: dict[str, Any] = {
            "codec": options.codec,
            "tiles_per_shard": options.tiles_per_shard,
            "seed": options.seed,
            "val_fraction": options.val_fraction,
            "datasets": list(source.datasets),
            "stats": options.stats,
            "computed_stats": [key for keys in computed.values() for key in keys],
        }
        if labels is not None:
            told["labels"] = labels.fingerprint
        skip = options.on_error == "skip"
        request = Request(Path(out), part, told, computed, options.workers, skip, options.progress, labels)
        try:
            return pack(source, request)
        except OSError as error:
            raise InputError(
                f"{error.filename or out}: cannot be written ({error.strerror}): make room or get access, "
                "and run again; whole shards are kept"
            ) from error
