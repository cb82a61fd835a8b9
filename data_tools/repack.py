"""`mmae repack SRC OUT`: MMEarth's HDF5 file -> tar shards and their index."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmae.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from tqdm import tqdm

    from data_tools.hdf5 import Source
    from data_tools.pack import PackedTile
    from data_tools.places import Facts
    from data_tools.plan import PlannedShard
    from data_tools.shards import ShardRecord
    from mmae.data.index import Index

TILES_PER_SHARD: Final = 4096
"""About 300 shards of 200 MB for MMEarth64: few enough to keep all open, enough to share the packing."""


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


def run(args: argparse.Namespace) -> int:
    """Exit status 0. Bad input is an InputError."""
    datasets = [name.strip() for name in args.datasets.split(",")] if args.datasets is not None else None
    repack(
        args.src,
        args.out,
        codec=args.codec,
        tiles_per_shard=args.tiles_per_shard,
        seed=args.seed,
        val_fraction=args.val_fraction,
        datasets=datasets,
    )
    return 0


def repack(
    src: Path | str,
    out: Path | str,
    *,
    codec: str = "small",
    tiles_per_shard: int = TILES_PER_SHARD,
    seed: int = 0,
    val_fraction: float = 0.0,
    datasets: Sequence[str] | None = None,
    progress: bool = True,
) -> Index:
    """Pack every split of an MMEarth data set into `<split>-%06d.tar` and write the index.

    The shards' bytes follow from the source and the options. A finished set of the same source and options
    is left as it is; an unfinished one goes on after its last whole shard.

    Args:
        src: NAME.h5, or the folder that holds exactly one.
        out: absent, empty, or begun with the same source and options.
        codec: one of `codec.CODECS`.
        tiles_per_shard: at most so many tiles a shard.
        seed: of the order of tiles within splits, and of which places become `val`.
        val_fraction: share of train's tiles that become `val`, 0 .. 1; only where the source's is empty.
        datasets: names to pack; None packs all.
        progress: draw a bar where the output is a terminal.

    Raises:
        InputError: unusable options, source or folder; nothing half-written is left under a final name.
    """
    from data_tools.hdf5 import open_source
    from data_tools.plan import finish, is_finished
    from mmae.data.index import open_index

    out = Path(out)
    _check_options(codec, tiles_per_shard, seed, val_fraction)
    with open_source(src, datasets) as source:
        options = {
            "codec": codec,
            "tiles_per_shard": tiles_per_shard,
            "seed": seed,
            "val_fraction": val_fraction,
            "datasets": list(source.datasets),
        }
        if is_finished(out, source, options):
            finish(out)
            print(f"{out}: holds these shards already, nothing to do")
            return open_index(out)
        try:
            return _pack(source, out, options, progress)
        except OSError as error:
            raise InputError(
                f"{error.filename or out}: cannot be written ({error.strerror}): make room or get access, "
                "and run again; whole shards are kept"
            ) from error


def _check_options(codec: str, tiles_per_shard: int, seed: int, val_fraction: float) -> None:
    from mmae.data.codec import CODECS

    if codec not in CODECS:
        raise InputError(f"--codec {codec}: no such codec{did_you_mean(codec, CODECS)}")
    if tiles_per_shard < 1:
        raise InputError(f"--tiles-per-shard {tiles_per_shard}: must be at least 1")
    if not 0 <= val_fraction < 1:
        raise InputError(f"--val-fraction {val_fraction}: must be at least 0 and less than 1")
    if not -(1 << 63) <= seed < 1 << 63:
        raise InputError(f"--seed {seed}: must fit into 64 bits")


def _pack(source: Source, out: Path, options: dict[str, Any], progress: bool) -> Index:
    from data_tools.places import tile_facts
    from data_tools.plan import begin, finish, is_finished, locked, plan_shards, plan_splits
    from mmae.data.index import open_index

    facts = tile_facts(source)
    splits = plan_splits(source, facts, options["val_fraction"], options["seed"])
    planned = plan_shards(splits, options["tiles_per_shard"], options["seed"])
    with locked(out):
        # Another process may have finished while this one waited to read.
        if is_finished(out, source, options):
            return open_index(out)
        begin(out, source, options)
        records = _write_all(source, out, planned, options["codec"], progress)
        index = _index(source, out, facts, tuple(splits), records, options)
        finish(out)
    _tell(source, index)
    return index


def _write_all(
    source: Source, out: Path, planned: Sequence[PlannedShard], codec: str, progress: bool
) -> list[ShardRecord]:
    """Every shard's record, in order; shards that are whole already are not written again."""
    from tqdm import tqdm

    from data_tools.shards import load_record

    records = []
    total = sum(len(shard.rows) for shard in planned)
    with tqdm(total=total, unit="tile", desc="repack", disable=None if progress else True) as bar:
        for shard in planned:
            record = load_record(out / shard.name)
            if record is None:
                record = _write_one(source, out / shard.name, shard, codec, bar)
            else:
                bar.update(len(shard.rows))
            records.append(record)
    return records


def _write_one(source: Source, path: Path, shard: PlannedShard, codec: str, bar: tqdm[Any]) -> ShardRecord:
    from data_tools.pack import pack_tile
    from data_tools.shards import write_shard

    def tiles() -> Iterator[PackedTile]:
        for row in shard.rows.tolist():
            yield pack_tile(source, row, shard.split, codec)
            bar.update()

    return write_shard(path, shard.split, tiles(), source.datasets)


def _index(
    source: Source,
    out: Path,
    facts: Facts,
    splits: tuple[str, ...],
    records: Sequence[ShardRecord],
    options: Mapping[str, Any],
) -> Index:
    import numpy as np

    from mmae.data.index import Columns, write_index

    joined = {name: np.concatenate([record.columns[name] for record in records]) for name in records[0].columns}
    tiles = [record.info.tiles for record in records]
    rows = joined["row"]
    columns = Columns(
        **joined,
        split=np.repeat([splits.index(record.info.split) for record in records], tiles).astype(np.uint8),
        shard=np.repeat(np.arange(len(records)), tiles).astype(np.int32),
        level=source.level[rows],
        tile_id=np.array([source.tile_ids[row].encode() for row in rows.tolist()], np.bytes_),
        lat=facts.lat[rows],
        lon=facts.lon[rows],
        date=facts.date[rows],
        biome=facts.biome[rows],
    )
    return write_index(
        out,
        columns=columns,
        constants={name: np.concatenate([record.constants[name] for record in records]) for name in source.datasets},
        datasets=source.datasets,
        band_stats=source.band_stats,
        shards=[record.info for record in records],
        splits=splits,
        options=options,
        source=source.info,
    )


def _tell(source: Source, index: Index) -> None:
    import numpy as np

    counts = np.bincount(index.split, minlength=len(index.splits)).tolist()
    megabytes = sum(shard.bytes for shard in index.shards) / 1e6
    listed = ", ".join(f"{count} {name}" for name, count in zip(index.splits, counts, strict=True))
    print(f"{index.folder}: {len(index)} tiles ({listed}) in {len(index.shards)} shards, {megabytes:.1f} MB")
    if len(index) < source.info.rows:
        print(f"{source.info.rows - len(index)} rows of {source.path.name} are in no split and were left out")
    if "val" not in index.splits or counts[index.splits.index("val")] == 0:
        print("hint: val is empty; repack into another folder with --val-fraction 0.01 to validate on 1 % of train")
