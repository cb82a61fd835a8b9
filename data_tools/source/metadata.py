"""The table of an MMEarth file with the id and the Sentinel-2 level of each tile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import h5py
import numpy as np

from data_tools.source.hdf5_faults import read_fault
from mmae.errors import InputError
from mmae.modalities import S2_LEVELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

METADATA: Final = "metadata"
UNKNOWN_LEVEL: Final = 255
_ROWS: Final = 1024


def read_metadata(path: Path, file: h5py.File) -> tuple[list[str], list[str]]:
    """Tile ids, and S2 levels as the table has them; a level is empty if the table does not contain it.

    Field names differ among writers, so fields are taken by position. A row that was never filled has no id.
    """
    if METADATA not in file or not isinstance(file[METADATA], h5py.Dataset):
        raise InputError(f"{path}: no dataset {METADATA!r}: is this MMEarth's file?")
    table = file[METADATA]
    fields: tuple[str, ...] = table.dtype.names or ()
    if table.ndim != 1 or not (fields or h5py.check_string_dtype(table.dtype)):
        raise InputError(f"{path}: {METADATA!r} is not a table of tile id and S2 type: is this MMEarth's file?")
    try:
        entries = read_rows(table)
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: {METADATA!r} {read_fault(error)}") from error
    columns = [[_text(value) for value in entries[name].tolist()] for name in fields[:2]]
    tile_ids = columns[0] if columns else [_text(value) for value in entries.tolist()]
    return tile_ids, [name.lower() for name in columns[1]] if len(columns) > 1 else [""] * len(tile_ids)


def s2_levels(
    path: Path,
    tile_ids: Sequence[str],
    written: Sequence[str],
    listed: NDArray[np.uint8],
    used: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """The level of each row, uint8, index into `S2_LEVELS`; 0 for an unused row without a level.

    Args:
        written: the levels of the table, empty if it does not contain one.
        listed: the levels of the tile_info file, `UNKNOWN_LEVEL` if that does not contain one either.
        used: rows that must have one.

    Raises:
        InputError: a row that is used has none.
    """
    codes: dict[str, int] = {name: code for code, name in enumerate(S2_LEVELS)}
    found = np.array([codes.get(name, UNKNOWN_LEVEL) for name in written], np.uint8)
    silent = np.array([not name for name in written], np.bool_)
    levels = np.where(silent, listed, found)
    if len(wrong := used[levels[used] == UNKNOWN_LEVEL]):
        row = int(wrong.min())
        raise InputError(
            f"{path}: row {row} (tile {tile_ids[row]}): S2 type {written[row]!r} is neither l1c nor l2a"
            + ("" if written[row] else ", and tile_info does not tell it")
        )
    return np.where(levels == UNKNOWN_LEVEL, 0, levels).astype(np.uint8)


def read_rows(dataset: h5py.Dataset) -> NDArray[Any]:
    """All rows of a small dataset, read in parts: for a million chunks at once, HDF5 needs gigabytes and more time."""
    values: NDArray[Any] = np.empty(dataset.shape, dataset.dtype)
    for begin in range(0, len(values), _ROWS):
        values[begin : begin + _ROWS] = dataset[begin : begin + _ROWS]
    return values


def _text(value: object) -> str:
    return value.decode("utf-8", "replace").strip("\0 ") if isinstance(value, bytes) else str(value)
