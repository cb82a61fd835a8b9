"""Where the tiles of all datasets lie: HDF5 is asked for every chunk once, by processes where that takes long."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import h5py

from data_tools.chunks import Chunks, Storage, find_tiles
from data_tools.crew import Tally, in_processes
from data_tools.hdf5_faults import read_fault
from mmae.errors import InputError

if TYPE_CHECKING:
    from data_tools.hdf5 import Source

_MANY: Final = 1 << 20
"""Chunks that take about as long to find (a second) as processes take to start."""


def find_places(source: Source, workers: int = 1) -> tuple[dict[str, Storage], dict[str, Chunks]]:
    """Of every dataset that can be read by place: how tiles are stored, and where those of all rows lie.

    Raises:
        InputError: the file is damaged.
    """
    names = list(source.datasets)
    if len(names) * source.info.rows < _MANY:
        workers = 1
    found = dict(in_processes(_Search(source.path), names, workers, _Silence()))
    storage = {name: found[name][0] for name in names if found[name] is not None}
    return storage, {name: found[name][1] for name in storage}


@dataclass(frozen=True)
class _Search:
    path: Path

    def __call__(self, name: str, _: Tally) -> tuple[Storage, Chunks] | None:
        try:
            with h5py.File(self.path, "r") as file:
                return find_tiles(file, name)
        except (OSError, RuntimeError) as error:
            raise InputError(f"{self.path}: {name} {read_fault(error)}") from error


class _Silence:
    def add(self, *_: Any) -> None:
        pass
