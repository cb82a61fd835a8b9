"""The shard sets of a run: opened, and found to fit together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mmae.data.remote.open_shards import open_shards
from mmae.data.shards.reader import ShardReader
from mmae.errors import InputError
from mmae.modalities import MODALITIES
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmae.config.schema import DataConfig
    from mmae.data.remote.cached_shards import CachedShards
    from mmae.data.shards.index import Index
    from mmae.data.shards.reader import TileReader


@dataclass(frozen=True, eq=False)
class ShardSet:
    """One shard set of a run, or a set of tiles that lie elsewhere and are read as one.

    Attributes:
        store: where its shards lie on this machine; None: in the index's folder.
    """

    index: Index
    store: CachedShards | None = None

    @property
    def bands(self) -> Mapping[str, tuple[int, ...]] | None:
        """Dataset -> the bands that its tiles hold, in their order; None: all of MMEarth's."""
        return None

    def reader(self, datasets: Sequence[str]) -> TileReader:
        """A reader of these datasets, for one thread of one process at a time.

        Raises:
            InputError: the set lacks one.
        """
        return ShardReader(self.index, datasets, store=self.store)


def moved(config: DataConfig, locations: Sequence[str] | None) -> DataConfig:
    """The same configuration with new locations of its sets, in the same order.

    Raises:
        InputError: the numbers of locations and sets differ.
    """
    if locations is None:
        return config
    if len(locations) != len(config.locations):
        raise InputError(
            f"--shards names {counted(len(locations), 'shard set')}, the run was trained on {len(config.locations)}"
        )
    return replace(config, shards=tuple(locations))


def open_sets(config: DataConfig) -> tuple[ShardSet, ...]:
    """The sets that `data.shards` names.

    Raises:
        InputError: none is named, one cannot be opened, or one is named twice.
    """
    if not config.locations:
        raise InputError("data.shards is not set: set data.shards=FOLDER, a folder that mmae repack wrote")
    opened = [open_shards(location, config.cache_dir, config.cache_gb) for location in config.locations]
    _check_different([index for index, _ in opened])
    return tuple(ShardSet(index, store) for index, store in opened)


def _check_different(indexes: Sequence[Index]) -> None:
    """Raise InputError if a set is named twice. Sets are compared by content: a path can be written in many ways."""
    first: dict[str, int] = {}
    for number, index in enumerate(indexes):
        other = first.setdefault(index.fingerprint, number)
        if other != number:
            raise InputError(
                f"data.shards: number {other + 1} ({indexes[other].folder}) and number {number + 1} ({index.folder}) "
                "are the same shard set: name it once (data.weights says how often an epoch takes its tiles)"
            )


def check_cache(sets: Sequence[ShardSet], config: DataConfig) -> None:
    """Refuse a cache that would evict the shards of an address before they are read.

    Raises:
        InputError: the cache holds neither every train shard nor, with `data.window`, two windows.
    """
    fetched = [each.index for each in sets if each.store is not None]
    sizes = [shard.bytes for index in fetched for shard in index.shards if shard.split == "train"]
    limit = config.cache_gb * 1e9
    if sum(sizes) <= limit:
        return
    fits = int(limit / 2 / max(sizes))
    if fits < 1:
        raise InputError(
            f"data.cache_gb={config.cache_gb:g} holds fewer than two shards: give {2 * max(sizes) / 1e9:.3g}"
        )
    if config.window is None:
        raise InputError(
            f"data.cache_gb={config.cache_gb:g} does not hold the {sum(sizes) / 1e9:.3g} GB of train shards, and an "
            f"epoch reads them in random order: set data.window={fits} (shards at a time), or give more"
        )
    if config.window > fits:
        raise InputError(
            f"data.window={config.window}: two windows of so many shards are more than data.cache_gb="
            f"{config.cache_gb:g}: use data.window={fits} or less, or give more"
        )


def needed_datasets(index: Index, domains: Sequence[str]) -> tuple[str, ...]:
    """The datasets that hold `domains` (modality names), each once.

    Raises:
        InputError: the shards lack one of them.
    """
    for name in domains:
        if MODALITIES[name].dataset not in index.datasets:
            raise InputError(
                f"{index.folder}: no dataset {MODALITIES[name].dataset!r}, which modality {name!r} needs: "
                "repack with it, or leave the modality out of model.in_domains and model.out_domains"
            )
    return tuple(dict.fromkeys(MODALITIES[name].dataset for name in domains))


def common_datasets(sets: Sequence[ShardSet], domains: Sequence[str]) -> tuple[str, ...]:
    """The `needed_datasets` of several sets, whose tiles are mixed in batches.

    Raises:
        InputError: a set lacks a dataset, or stores it differently from the first set.
    """
    first = sets[0].index
    names = needed_datasets(first, domains)
    for other in (each.index for each in sets[1:]):
        needed_datasets(other, domains)
        for name in names:
            ours, theirs = first.datasets[name], other.datasets[name]
            if ours != theirs:
                raise InputError(
                    f"{other.folder}: {name} is {theirs.dtype} {theirs.shape} a tile, in {first.folder} it is "
                    f"{ours.dtype} {ours.shape}: sets that are mixed must store it alike, repack one of them"
                )
    return names


def split_positions(sets: Sequence[ShardSet], split: str) -> list[NDArray[np.int64]]:
    """Positions of all tiles of a split in each set's index, int64; empty for a set without this split.

    Raises:
        InputError: no set has a tile of this split.
    """
    found = [each.index.of_split(split) for each in sets]
    return found if any(map(len, found)) else [sets[0].index.positions(split)]


def has_split(index: Index, split: str) -> bool:
    """Whether a split has a tile."""
    return any(shard.split == split and shard.tiles for shard in index.shards)
