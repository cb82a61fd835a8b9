"""A source of labelled tiles as a shard set: the loader, its workers and all draws are those of shards.

The set's index lies in memory and names no shard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.data.sampling.shard_sets import ShardSet
from mmae.data.shards.columns import UNKNOWN_BIOME, UNKNOWN_DATE
from mmae.data.shards.index import Index
from mmae.data.shards.index_json import DatasetInfo, SourceInfo
from mmae.data.shards.reader import read_alone
from mmae.errors import InputError
from mmae.finetune.sources.labelled_data import LABEL, DataFacts, LabelledData, band_numbers, is_categorical
from mmae.modalities import BY_LEVEL, DATASET_BANDS, MODALITIES, S2_LEVELS
from mmae.types import Tile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.data.shards.reader import OnDamage
    from mmae.modalities import S2Level

PICTURE_LEVEL: Final[S2Level] = "l2a"
"""Whose entry the statistics of pictures stand in: they have no level."""
_FITTED: Final = 128
"""Training tiles that the statistics are of."""
_MOST_SPLITS: Final = 255


@dataclass(frozen=True, eq=False)
class SourceSet(ShardSet):
    """See `ShardSet`.

    Attributes:
        data: that the tiles are read from.
    """

    # A field of a dataclass that has fields with defaults before it needs one too.
    data: LabelledData | None = None

    @property
    def source(self) -> LabelledData:
        assert self.data is not None
        return self.data

    @property
    def bands(self) -> Mapping[str, tuple[int, ...]] | None:
        return {dataset: band_numbers(dataset, names) for dataset, names in self.source.facts.bands.items()}

    def reader(self, datasets: Sequence[str]) -> SourceReader:
        return SourceReader(self.source, self.index, datasets)


class SourceReader:
    """Reads the tiles of a source as `ShardReader` reads those of shards."""

    def __init__(self, data: LabelledData, index: Index, datasets: Sequence[str]) -> None:
        self._data, self._index = data, index
        self._datasets = tuple(datasets)

    def read(self, position: int) -> Tile:
        """The tile at a position.

        Raises:
            InputError: see `LabelledData.read`, or the tile does not have the source's size.
        """
        return read_alone(self, self._index, self._datasets, position)

    def read_into(
        self,
        positions: NDArray[np.int64],
        out: Mapping[str, NDArray[Any]],
        slots: Sequence[int],
        on_damage: OnDamage | None = None,
    ) -> None:
        """Read the tile at each of some positions into `out[dataset][slot]`. A tile is never damaged: it is an error.

        Raises:
            InputError: as `read`.
        """
        for position, slot in zip(positions.tolist(), slots, strict=True):
            for name, array in self._arrays(position, out).items():
                out[name][slot] = array

    def _arrays(self, position: int, out: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        arrays = self._data.read(position, self._datasets)
        for name in self._datasets:
            wanted = out[name].shape[1:]
            if arrays[name].shape != wanted:
                facts, shape = self._data.facts, arrays[name].shape
                raise InputError(
                    f"{facts.where}: {name} of {facts.keys[position]!r} has shape {shape}, and others have {wanted}: "
                    "bring all tiles to one size"
                )
        return {name: arrays[name] for name in self._datasets}

    def will_need(self, positions: NDArray[np.int64]) -> None:
        """Nothing is read in advance."""

    def close(self) -> None:
        """Nothing is open."""


def as_set(data: LabelledData) -> SourceSet:
    """The source as a set, with the statistics of its training tiles.

    Raises:
        InputError: no tile is there, there are too many splits, or a training tile cannot be read.
    """
    facts = data.facts
    if not facts.keys:
        raise InputError(f"{facts.where}: no labelled tile is there")
    if len(facts.splits) > _MOST_SPLITS:
        raise InputError(f"{facts.where}: {len(facts.splits)} splits are too many: name at most {_MOST_SPLITS}")
    index = _index(facts, {})
    return SourceSet(_index(facts, _statistics(SourceSet(index, None, data))), None, data)


def _index(facts: DataFacts, band_stats: Mapping[str, Any]) -> Index:
    count = len(facts.keys)
    # A split of its own for tiles that are in none.
    splits = (*facts.splits, "none")
    split_N = np.full(count, len(splits) - 1, np.uint8)
    for number, positions in enumerate(facts.splits.values()):
        split_N[positions] = number
    datasets = {
        name: DatasetInfo(np.dtype(np.int32 if is_categorical(name) else np.float32), (len(bands), *facts.size))
        for name, bands in facts.bands.items()
    }
    datasets[LABEL] = DatasetInfo(facts.label_dtype, facts.label_shape)
    nothing = np.zeros(count, np.int64)
    level = S2_LEVELS.index(facts.level or PICTURE_LEVEL)
    return Index(
        row=np.arange(count, dtype=np.int64),
        split=split_N,
        level=np.full(count, level, np.uint8),
        shard=nothing.astype(np.int32),
        offset=nothing,
        checksum=np.zeros((count, len(datasets) + 1), np.uint32),
        size=np.zeros((count, len(datasets)), np.uint32),
        info_size=nothing.astype(np.uint32),
        lat=_or_nan(facts.lat_N, count),
        lon=_or_nan(facts.lon_N, count),
        date=np.full(count, UNKNOWN_DATE, np.int32) if facts.date_N is None else facts.date_N,
        biome=np.full(count, UNKNOWN_BIOME, np.uint8),
        tile_id=np.array([key.encode() for key in facts.keys], dtype=np.bytes_),
        folder=Path(facts.where),
        fingerprint=facts.fingerprint,
        datasets=datasets,
        constants={},
        band_stats=band_stats,
        shards=(),
        splits=splits,
        options={},
        source=SourceInfo(facts.name, 0, count, facts.fingerprint),
        losses=(),
    )


def _or_nan(degrees_N: NDArray[np.float64] | None, count: int) -> NDArray[np.float64]:
    return np.full(count, np.nan) if degrees_N is None else degrees_N.astype(np.float64)


def _statistics(each: SourceSet) -> dict[str, Any]:
    """Mean and deviation of each band in some training tiles, in the layout of MMEarth's band statistics."""
    facts, bands = each.source.facts, each.bands
    assert bands is not None
    positions = facts.splits.get("train", np.empty(0, np.int64))
    positions = positions[:: max(1, len(positions) // _FITTED)][:_FITTED]
    continuous = [dataset for dataset in bands if not is_categorical(dataset)]
    sums = {dataset: np.zeros((3, len(bands[dataset]))) for dataset in continuous}
    for position in positions.tolist():
        arrays = each.source.read(position, continuous)
        for dataset in continuous:
            sums[dataset] += _sums(arrays[dataset], dataset)
    found = {}
    for dataset, (count_C, sum_C, square_C) in sums.items():
        seen_C = np.maximum(count_C, 1)
        mean_C = sum_C / seen_C
        std_C = np.sqrt(np.maximum(square_C / seen_C - mean_C**2, 0))
        entry = f"{dataset}_{facts.level or PICTURE_LEVEL}" if dataset in BY_LEVEL else dataset
        # A band that is not there has mean and deviation 0, as B10 of L2A in MMEarth's own statistics.
        table = {kind: [0.0] * DATASET_BANDS[dataset] for kind in ("mean", "std")}
        for place, mean, std in zip(bands[dataset], mean_C.tolist(), std_C.tolist(), strict=True):
            table["mean"][place], table["std"][place] = mean, std
        found[entry] = table
    return found


def _sums(values_CHW: NDArray[Any], dataset: str) -> NDArray[np.float64]:
    """Number, sum and sum of squares of each band's values with data, (3, C)."""
    no_data = next(row.no_data for row in MODALITIES.values() if row.dataset == dataset)
    values_Cn = values_CHW.reshape(len(values_CHW), -1).astype(np.float64)
    data_Cn = np.isfinite(values_Cn) & ~np.isin(values_Cn, no_data)
    values_Cn = np.where(data_Cn, values_Cn, 0)
    return np.stack([data_Cn.sum(1), values_Cn.sum(1), (values_Cn**2).sum(1)])
