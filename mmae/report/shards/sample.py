"""A sample of a set's tiles in numbers: histograms of bands, shares of no data, counts of classes, small pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.data.shards.reader import DamagedTile, ShardReader
from mmae.data.transforms.stats_entry import band_numbers
from mmae.modalities import DATASET_BANDS, MODALITIES, S2_LEVELS, Modality, stats_entry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.data.shards.index import Index
    from mmae.data.shards.reader import ShardStore
    from mmae.types import Tile

BINS: Final = 40
_SEEN: Final = 4096
"""Pixels of each band and tile that a histogram takes."""


@dataclass(eq=False)
class BandValues:
    """The valid values of one band seen so far.

    Attributes:
        entry: the entry of the band statistics that normalises them.
        band: the band's place in its dataset.
        pixels: number of pixels looked at, and `valid` of them with data.
    """

    modality: Modality
    entry: str
    band: int
    name: str
    values: list[NDArray[np.float32]] = field(default_factory=list)
    pixels: int = 0
    valid: int = 0

    @property
    def title(self) -> str:
        """The band in words."""
        title = self.modality.title
        return title if len(self.modality.bands) == 1 else f"{title}: {self.name}"

    @property
    def all_values(self) -> NDArray[np.float32]:
        return np.concatenate([np.empty(0, np.float32), *self.values])


@dataclass(frozen=True, eq=False)
class Sample:
    """What the tiles of a sample hold.

    Attributes:
        positions: int64 (N,), of the tiles in the index; damaged ones are not among them.
        bands: (entry, dataset's band) -> its values.
        classes: modality -> number of pixels of each class, the last one without data, by split.
        tiles: the first tiles, for pictures, with their positions.
        damaged: one line for each tile that cannot be read.
    """

    positions: NDArray[np.int64]
    bands: Mapping[tuple[str, int], BandValues]
    classes: Mapping[str, Mapping[str, NDArray[np.int64]]]
    tiles: Sequence[tuple[int, Tile]]
    damaged: Sequence[str]


def read_sample(index: Index, store: ShardStore | None, count: int, pictures: int, seed: int) -> Sample:
    """Some tiles of every split at random, as many of each as its share, at least one.

    Raises:
        InputError: a shard is missing.
    """
    modalities = [row for row in MODALITIES.values() if _is_readable(index, row)]
    reader = ShardReader(index, tuple(dict.fromkeys(row.dataset for row in modalities)), store=store)
    positions = drawn(index, count, seed)
    bands: dict[tuple[str, int], BandValues] = {}
    classes: dict[str, dict[str, NDArray[np.int64]]] = {row.name: {} for row in modalities if row.categorical}
    tiles, damaged, read = list[tuple[int, Any]](), list[str](), list[int]()
    for position in positions.tolist():
        try:
            tile = reader.read(position)
        except DamagedTile as error:
            damaged.append(str(error))
            continue
        read.append(position)
        split = index.splits[int(index.split[position])]
        for row in modalities:
            if row.categorical:
                counts_c = _class_counts(row, tile)
                classes[row.name][split] = classes[row.name].get(split, np.zeros_like(counts_c)) + counts_c
            else:
                _take_bands(row, tile, bands)
        if len(tiles) < pictures:
            tiles.append((position, tile))
    reader.close()
    return Sample(np.array(read, np.int64), bands, classes, tiles, damaged)


def drawn(index: Index, count: int, seed: int) -> NDArray[np.int64]:
    """Positions of about `count` tiles at random, from every split that has some, int64, in random order."""
    draw = np.random.default_rng(seed)
    parts = []
    for split in index.splits:
        positions = index.of_split(split)
        share = min(len(positions), max(1, round(count * len(positions) / max(1, len(index)))))
        parts.append(draw.permutation(positions)[:share])
    return draw.permutation(np.concatenate(parts)) if parts else np.empty(0, np.int64)


def statistics(index: Index, values: BandValues) -> tuple[float, float] | None:
    """Mean and deviation of a band in the set's statistics; None where there are none."""
    numbers = band_numbers(index.band_stats, values.entry)
    if numbers is None or values.band >= len(numbers.mean_C):
        return None
    mean, deviation = float(numbers.mean_C[values.band]), float(numbers.std_C[values.band])
    return None if np.isnan(mean) else (mean, deviation)


def _is_readable(index: Index, row: Modality) -> bool:
    shape = index.datasets[row.dataset].shape if row.dataset in index.datasets else ()
    return len(shape) == 3 and shape[0] == DATASET_BANDS[row.dataset]


def _class_counts(row: Modality, tile: Tile) -> NDArray[np.int64]:
    codes = tile.arrays[row.dataset][row.bands[0]]
    counts = [int((codes == code).sum()) for code in row.class_codes]
    return np.array([*counts, codes.size - sum(counts)], np.int64)


def _take_bands(row: Modality, tile: Tile, bands: dict[tuple[str, int], BandValues]) -> None:
    entry = stats_entry(row, S2_LEVELS[tile.level])
    for band, name in zip(row.bands, row.band_names, strict=True):
        stored = tile.arrays[row.dataset][band].astype(np.float32).ravel()
        valid = np.isfinite(stored) & ~np.isin(stored, row.no_data)
        found = bands.setdefault((entry, band), BandValues(row, entry, band, name))
        found.pixels += stored.size
        found.valid += int(valid.sum())
        found.values.append(stored[valid][:: max(1, stored.size // _SEEN)])
