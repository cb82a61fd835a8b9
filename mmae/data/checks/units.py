"""Checks that stored values fit the band statistics in use: scale, offset, level, order of the bands.

Statistics are of the whole world, and the tiles may all show one desert or one sea. So a problem is reported only if no
place on Earth could explain the values.
Shape letters: T tiles, C bands, n pixels of a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from mmae.data.transforms.stats_entry import BandNumbers, band_numbers, no_data
from mmae.modalities import ABSENT_BANDS, DATASET_BANDS, MODALITIES, S2_CIRRUS

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE_TILES: Final = 32
"""Number of tiles of a level that are read."""

_FEW_TILES: Final = 8
"""With fewer tiles, all may show one lake or one field."""

_MAX_PIXELS: Final = 1024
"""Number of pixels of a tile that are used: every k-th."""

_SCALE: Final = (0.002, 200.0)
"""Mean value over expected mean: deep water is at 0.01, snow at 5; reflectance stored as 0..1 is at 0.0001."""
_SPREAD: Final = (0.002, 200.0)
"""Deviation over expected deviation: still water is at 0.01, and variances given for deviations are at 0.001. The
second: of one band over the median of all."""
_BYTE: Final = 255
_BYTE_SCALE: Final = 0.25
"""Stored as 0..255, or in per cent, reflectance is at 0.01 to 0.1; several tiles of water have brighter pixels."""
_OFFSET: Final = 1000
"""What processing baseline 04.00 (January 2022) adds to every stored Sentinel-2 value."""
_OFFSET_LEAST: Final = 950
_OFFSET_DARK: Final = 1900
"""Half of the bands have values as dark as this almost everywhere: only deserts and snow fields do not."""
_CIRRUS_DARK: Final = 0.1
_CIRRUS_BRIGHT: Final = 0.3
"""B10 over the median of the other bands' means: 0.02 on average, 0.1 where cirrus is thick."""
_FAR: Final = 20.0
"""Standard deviations between the sample's mean and the expected one, in every band."""
_BLUE: Final = (0, 1)
"""Places of B1 and B2: over land, the infrared bands may be above the offset everywhere, and these are not."""
_UNKNOWN_CODES: Final = 0.01

Kind = Literal["scale", "spread", "offset", "level", "order", "decibel", "far", "codes"]


@dataclass(frozen=True)
class Finding:
    """Why values cannot be in the units of the statistics.

    Attributes:
        kind: of problem, which decides what to do.
        words: what was seen, for the message.
        factor: values times this would be about what the statistics say; NaN where no factor mends them.
    """

    kind: Kind
    words: str
    factor: float = np.nan


Remedy = Callable[[Finding], str]
"""What the caller's user can do about a finding, for the message."""

_COMPUTE: Final = "compute statistics of these values (mmae repack --stats compute)"
_BEFORE_PACKING: Final[Mapping[Kind, str]] = MappingProxyType(
    {
        "scale": f"bring the values to it before mmae repack, or {_COMPUTE}",
        "spread": "correct the statistics, or compute them (mmae repack --stats compute)",
        "offset": f"subtract {_OFFSET} from what is not 0 before mmae repack, or {_COMPUTE}",
        "level": "put their level right in the source's metadata",
        "order": "bring the bands to this order before mmae repack",
        "decibel": f"store 10 log10 of them before mmae repack, or {_COMPUTE}",
        "far": f"bring the values to the units of the statistics, or {_COMPUTE}",
        "codes": "translate them before mmae repack",
    }
)


def before_packing(finding: Finding) -> str:
    """The remedy for tiles of a data set that is repacked."""
    return _BEFORE_PACKING[finding.kind]


@dataclass(frozen=True, eq=False)
class _Seen:
    """Measures of each band of a sample, float64 (C,); NaN for a band without data.

    `mean_C` is the median over tiles of their means: one damaged tile says nothing about units.
    """

    tiles: int
    mean_C: NDArray[np.float64]
    std_C: NDArray[np.float64]
    dark_C: NDArray[np.float64]
    most: float
    least: float


def thinned(stored: NDArray[Any], entry: str) -> NDArray[np.float64]:
    """Some of a tile's pixels as (C, n) float64, NaN where there is no data.

    Args:
        stored: (C, H, W) in the stored dtype.
        entry: its entry of the band statistics.
    """
    pixels_Cn = stored.reshape(len(stored), -1)
    pixels_Cn = pixels_Cn[:, :: -(-pixels_Cn.shape[1] // _MAX_PIXELS) or 1]
    values_Cn = pixels_Cn.astype(np.float64)
    values_Cn[~np.isfinite(values_Cn) | np.isin(pixels_Cn, no_data(entry))] = np.nan
    return values_Cn


def unit_problem(
    entry: str,
    values_TCn: NDArray[np.float64],
    band_stats: Mapping[str, Any],
    remedy: Remedy = before_packing,
    stored: Sequence[int] | None = None,
) -> str | None:
    """Why the values of a sample cannot be in the units of the statistics, in words; None where they may be.

    Args:
        entry: a dataset with statistics, or `sentinel2_l1c` and `sentinel2_l2a`.
        values_TCn: what `thinned` gave of each tile of the entry.
        band_stats: the statistics that the tiles will be normalised with.
        remedy: ends the message.
        stored: the bands that the tiles were stored with; None: all. The values of others are NaN.
    """
    numbers = band_numbers(band_stats, entry)
    if numbers is None or not len(values_TCn) or np.isnan(values_TCn).all():
        return None
    seen = _look(values_TCn)
    if len(seen.mean_C) != len(numbers.mean_C):
        return None
    is_sentinel2 = entry.startswith("sentinel2_") and len(seen.mean_C) == DATASET_BANDS["sentinel2"]
    has_cirrus = stored is None or S2_CIRRUS in stored
    rules = (
        (_sentinel2(entry, values_TCn, seen, numbers, band_stats, has_cirrus),)
        if is_sentinel2
        else (_decibel(entry, seen, numbers), _far_off(entry, seen, numbers))
    )
    found = next((finding for rule in rules for finding in rule), None)
    return None if found is None else f"{found.words}: {remedy(found)}"


def code_problem(dataset: str, codes: NDArray[Any], remedy: Remedy = before_packing) -> str | None:
    """Why a sample of stored class codes is not of the dataset's table, in words; None where it may be.

    Dynamic World is not judged, because each of its codes without a class means no data.
    """
    row = next(row for row in MODALITIES.values() if row.dataset == dataset)
    listed = {*row.class_codes, *map(int, row.no_data)}
    if dataset == "dynamic_world" or not codes.size:
        return None
    unknown = ~np.isin(codes, list(listed))
    if unknown.mean() <= _UNKNOWN_CODES:
        return None
    some, known = (", ".join(map(str, each)) for each in (np.unique(codes[unknown])[:5].tolist(), row.class_codes))
    share = f"{unknown.mean():.0%} of the pixels"
    words = f"{share} hold codes that belong to no class ({some}); the stored classes are {known}"
    return f"{words}: {remedy(Finding('codes', words))}"


def _look(values_TCn: NDArray[np.float64]) -> _Seen:
    values_CN = np.moveaxis(values_TCn, 1, 0).reshape(values_TCn.shape[1], -1)
    mean_C, std_C, dark_C = np.full((3, len(values_CN)), np.nan)
    for band, row in enumerate(values_CN):
        valid = row[~np.isnan(row)]
        if len(valid):
            # Numbers beyond float64 come from damage or from wrong units; they are reported as far off.
            with np.errstate(over="ignore", invalid="ignore"):
                std_C[band], dark_C[band] = valid.std(), np.percentile(valid, 1)
            tiles_Tn = values_TCn[~np.isnan(values_TCn[:, band]).all(1), band]
            mean_C[band] = np.median(np.nanmean(tiles_Tn, axis=1))
    return _Seen(len(values_TCn), mean_C, std_C, dark_C, np.nanmax(values_CN), np.nanmin(values_CN))


def _sentinel2(
    entry: str,
    values_TCn: NDArray[np.float64],
    seen: _Seen,
    numbers: BandNumbers,
    band_stats: Mapping[str, Any],
    has_cirrus: bool,
) -> Iterator[Finding]:
    others = np.arange(len(seen.mean_C)) != S2_CIRRUS
    both = others & numbers.known & ~np.isnan(seen.mean_C)
    if not both.any():
        return
    yield from _scale(seen, numbers, both)
    yield from _spread(seen, numbers, both)
    cirrus, bright = seen.mean_C[S2_CIRRUS], float(np.nanmedian(seen.mean_C[others]))
    expected_dark = numbers.mean_C[S2_CIRRUS] < _CIRRUS_DARK * np.median(numbers.mean_C[both])
    if expected_dark and cirrus > _CIRRUS_BRIGHT * bright:
        if _offset_by_cirrus(seen):
            yield _offset_found(f"B10, the darkest band, is {cirrus:.0f} on average")
        yield _order_found(seen)
    with_cirrus = int((~np.isnan(values_TCn[:, S2_CIRRUS])).any(1).sum())
    if entry in ABSENT_BANDS and not numbers.known[S2_CIRRUS] and 2 * with_cirrus > seen.tiles:
        if cirrus > _CIRRUS_BRIGHT * bright:
            yield _order_found(seen)
        yield Finding(
            "level",
            f"level: {with_cirrus} of {seen.tiles} tiles hold data in B10, which L2A does not have: they are L1C",
        )
    if has_cirrus and entry not in ABSENT_BANDS and numbers.mean_C[S2_CIRRUS] > 0 and not with_cirrus:
        yield Finding("level", f"level: B10 is 0 in all of {seen.tiles} tiles, and L1C has it: they are L2A")
    if _offset_by_dark_ends(seen, numbers, both, band_stats[entry]):
        yield _offset_found(f"1 % of the pixels at most are below {np.nanmin(seen.dark_C):.0f} in every band")


def _scale(seen: _Seen, numbers: BandNumbers, both: NDArray[np.bool_]) -> Iterator[Finding]:
    ratios = seen.mean_C[both] / np.where(numbers.mean_C[both] > 0, numbers.mean_C[both], np.nan)
    if np.isnan(ratios).all():
        return
    ratio = float(np.nanmedian(ratios))
    bytes_or_percent = seen.most <= _BYTE and ratio < _BYTE_SCALE and seen.tiles >= _FEW_TILES
    if bytes_or_percent or not _SCALE[0] <= ratio <= _SCALE[1]:
        yield Finding(
            "scale",
            f"scale: values are {seen.least:.4g} to {seen.most:.4g}, {ratio:.2g} times what the statistics say (mean "
            f"{np.nanmedian(seen.mean_C[both]):.4g}, expected {np.median(numbers.mean_C[both]):.4g}), and MMEarth "
            "stores reflectance x 10000",
            1 / ratio if ratio > 0 else np.nan,
        )


def _spread(seen: _Seen, numbers: BandNumbers, both: NDArray[np.bool_]) -> Iterator[Finding]:
    """All bands would be almost constant, or one of them would be huge."""
    both = both & (numbers.std_C > 0)
    if seen.tiles < _FEW_TILES or not both.any():
        return
    # Bands that do not vary at all prove nothing, because the tiles may be empty.
    ratio_C = np.where(both & (seen.std_C > 0), seen.std_C / np.where(both, numbers.std_C, 1), np.nan)
    if np.isnan(ratio_C).all():
        return
    band = int(np.nanargmax(ratio_C))
    if ratio_C[band] < _SPREAD[0] or ratio_C[band] > _SPREAD[1] * np.nanmedian(ratio_C):
        yield Finding(
            "spread",
            f"scale: the band at place {band} deviates by {seen.std_C[band]:.4g}, {ratio_C[band]:.2g} times what the "
            f"statistics say ({numbers.std_C[band]:.4g}), and std is the deviation in the units of the values",
        )


def _offset_by_cirrus(seen: _Seen) -> bool:
    """All bands are beyond the offset, and without it B10 would be dark."""
    without_C = seen.mean_C - _OFFSET
    others = np.arange(len(without_C)) != S2_CIRRUS
    lifted = np.nanmin(seen.dark_C) >= _OFFSET_LEAST
    return bool(lifted and without_C[S2_CIRRUS] < _CIRRUS_BRIGHT * np.nanmedian(without_C[others]))


def _offset_by_dark_ends(seen: _Seen, numbers: BandNumbers, both: NDArray[np.bool_], table: Mapping[str, Any]) -> bool:
    """Where the statistics go down to 0, all bands end at the offset."""
    if seen.tiles < _FEW_TILES or not both[list(_BLUE)].any():
        return False
    least = table.get("min")
    if isinstance(least, list) and len(least) == len(both) and None not in [least[c] for c in np.flatnonzero(both)]:
        starts = float(np.median(np.array(least, np.float64)[both]))
    else:
        starts = float(np.median((numbers.mean_C - numbers.std_C)[both]))
    dark = seen.dark_C[both]
    return bool(starts < _OFFSET_LEAST / 2 and dark.min() >= _OFFSET_LEAST and np.median(dark) <= _OFFSET_DARK)


def _offset_found(found: str) -> Finding:
    return Finding(
        "offset",
        f"offset: {found}, as in products of processing baseline 04.00 (since January 2022), whose values are "
        f"{_OFFSET} too high",
    )


def _order_found(seen: _Seen) -> Finding:
    darkest = int(np.nanargmin(np.where(np.isnan(seen.mean_C), 0, seen.mean_C)))
    return Finding(
        "order",
        f"order of bands: the darkest band stands at place {darkest}, and B10 belongs at {S2_CIRRUS} (B1 B2 B3 B4 B5 "
        "B6 B7 B8A B8 B9 B10 B11 B12)",
    )


def _decibel(entry: str, seen: _Seen, numbers: BandNumbers) -> Iterator[Finding]:
    if not any(row.dataset == entry and row.units == "dB" for row in MODALITIES.values()):
        return
    if seen.least >= 0 and np.nanmax(numbers.mean_C) < 0:
        yield Finding(
            "decibel",
            f"scale: values are {seen.least:.4g} to {seen.most:.4g}, and the statistics are of decibels (mean "
            f"{np.nanmedian(numbers.mean_C):.4g})",
        )


def _far_off(entry: str, seen: _Seen, numbers: BandNumbers) -> Iterator[Finding]:
    # Tiles of a modality that is standardised for each tile may have any scale.
    if any(row.dataset == entry and row.standardise for row in MODALITIES.values()):
        return
    both = numbers.known & ~np.isnan(seen.mean_C)
    if not both.any():
        return
    distance, std = np.abs(seen.mean_C - numbers.mean_C)[both], numbers.std_C[both]
    constant = bool((std == 0).all() and (seen.std_C[both] > 0).all())
    if constant or ((std > 0).all() and (distance > _FAR * std).all()):
        said = "that it never changes" if constant else f"{np.median(std):.4g} for its deviation"
        yield Finding(
            "far",
            f"scale: the mean is {np.median(seen.mean_C[both]):.4g}, and the statistics say "
            f"{np.median(numbers.mean_C[both]):.4g}, and {said}",
        )
