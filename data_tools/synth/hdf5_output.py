"""Writing a new HDF5 file safely: the disk may fill up, and a signal may stop the writer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mmae.disk.library_file import library_file

if TYPE_CHECKING:
    import h5py


@contextmanager
def new_hdf5(path: Path) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """Yield the file, and a function to call often: it raises errors of the disk, and ends the block after a signal.

    Raises:
        OSError: the disk is full or fails.
    """
    import h5py

    with path.open("x+b", buffering=0) as raw, library_file(raw) as output, h5py.File(output, "w") as file:
        yield file, output.check
