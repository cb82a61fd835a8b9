"""MMEarth's HDF5 file and the three JSON files beside it, checked before anything is made of them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import h5py
import numpy as np

from data_tools.fingerprint import fingerprint
from data_tools.metadata import METADATA, first_line, read_metadata, read_rows
from data_tools.source_json import read_band_stats, read_splits
from data_tools.tile_info import TileInfo, read_tile_info
from mmae.data.codec import DTYPES, MAX_NBYTES, MAX_NDIM
from mmae.data.index import DatasetInfo, SourceInfo
from mmae.errors import InputError, did_you_mean
from mmae.modalities import MODALITIES
from mmae.regular_file import check_regular

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NAME: Final = re.compile(r"\w{1,80}", re.ASCII)


@dataclass(frozen=True, eq=False)
class Source:
    """An opened MMEarth data set; a context manager that closes the file.

    Attributes:
        path: the HDF5 file.
        datasets: what to pack, in the order in which it is stored: those of modalities first.
        tile_ids: one a row.
        level: uint8 (rows,), index into `modalities.S2_LEVELS`.
        tile_info: tile id -> its entry in the tile_info file.
        band_stats: the band_stats file; it may lack datasets.
        splits: split -> source rows, int64.
        info: name, size, rows and fingerprint of the source.
    """

    path: Path
    file: h5py.File
    datasets: Mapping[str, DatasetInfo]
    tile_ids: Sequence[str]
    level: NDArray[np.uint8]
    tile_info: TileInfo
    band_stats: Mapping[str, Any]
    splits: Mapping[str, NDArray[np.int64]]
    info: SourceInfo

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    def read(self, dataset: str, row: int) -> NDArray[Any]:
        """One tile of a dataset as it is stored, little-endian.

        Raises:
            InputError: the file is damaged there.
        """
        try:
            value = np.asarray(self.file[dataset][row])
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"{self.path}: row {row} (tile {self.tile_ids[row]}) of {dataset} cannot be read "
                f"({first_line(error)}): download the file again"
            ) from error
        return value.astype(value.dtype.newbyteorder("<"), copy=False)

    def read_all(self, dataset: str) -> NDArray[Any] | None:
        """All rows of a small dataset, packed or not; None where the file does not have it, or not a row a tile."""
        if dataset not in self.file or self.file[dataset].shape[:1] != (self.info.rows,):
            return None
        try:
            return read_rows(self.file[dataset])
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"{self.path}: {dataset} cannot be read ({first_line(error)}): download the file again"
            ) from error


def open_source(src: Path | str, datasets: Sequence[str] | None = None) -> Source:
    """Open NAME.h5 (or the folder that holds exactly one) with its JSON files and check them all.

    Args:
        datasets: names to pack; None takes every numeric dataset with a row a tile.

    Raises:
        InputError: anything missing, damaged or contradictory, with the file and the remedy.
    """
    path = _find(Path(src))
    file = _open(path)
    try:
        return _check(path, file, datasets)
    except BaseException:
        file.close()
        raise


def _find(src: Path) -> Path:
    if src.exists() and not src.is_dir():
        return src
    if not src.is_dir():
        raise InputError(f"{src}: no such file or folder: give MMEarth's .h5 file or its folder")
    found = sorted(src.glob("*.h5"))
    if len(found) != 1:
        raise InputError(f"{src}: {len(found)} .h5 files in this folder: give the file itself")
    return found[0]


def _open(path: Path) -> h5py.File:
    try:
        check_regular(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): give MMEarth's .h5 file") from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path}: not a whole HDF5 file ({first_line(error)}): download it again") from error


def _check(path: Path, file: h5py.File, datasets: Sequence[str] | None) -> Source:
    tile_ids, level = read_metadata(path, file)
    rows = len(tile_ids)
    known = _row_counts_agree(path, file, rows)
    chosen = _choose(path, known, datasets)
    stem = path.with_suffix("")
    stats_path, splits_path, info_path = (Path(f"{stem}_{kind}.json") for kind in ("band_stats", "splits", "tile_info"))
    tile_info = read_tile_info(info_path)
    for tile_id in tile_ids:
        if tile_id not in tile_info:
            raise InputError(f"{info_path}: no entry for tile {tile_id!r}: download it again, with {path.name}")
    return Source(
        path=path,
        file=file,
        datasets={name: known[name] for name in chosen},
        tile_ids=tile_ids,
        level=level,
        tile_info=tile_info,
        band_stats=read_band_stats(stats_path),
        splits=read_splits(splits_path, rows),
        info=SourceInfo(
            name=path.name,
            bytes=path.stat().st_size,
            rows=rows,
            fingerprint=fingerprint(path, known, tile_ids, (stats_path, splits_path, info_path)),
        ),
    )


def _row_counts_agree(path: Path, file: h5py.File, rows: int) -> dict[str, DatasetInfo]:
    known: dict[str, DatasetInfo] = {}
    for name, item in file.items():
        if not isinstance(item, h5py.Dataset) or name == METADATA:
            continue
        shape = tuple(item.shape)
        if not shape or shape[0] != rows:
            raise InputError(f"{path}: {name!r} is {shape} but {METADATA!r} has {rows} rows: download it again")
        known[name] = DatasetInfo(item.dtype.newbyteorder("<"), shape[1:])
    return known


def _choose(path: Path, known: Mapping[str, DatasetInfo], asked: Sequence[str] | None) -> list[str]:
    storable = [name for name, info in known.items() if info.dtype in DTYPES and _NAME.fullmatch(name)]
    for name in asked or ():
        if name not in known:
            raise InputError(f"{path}: no dataset {name!r}{did_you_mean(name, storable)}")
        if name not in storable:
            raise InputError(f"{path}: dataset {name!r} ({known[name].dtype}) cannot be stored: leave it out")
    chosen = set(storable if asked is None else asked)
    for name in chosen:
        info = known[name]
        if info.dtype.itemsize * math.prod(info.shape) > MAX_NBYTES or len(info.shape) > MAX_NDIM:
            raise InputError(f"{path}: a row of {name!r} is {info.shape}, too large for a tile: leave it out")
    if not chosen:
        raise InputError(f"{path}: no dataset to pack: name some of {', '.join(storable) or 'another file'}")
    return [*_first(chosen), *sorted(chosen - set(_first(chosen)))]


def _first(chosen: Iterable[str]) -> list[str]:
    """What training reads stands together at the front of a tile."""
    return [name for name in dict.fromkeys(row.dataset for row in MODALITIES.values()) if name in chosen]
