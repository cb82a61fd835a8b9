"""Names of bands, as files and libraries spell them, as MMEarth's datasets and bands.

`B1` to `B12` are taken for Sentinel-2's: other sensors number their bands in other ways.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from mmae.errors import InputError
from mmae.modalities import S2_BANDS

SKIPPED: Final = "-"
"""The name of a band that is not read."""

_NUMBERED: Final = re.compile(r"(?:s2[\s_-]*)?b(?:and)?[\s_-]*0*([1-9][0-9]?a?)")
_LAST: Final = 12
"""The highest number of a band of Sentinel-2; an image with higher ones is of another sensor."""
_POLARISED: Final = re.compile(
    r"(?:s1[\s_-]*)?(?:(asc|desc)(?:ending)?[\s_-]+)?(vv|vh|hh|hv)(?:[\s_-]+(asc|desc)(?:ending)?)?"
)
_WORDS: Final = MappingProxyType(
    {
        **dict.fromkeys(("coastal", "coastal aerosol", "aerosol"), "B1"),
        "blue": "B2",
        "green": "B3",
        "red": "B4",
        **dict.fromkeys(("rededge1", "red edge 1", "re1", "vnir5"), "B5"),
        **dict.fromkeys(("rededge2", "red edge 2", "re2", "vnir6"), "B6"),
        **dict.fromkeys(("rededge3", "red edge 3", "re3", "vnir7"), "B7"),
        **dict.fromkeys(("nir", "near infrared", "nearinfrared", "infrared", "nir1"), "B8"),
        **dict.fromkeys(("nir08", "narrow nir", "nir narrow", "rededge4", "red edge 4", "re4"), "B8A"),
        **dict.fromkeys(("water vapour", "water vapor", "nir09"), "B9"),
        "cirrus": "B10",
        **dict.fromkeys(("swir1", "swir16", "swir 1"), "B11"),
        **dict.fromkeys(("swir2", "swir22", "swir 2"), "B12"),
    }
)
"""Words for bands of Sentinel-2; colours of other sensors are taken for its."""
_GROUND: Final = MappingProxyType(
    {
        **dict.fromkeys(("elevation", "dem", "height above sea", "altitude"), ("aster", "elevation")),
        "slope": ("aster", "slope"),
        **dict.fromkeys(("canopy height", "canopy_height"), ("canopy_height_eth", "height")),
    }
)


@dataclass(frozen=True)
class BandMatch:
    """Which bands of an image are which of MMEarth's.

    Attributes:
        bands: MMEarth's dataset -> names of its bands that the image has, in the image's order.
        places: the same datasets -> the place of each of these in the image, from 0.
        notes: sentences on what matches nothing, and on what was assumed.
    """

    bands: Mapping[str, tuple[str, ...]]
    places: Mapping[str, tuple[int, ...]]
    notes: tuple[str, ...]


def match_bands(names: Sequence[str], where: str) -> BandMatch:
    """Match the bands of an image, given in its order.

    Args:
        where: names the image in messages.

    Raises:
        InputError: none of them matches, or two match the same band.
    """
    numbers = [int(own[1].rstrip("a")) for name in names if (own := _NUMBERED.fullmatch(name.strip().lower()))]
    if max(numbers, default=0) > _LAST:
        raise InputError(
            f"{where}: has a band B{max(numbers)}, so its numbers are not Sentinel-2's: set source.bands to names such "
            f"as [blue,green,red,nir], with {SKIPPED} for bands that are not to be read"
        )
    found: dict[str, dict[str, int]] = {}
    strange, no_orbit = [], []
    for place, name in enumerate(names):
        if name.strip() == SKIPPED:
            continue
        matched = match_band(name)
        if matched is None:
            strange.append(name)
            continue
        dataset, band = matched
        before = found.setdefault(dataset, {}).setdefault(band, place)
        if before != place:
            raise InputError(
                f"{where}: bands {before + 1} ({names[before]}) and {place + 1} ({name}) are both {band} of {dataset}: "
                f"set source.bands, with {SKIPPED} for the one that is not to be read"
            )
        if dataset == "sentinel1" and "asc" not in name.lower() and "desc" not in name.lower():
            no_orbit.append(name)
    if not found:
        raise InputError(
            f"{where}: none of its bands ({', '.join(names)[:200]}) is one of MMEarth's: set source.bands to their "
            "names, such as [B2,B3,B4,B8] or [VV,VH]"
        )
    notes = [f"bands that match nothing, not read: {', '.join(strange)}"] if strange else []
    if no_orbit:
        notes.append(f"{', '.join(no_orbit)}: the orbit is not said, and ascending is assumed")
    bands = {dataset: tuple(row) for dataset, row in found.items()}
    return BandMatch(bands, {dataset: tuple(row.values()) for dataset, row in found.items()}, tuple(notes))


def match_band(name: str) -> tuple[str, str] | None:
    """MMEarth's dataset and band of a name; None where it is none of them."""
    low = " ".join(name.strip().lower().split())
    if numbered := _NUMBERED.fullmatch(low):
        band = f"B{numbered[1].upper()}"
        return ("sentinel2", band) if band in S2_BANDS else None
    spaced = low.replace("_", " ").replace("-", " ")
    if spaced in _WORDS:
        return "sentinel2", _WORDS[spaced]
    if low in _GROUND or spaced in _GROUND:
        return _GROUND.get(low) or _GROUND[spaced]
    if polarised := _POLARISED.fullmatch(low):
        orbit = polarised[1] or polarised[3] or "asc"
        return "sentinel1", f"{orbit} {polarised[2].upper()}"
    return None
