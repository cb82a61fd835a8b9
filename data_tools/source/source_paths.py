"""The paths of an MMEarth data set: the HDF5 file, and the JSON files beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from mmae.errors import InputError

_REWRITTEN: Final = "_chunked_gzip"
"""The suffix by which MMEarth's own tool names a rewritten file, which uses the JSON files of the original."""


class SourcePaths(NamedTuple):
    """The four files of a data set."""

    file: Path
    band_stats: Path
    splits: Path
    tile_info: Path


def find_source(src: Path, splits: Path | None = None) -> SourcePaths:
    """The files of a data set.

    Args:
        src: the HDF5 file, or the folder that holds exactly one.
        splits: the splits file, if it is not the one beside the HDF5 file.

    Raises:
        InputError: no such file or folder, or several HDF5 files in it.
    """
    file = _find(src)
    return SourcePaths(file, _beside(file, "band_stats"), splits or _beside(file, "splits"), _beside(file, "tile_info"))


def _find(src: Path) -> Path:
    try:
        if src.is_dir():
            # `glob` would find nothing in a folder that may not be listed.
            found = sorted(path for path in src.iterdir() if path.suffix == ".h5")
            if len(found) != 1:
                raise InputError(f"{src}: {len(found)} .h5 files in this folder: give the file itself")
            src = found[0]
        if src.is_file():
            return src
        kind = "is no plain file" if src.exists() else "no such file or folder"
    except OSError as error:
        raise InputError(f"{src}: cannot be read ({error.strerror}): ask its owner for access") from None
    raise InputError(f"{src}: {kind}: give MMEarth's .h5 file or its folder")


def _beside(file: Path, kind: str) -> Path:
    named = file.with_name(f"{file.stem}_{kind}.json")
    if file.stem.endswith(_REWRITTEN) and not named.exists():
        return file.with_name(f"{file.stem.removesuffix(_REWRITTEN)}_{kind}.json")
    return named
