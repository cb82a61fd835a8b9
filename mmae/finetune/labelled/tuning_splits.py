"""Which tiles train, which choose, and which are scored: splits of the set, of a file, or blocks of ground.

Tiles of a set may overlap. So a part that is taken out of `train` consists of whole blocks, and the training tiles that
share ground with it are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.data.sampling.earth_grid import EarthGrid
from mmae.data.sampling.order import hashes
from mmae.data.sampling.selection import fraction_of
from mmae.data.sampling.shared_ground import APART, ground_of, shared_ground
from mmae.draws import Stream
from mmae.errors import InputError
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.config.finetune_schema import TuneDataConfig
    from mmae.data.shards.index import Index

MMEARTH_M: Final = 10.0
"""Side of a pixel of MMEarth's images, which the footprints of tiles are reckoned with."""
_BLOCKS: Final = Stream.BLOCKS


@dataclass(frozen=True, eq=False)
class TuningSplits:
    """Positions in the set's index, int64, ascending.

    Attributes:
        test: empty where nothing is scored at the end.
        test_name: what the test is, in words.
        notes: what was left out, in words.
    """

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    val_name: str
    test_name: str
    notes: tuple[str, ...]


def tuning_splits(
    index: Index, data: TuneDataConfig, split_of: Mapping[str, Any] | None = None, pixel_m: float = MMEARTH_M
) -> TuningSplits:
    """The tiles of a fine-tuning.

    Args:
        split_of: splits of a file of labels, which replace those of the set.
        pixel_m: side of a pixel on the ground.

    Raises:
        InputError: a split has no tile, or a part cannot be taken out of `train`.
    """
    notes: list[str] = []
    train = _split(index, "train", split_of, "")
    test, test_name = np.empty(0, np.int64), "none"
    if data.test_fraction is not None:
        train, test = _taken_out(index, train, data.test_fraction, data, "data.test_fraction")
        test_name = f"{data.test_fraction:g} of train, blocks of {data.block_km:g} km"
    elif data.test_split is not None:
        test = _split(index, data.test_split, split_of, "data.test_split")
        test_name = f"split {data.test_split}"
    if data.val_fraction is not None:
        share = data.val_fraction / (1 - (data.test_fraction or 0))
        train, val = _taken_out(index, train, share, data, "data.val_fraction")
        val_name = f"{data.val_fraction:g} of train, blocks of {data.block_km:g} km"
    else:
        val, val_name = _split(index, data.val_split, split_of, "data.val_split"), f"split {data.val_split}"
    if data.test_fraction is not None:
        val = _apart(index, val, test, pixel_m, ("validation", "the test"), notes)
        train = _apart(index, train, test, pixel_m, ("training", "the test"), notes)
    if data.val_fraction is not None:
        train = _apart(index, train, val, pixel_m, ("training", "the validation"), notes)
    if data.fraction < 1:
        whole = len(train)
        train = train[fraction_of(index.row[train], data.fraction, data.seed)]
        notes.append(f"data.fraction={data.fraction:g}: {len(train)} of {counted(whole, 'training tile')}")
    for name, positions in (("training", train), ("validation", val)):
        if not len(positions):
            raise InputError(
                f"{index.folder}: no {name} tile is left: take a smaller part out of train, or use smaller blocks "
                "(data.block_km)"
            )
    return TuningSplits(train, val, test, val_name, test_name, tuple(notes))


def _split(index: Index, name: str, split_of: Mapping[str, Any] | None, key: str) -> NDArray[np.int64]:
    positions: NDArray[np.int64] = np.asarray(split_of.get(name, ()), np.int64) if split_of else index.of_split(name)
    if len(positions):
        return positions
    there = list(split_of) if split_of else [each for each in index.splits if len(index.of_split(each))]
    part = {"data.val_split": "data.val_fraction=0.2", "data.test_split": "data.test_fraction=0.2"}.get(key)
    take = f", or take a part out of train with {part}" if part else ""
    nothing = ", or data.test_split=null to score none" if key == "data.test_split" else ""
    named = f" ({key})" if key else ""
    raise InputError(
        f"{index.folder}: no tile in split {name!r}{named}; splits with tiles: {', '.join(there) or 'none'}: name "
        f"another{take}{nothing}"
    )


def _taken_out(
    index: Index, positions: NDArray[np.int64], share: float, data: TuneDataConfig, key: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rest, and whole blocks of about this share of the tiles. Tiles without a place stay in the rest."""
    lat, lon = index.lat[positions], index.lon[positions]
    placed = np.isfinite(lat) & np.isfinite(lon)
    if not placed.any():
        raise InputError(f"{index.folder}: no tile says where it lies, which {key} needs: name a split instead")
    block_N = np.full(len(positions), -1, np.int64)
    block_N[placed] = EarthGrid(data.block_km).keys(lat[placed], lon[placed])
    blocks, count = np.unique(block_N[placed], return_counts=True)
    order = np.argsort(hashes(data.seed, 0, blocks, _BLOCKS), kind="stable")
    wanted = max(1, round(share * len(positions)))
    # The block that crosses the mark belongs to the part only if that is nearer to it.
    total = np.cumsum(count[order])
    some = max(1, int(np.searchsorted(total, wanted)) + 1)
    if some > 1 and some <= len(total) and total[some - 1] - wanted > wanted - total[some - 2]:
        some -= 1
    taken_N = np.isin(block_N, blocks[order][:some])
    if taken_N.all():
        raise InputError(
            f"{index.folder}: all training tiles lie in {counted(len(blocks), 'block')} of {data.block_km:g} km, and "
            f"{key} takes whole blocks: use smaller ones (data.block_km)"
        )
    return positions[~taken_N], positions[taken_N]


def _apart(
    index: Index,
    positions: NDArray[np.int64],
    from_these: NDArray[np.int64],
    pixel_m: float,
    words: tuple[str, str],
    notes: list[str],
) -> NDArray[np.int64]:
    what, whom = words
    ours, theirs = (
        replace(ground, side_km=ground.side_km * pixel_m / MMEARTH_M)
        for ground in (ground_of(index, positions), ground_of(index, from_these))
    )
    kind_N, _ = shared_ground(ours, theirs)
    left: NDArray[np.int64] = positions[kind_N == APART]
    if len(left) < len(positions):
        notes.append(f"left out {counted(len(positions) - len(left), f'{what} tile')} that share ground with {whom}")
    return left
