"""One sample of GEO-Bench: an HDF5 file with a data set a band, and a pickled description that is never run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import h5py
import numpy as np

from mmae.disk.regular_file import check_regular
from mmae.errors import InputError
from mmae.evaluate.benchmark.geobench.inert_pickle import parse_literal, read_pickle
from mmae.terminal.error_line import first_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DATED: Final = re.compile(r"(?P<name>.+)_(?P<date>\d{4}-\d{2}-\d{2})")
_MASK: Final = "label"
_PICKLE: Final = "pickle"
_LARGEST: Final = 8192
"""Pixels of a side: more would be no sample of the suite."""
_REMEDY: Final = "unpack the task again, or download it again"


@dataclass(frozen=True)
class SampleFile:
    """A sample that is open.

    Attributes:
        path: its file, for messages.
        file: is closed by `open_sample`.
    """

    path: Path
    file: h5py.File

    def names(self) -> dict[str, list[str]]:
        """Band, without a date -> the dates that the file holds it of, in order; an empty text where it is undated."""
        found: dict[str, list[str]] = {}
        for stored in self.file:
            name, date = split_date(stored)
            found.setdefault(name, []).append(date)
        return {name: sorted(dates) for name, dates in found.items()}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Data set, as it is stored -> (H, W), of those of two dimensions."""
        shapes = {stored: tuple(self._own(stored).shape or ()) for stored in self.file}
        return {stored: shape for stored, shape in shapes.items() if len(shape) == 2}

    def bands(self, names: Iterable[str]) -> dict[str, NDArray[Any]]:
        """The pixels of bands, (H, W) each in its own dtype and size, of the last date that all of them have.

        Raises:
            InputError: a band is missing, has no such date, or holds anything but an image.
        """
        names, there = list(names), self.names()
        if not names:
            return {}
        for name in names:
            if name not in there:
                raise InputError(f"{self.path}: there is no band {name!r}: {_REMEDY}")
        common = set.intersection(*(set(there[name]) for name in names))
        if not common:
            raise InputError(f"{self.path}: its bands have no date in common: {_REMEDY}")
        date = max(common)
        return {name: self._image(f"{name}_{date}" if date else name) for name in names}

    def mask(self) -> NDArray[np.int64]:
        """The class of each pixel, (H, W).

        Raises:
            InputError: there is none, or it holds no classes.
        """
        there = self.names().get(_MASK)
        if there is None:
            raise InputError(f"{self.path}: there is no {_MASK!r}: {_REMEDY}")
        mask = self._image(f"{_MASK}_{there[-1]}" if there[-1] else _MASK)
        whole = mask.dtype.kind != "f" or bool((mask == np.floor(mask)).all() and np.abs(mask).max(initial=0) < 1 << 31)
        if not whole:
            raise InputError(f"{self.path}: {_MASK!r} holds numbers that are no classes: {_REMEDY}")
        return mask.astype(np.int64)

    def description(self) -> Mapping[Any, Any]:
        """The pickled description: plain values, and inert records for all else.

        Raises:
            InputError: there is none, or it cannot be read without running it.
        """
        try:
            found = read_pickle(parse_literal(self._attribute()))
        except ValueError as error:
            raise InputError(f"{self.path}: its description cannot be read ({error}): {_REMEDY}") from None
        if not isinstance(found, dict):
            raise InputError(f"{self.path}: its description is no dictionary: {_REMEDY}")
        return found

    def _attribute(self) -> str:
        if _PICKLE not in self.file.attrs:
            raise ValueError(f"there is no attribute {_PICKLE!r}")
        stored = self.file.attrs[_PICKLE]
        text = stored.decode("ascii", "replace") if isinstance(stored, bytes) else stored
        if not isinstance(text, str):
            raise ValueError(f"attribute {_PICKLE!r} is no text")
        return text

    def is_band(self, name: str) -> bool:
        """Whether a name is that of a data set of two dimensions; a hyperspectral image has three.

        Raises:
            InputError: it lies in another file.
        """
        stored = self._own(f"{name}_{date}" if (date := self.names()[name][-1]) else name)
        return len(stored.shape or ()) == 2

    def _image(self, name: str) -> NDArray[Any]:
        """The pixels of a data set that lies in this file."""
        stored = self._own(name)
        shape = tuple(stored.shape or ())
        if len(shape) != 2 or not all(0 < side <= _LARGEST for side in shape) or stored.dtype.kind not in "biuf":
            what = f"of shape {shape} and dtype {stored.dtype} is no image"
            raise InputError(f"{self.path}: {name!r} {what}: {_REMEDY}")
        return np.asarray(stored[()])

    def _own(self, name: str) -> h5py.Dataset:
        where = f"{self.path}: {name!r}"
        # Links may lead to any file of this user.
        if not isinstance(self.file.get(name, getlink=True), h5py.HardLink):
            raise InputError(f"{where} is a link to somewhere else: {_REMEDY}")
        stored = self.file[name]
        if not isinstance(stored, h5py.Dataset) or stored.external or stored.is_virtual:
            raise InputError(f"{where} is no data set of this file: {_REMEDY}")
        return stored


@contextmanager
def open_sample(path: Path) -> Iterator[SampleFile]:
    """A sample's file, open in this block.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        check_regular(path)
        with h5py.File(path, "r") as file:
            yield SampleFile(path, file)
    # h5py raises what its C library says, which has no class of its own.
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({first_line(error)[:160]}): {_REMEDY}") from None


def split_date(stored: str) -> tuple[str, str]:
    """A data set's name as the band's name and its date; the date is empty where it has none."""
    dated = _DATED.fullmatch(stored)
    return (dated["name"], dated["date"]) if dated else (stored, "")
