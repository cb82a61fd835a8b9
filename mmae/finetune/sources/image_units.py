"""Images of users in the units in which MMEarth stores its datasets, as float32 with NaN where there is no data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.errors import InputError
from mmae.inference.stored_units import as_stored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.config.finetune_schema import SourceConfig
    from mmae.modalities import S2Level

_SENTINEL2: Final = "sentinel2"
_WORDS: Final = {"sentinel2": {"dn", "reflectance"}, "sentinel1": {"linear"}}
"""Dataset -> the units that it has words for."""


@dataclass(frozen=True)
class ImageUnits:
    """How numbers become those of MMEarth.

    Attributes:
        words: dataset -> units, where they are not MMEarth's.
        offset: is added to Sentinel-2's digital numbers.
        pictures: datasets that hold numbers without a scale.
        notes: sentences for the user.
    """

    words: Mapping[str, str]
    offset: float
    pictures: frozenset[str]
    notes: tuple[str, ...] = ()

    def __call__(self, dataset: str, values_CHW: NDArray[Any], data_CHW: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Numbers as they are stored in a file, and where they are data."""
        # What float32 cannot hold becomes infinite, which is no data.
        with np.errstate(over="ignore"):
            floats_CHW = np.where(data_CHW, values_CHW, np.nan).astype(np.float32)
        if dataset in self.pictures:
            # 0 is no data in Sentinel-2's dataset, and black in a picture is black.
            return floats_CHW + np.float32(1)
        offset = self.offset if dataset == _SENTINEL2 else 0.0
        stored = as_stored(floats_CHW, dataset, self.words.get(dataset), offset)
        found: NDArray[np.float32] = stored.numpy().astype(np.float32, copy=False)
        return found


def image_units(
    source: SourceConfig, bands: Mapping[str, Any], dtypes: set[str], where: str, level: S2Level | None
) -> ImageUnits:
    """How the recipe says that numbers are to be read.

    Args:
        bands: by dataset of MMEarth.
        dtypes: of the images.
        where: names the images in messages.
        level: of Sentinel-2 images, if it is known.

    Raises:
        InputError: the level of Sentinel-2 images is missing, units or offset fit no band, or numbers of 8 bits are to
            be digital numbers.
    """
    for dtype in dtypes:
        if np.dtype(dtype).kind not in "iuf":
            raise InputError(f"{where}: its numbers are {dtype}: give integers or floating-point numbers")
    if source.units == "picture":
        if source.offset:
            raise InputError("source.offset is for digital numbers, and source.units=picture: leave one out")
        pictures = frozenset({_SENTINEL2} & set(bands))
        if not pictures:
            raise InputError(f"{where}: has no optical band, which source.units=picture is for: leave it out")
        return ImageUnits({}, 0.0, pictures)
    if source.units is not None and not any(source.units in _WORDS.get(dataset, ()) for dataset in bands):
        raise InputError(f"{where}: source.units={source.units} fits none of its bands: leave it out")
    if _SENTINEL2 not in bands:
        if source.offset:
            raise InputError(f"{where}: source.offset is for Sentinel-2's bands, and it has none: leave it out")
    else:
        if all(np.dtype(dtype).itemsize == 1 for dtype in dtypes):
            raise InputError(
                f"{where}: its numbers have 8 bits, which cannot hold digital numbers: set source.units=picture, which "
                "normalises them by themselves"
            )
        if level is None:
            raise InputError(
                f"{where}: source.level is not set, and the statistics of Sentinel-2's bands are those of a level: set "
                "source.level=l2a (surface) or l1c (top of atmosphere), or source.units=picture for other sensors"
            )
    words = {dataset: source.units for dataset in bands if source.units in _WORDS.get(dataset, ())}
    return ImageUnits(
        {dataset: word for dataset, word in words.items() if word is not None}, source.offset, frozenset()
    )
