"""The check that the data of an HDF5 file is in the file itself: its links may point to any other file."""

from __future__ import annotations

from pathlib import Path

import h5py

from mmae.errors import InputError


def check_own(path: Path, file: h5py.File) -> None:
    """Refuse links to other files: the author of the file would choose which of this user's files are packed.

    Raises:
        InputError: something at the file's root lies in another file.
    """
    for name in file:
        if isinstance(file.get(name, getlink=True), h5py.ExternalLink):
            raise _elsewhere(path, name)
        try:
            item = file[name]
        except (KeyError, OSError, RuntimeError):
            # Nothing of it can be packed; `source_datasets` names it.
            continue
        in_others = isinstance(item, h5py.Dataset) and (item.external or item.is_virtual)
        if in_others or item.file.filename != file.filename:
            raise _elsewhere(path, name)


def _elsewhere(path: Path, name: str) -> InputError:
    return InputError(f"{path}: {name!r} lies in other files: copy all into one, or download it again")
