"""A source with any number of tiles: MMEarth's own files, repeated without decoding."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.bench.scratch import need_disk_space
from mmae.disk.files import atomic_folder, writing
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

_SYNTHETIC_TILES: Final = 360
_METADATA: Final = "metadata"
_NAME: Final = "data"


@dataclass(frozen=True)
class BenchSource:
    """A data set in MMEarth's layout with all tiles in `train`.

    Attributes:
        file: the HDF5 file.
        tiles: its rows.
        about: a description of its origin.
    """

    file: Path
    tiles: int
    about: str


def prepare(src: Path | None, scratch: Path, tiles: int) -> BenchSource:
    """The source of a bench in `scratch`. It is made unless an earlier run has left it there.

    Args:
        src: the data set to repeat or cut; None for a synthetic one.
        tiles: how many tiles the result has, at least one.

    Raises:
        InputError: the source is not readable, or the disk is too small.
    """
    from data_tools.source.dataset import open_source

    path = src if src is not None else _synthetic(scratch)
    with open_source(path) as source:
        original, fingerprint, rows = source.path, source.info.fingerprint, source.info.rows
    what = original.name if src is not None else "synthetic tiles"
    about = f"{what} ({counted(rows, 'tile')}) as {counted(tiles, 'tile')}"
    folder = scratch / f"source-{tiles}-{fingerprint[:16]}"
    if not folder.is_dir():
        need_disk_space(scratch, original.stat().st_size * tiles // rows)
        with writing(folder, "make room, or give another --scratch"), atomic_folder(folder) as temporary:
            _repeat(original, temporary, tiles)
    return BenchSource(folder / f"{_NAME}.h5", tiles, about)


def _synthetic(scratch: Path) -> Path:
    from data_tools.synth.command import synthesise

    folder = scratch / "synthetic"
    if not folder.is_dir():
        synthesise(folder, _SYNTHETIC_TILES)
    return folder


def _repeat(original: Path, folder: Path, tiles: int) -> None:
    import h5py

    from data_tools.synth.hdf5_output import new_hdf5

    with h5py.File(original, "r") as old, new_hdf5(folder / f"{_NAME}.h5") as (new, check_disk):
        names = [name for name in old if name != _METADATA]
        pairs = [(old[name], _like(old[name], new, name, tiles)) for name in names]
        rows = len(old[_METADATA])
        for row in range(tiles):
            for before, after in pairs:
                _copy_row(before, row % rows, after, row)
            check_disk()
        metadata: NDArray[Any] = old[_METADATA][:]
        new[_METADATA] = repeated = _metadata(metadata, tiles)
    stem = str(original.with_suffix(""))
    old_info = json.loads(Path(f"{stem}_tile_info.json").read_bytes())
    old_ids, new_ids = (_texts(table[(table.dtype.names or ())[0]]) for table in (metadata, repeated))
    info = {name: old_info[old_ids[row % rows]] for row, name in enumerate(new_ids)}
    (folder / f"{_NAME}_tile_info.json").write_text(json.dumps(info))
    (folder / f"{_NAME}_splits.json").write_text(json.dumps({"train": list(range(tiles)), "val": [], "test": []}))
    shutil.copyfile(f"{stem}_band_stats.json", folder / f"{_NAME}_band_stats.json")


def _like(old: h5py.Dataset, new: h5py.File, name: str, tiles: int) -> h5py.Dataset:
    """Create an empty dataset of the same type, chunks and filters."""
    import h5py

    space = h5py.h5s.create_simple((tiles, *old.shape[1:]))
    h5py.h5d.create(new.id, name.encode(), old.id.get_type(), space, dcpl=old.id.get_create_plist())
    return new[name]


def _copy_row(old: h5py.Dataset, row: int, new: h5py.Dataset, target: int) -> None:
    """Copies one tile; if a tile is one chunk, the compressed chunk is copied."""
    if old.chunks == (1, *old.shape[1:]):
        rest = (0,) * (old.ndim - 1)
        place = old.id.get_chunk_info_by_coord((row, *rest))
        if place.byte_offset is not None:
            skipped, chunk = old.id.read_direct_chunk((row, *rest))
            new.id.write_direct_chunk((target, *rest), chunk, skipped)
            return
    new[target] = old[row]


def _metadata(old: NDArray[Any], tiles: int) -> NDArray[Any]:
    """The repeated table. Ids stay unique, because those of repeats end in `#1`, `#2`, ..."""
    first, second, *_ = old.dtype.names or ()
    known = _texts(old[first])
    ids = [known[row % len(old)] + (f"#{row // len(old)}" if row >= len(old) else "") for row in range(tiles)]
    new = np.empty(tiles, [(first, f"S{max(map(len, ids))}"), (second, "S10")])
    new[first] = [name.encode() for name in ids]
    new[second] = [name.encode() for name in np.resize(_texts(old[second]), tiles).tolist()]
    return new


def _texts(values: NDArray[Any]) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]
