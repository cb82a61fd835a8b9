"""Records of all shards -> the index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_tools.repack.missing_stats import joined
from data_tools.repack.shard_record import ShardRecord
from data_tools.source.source_datasets import told
from mmae.data.shards.columns import Columns
from mmae.data.shards.index import Index, write_index
from mmae.errors import InputError
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from data_tools.repack.own_labels import OwnLabels
    from data_tools.source.dataset import Source
    from data_tools.source.tile_info import Facts


def index_of(
    source: Source,
    out: Path,
    options: Mapping[str, Any],
    computed: Mapping[str, tuple[str, ...]],
    facts: Facts,
    splits: tuple[str, ...],
    records: Sequence[ShardRecord],
    labels: OwnLabels | None = None,
) -> Index:
    """Write the index of a folder that holds all its shards.

    Args:
        computed: dataset -> band_stats entries that come from the records.
        facts: the facts of all rows of the source.
        splits: names, in the order of the source.
        records: in the order of the plan.
        labels: labels of the source's rows.

    Raises:
        InputError: not one tile could be packed.
    """
    columns_of_shards = {
        name: np.concatenate([record.columns[name] for record in records]) for name in records[0].columns
    }
    tiles = [record.info.tiles for record in records]
    rows = columns_of_shards["row"]
    if len(rows) == 0:
        raise InputError(f"{source.path}: no tile can be read: download the file again")
    columns = Columns(
        **columns_of_shards,
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
        band_stats=joined(source.band_stats, computed, records, options["stats"]),
        shards=[record.info for record in records],
        splits=splits,
        options=options,
        source=source.info,
        losses=sorted((loss for record in records for loss in record.lost), key=lambda loss: loss.row),
        labels={} if labels is None else labels.of_rows(rows),
    )


def summary(source: Source, index: Index) -> Iterator[str]:
    """Lines on what was packed, and on what was not."""
    counts = np.bincount(index.split, minlength=len(index.splits)).tolist()
    megabytes = sum(shard.bytes for shard in index.shards) / 1e6
    listed = ", ".join(f"{count} {name}" for name, count in zip(index.splits, counts, strict=True))
    tiles, shards = counted(len(index), "tile"), counted(len(index.shards), "shard")
    yield f"{index.folder}: {tiles} ({listed}) in {shards}, {megabytes:.1f} MB"
    yield from told(source.left_out)
    if index.losses:
        first = index.losses[0]
        yield (
            f"{counted(len(index.losses), 'tile')} could not be read, left out (losses in index.json), the first: "
            f"row {first.row} (tile {first.tile_id}) of {first.dataset} {first.what}"
        )
    elsewhere = source.info.rows - len(index) - len(index.losses)
    if elsewhere:
        yield f"{counted(elsewhere, 'row')} of {source.path.name} in no split, left out"
    if index.options["computed_stats"]:
        train = counted(counts[index.splits.index("train")], "tile")
        computed = [entry for entry in index.options["computed_stats"] if entry in index.band_stats]
        unseen = [entry for entry in index.options["computed_stats"] if entry not in index.band_stats]
        if computed:
            yield f"band statistics computed over {train} of train: {', '.join(computed)}"
        if unseen:
            yield f"no tile of train has data of {', '.join(unseen)}: there are no statistics of them"
    if "val" not in index.splits or counts[index.splits.index("val")] == 0:
        yield "hint: val is empty; repack into another folder with --val-fraction 0.01 to validate on 1 % of train"
