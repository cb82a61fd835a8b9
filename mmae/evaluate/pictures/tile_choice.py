"""Which tiles are drawn: the first ones, named ones, random ones, or those that a model reconstructs worst."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmae.data.sampling.key_list import read_keys
from mmae.data.sampling.mixture import Places, all_places
from mmae.data.sampling.selection import named
from mmae.data.sampling.shard_sets import split_positions
from mmae.errors import InputError
from mmae.modalities import S2_LEVELS
from mmae.terminal.printable import printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.data.sampling.shard_sets import ShardSet

MOST_COMPARED = 2048
"""Tiles of the split among which the worst are looked for."""
_UNKNOWN = "place unknown"


def first_tiles(sets: Sequence[ShardSet], split: str, count: int) -> Places:
    """The first tiles of a split."""
    return all_places(split_positions(sets, split))[:count]


def random_tiles(sets: Sequence[ShardSet], split: str, count: int, seed: int) -> Places:
    """Tiles of a split at random, in stored order; another seed takes others."""
    places = all_places(split_positions(sets, split))
    drawn = np.random.default_rng(seed).permutation(len(places))[:count]
    return places[np.sort(drawn)]


def worst_tiles(
    sets: Sequence[ShardSet], split: str, count: int, losses_of: Callable[[Places], NDArray[np.float64]]
) -> Places:
    """The tiles of a split with the largest losses, the worst first, among at most `MOST_COMPARED` spread evenly.

    Args:
        losses_of: the loss of each tile, float64 (B,); one that is not finite is the worst.
    """
    places = all_places(split_positions(sets, split))
    if len(places) > MOST_COMPARED:
        places = places[np.linspace(0, len(places) - 1, MOST_COMPARED).astype(np.int64)]
    losses = np.nan_to_num(losses_of(places), nan=np.inf)
    return places[np.argsort(-losses, kind="stable")[:count]]


def named_tiles(sets: Sequence[ShardSet], said: str) -> Places:
    """The tiles of any split with the ids of `--keys`: a comma-separated list, or a file with one a line.

    Raises:
        InputError: no set has a tile with one of these ids.
    """
    if Path(said).is_file():
        listed = [key.decode() for key in read_keys(Path(said)).listed]
    else:
        listed = [word.strip() for word in said.split(",") if word.strip()]
    keys = np.unique(np.array([key.encode() for key in listed], dtype=np.bytes_))
    found_K = np.zeros(len(keys), dtype=np.bool_)
    positions = []
    for each in sets:
        named_N, known_K = named(each.index.tile_id, keys)
        positions.append(np.flatnonzero(named_N).astype(np.int64))
        found_K |= known_K
    if not found_K.all() or not listed:
        missing = keys[~found_K][0].decode() if listed else ""
        raise InputError(
            f"--keys {said}: no tile has the id {missing!r}: give ids of these shards, or a file of them, one a line"
        )
    return all_places(positions)


def describe(sets: Sequence[ShardSet], places: Places, tile: int) -> str:
    """Id, place and date of one of the tiles in words, for a title."""
    index, position = sets[int(places.set_B[tile])].index, int(places.tile_B[tile])
    tile_id = bytes(index.tile_id[position]).decode(errors="replace")
    where = place_in_words(float(index.lat[position]), float(index.lon[position]))
    date = date_in_words(int(index.date[position]))
    return " · ".join([printable(tile_id), where, date])


def level_in_words(sets: Sequence[ShardSet], places: Places, tile: int) -> str:
    """`Sentinel-2 L2A`: the level of one of the tiles."""
    level = sets[int(places.set_B[tile])].index.level[int(places.tile_B[tile])]
    return f"Sentinel-2 {S2_LEVELS[int(level)].upper()}"


def place_in_words(lat: float, lon: float) -> str:
    """`46.80° N, 9.80° E`; says so where it is not known."""
    if not (np.isfinite(lat) and np.isfinite(lon)):
        return _UNKNOWN
    return f"{abs(lat):.2f}° {'N' if lat >= 0 else 'S'}, {abs(lon):.2f}° {'E' if lon >= 0 else 'W'}"


def date_in_words(yyyymmdd: int) -> str:
    """`2020-07-14`; says so where it is not known (0)."""
    text = str(yyyymmdd)
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == len("yyyymmdd") else "date unknown"
