"""The table of an MMEarth file that names its tiles and says of which Sentinel-2 level they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import h5py
import numpy as np

from mmae.errors import InputError
from mmae.modalities import S2_LEVELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

METADATA: Final = "metadata"
_ROWS: Final = 1024


def read_metadata(path: Path, file: h5py.File) -> tuple[list[str], NDArray[np.uint8]]:
    """Tile ids and S2 levels. Field names differ among writers, so fields are taken by position."""
    if METADATA not in file or not isinstance(file[METADATA], h5py.Dataset):
        raise InputError(f"{path}: no dataset {METADATA!r}: is this MMEarth's file?")
    table = file[METADATA]
    fields: tuple[str, ...] = table.dtype.names or ()
    if table.ndim != 1 or len(fields) < 2:
        raise InputError(f"{path}: {METADATA!r} is not a table of tile id and S2 type: is this MMEarth's file?")
    try:
        entries = read_rows(table)
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: {METADATA!r} cannot be read ({first_line(error)}): download it again") from error
    tile_ids = [_text(value) for value in entries[fields[0]].tolist()]
    levels = [_text(value).lower() for value in entries[fields[1]].tolist()]
    for row, name in enumerate(levels):
        if name not in S2_LEVELS:
            raise InputError(f"{path}: row {row} (tile {tile_ids[row]}): S2 type {name!r} is neither l1c nor l2a")
    codes = {name: code for code, name in enumerate(S2_LEVELS)}
    return tile_ids, np.array([codes[name] for name in levels], np.uint8)  # type: ignore[index]


def read_rows(dataset: h5py.Dataset) -> NDArray[Any]:
    """All rows of a small dataset. Asked for a million chunks at once, HDF5 takes gigabytes, and longer."""
    values: NDArray[Any] = np.empty(dataset.shape, dataset.dtype)
    for begin in range(0, len(values), _ROWS):
        values[begin : begin + _ROWS] = dataset[begin : begin + _ROWS]
    return values


def _text(value: object) -> str:
    return value.decode("utf-8", "replace").strip("\0 ") if isinstance(value, bytes) else str(value)


def first_line(error: BaseException) -> str:
    """Of what an exception says: HDF5 says a lot."""
    return (str(error).splitlines() or [type(error).__name__])[0]
