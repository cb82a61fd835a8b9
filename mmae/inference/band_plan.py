"""Bands by name: which dataset they are of, where they belong, and which modalities they complete."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mmae.errors import InputError, did_you_mean
from mmae.modalities import MODALITIES, Modality
from mmae.terminal.plurals import counted

Bands = Sequence[str] | Mapping[str, Sequence[str]]
"""Names of the bands of an array, in its order; of several arrays by dataset."""

_SENTINEL2: Final = re.compile(r"b0*([1-9][0-9]?a?)")
_ORBITS: Final = {"asc": "asc", "ascending": "asc", "desc": "desc", "descending": "desc"}


@dataclass(frozen=True)
class BandPlan:
    """What bands lead to.

    Attributes:
        names: the modalities that they complete, in the model's order.
        places: dataset -> index in MMEarth's dataset of each band of the array, in the array's order.
        unused: dataset -> the names of bands that no complete modality takes.
    """

    names: tuple[str, ...]
    places: Mapping[str, tuple[int, ...]]
    unused: Mapping[str, tuple[str, ...]]


def in_order(bands: Any, dataset: str | None = None) -> list[str]:
    """The names of an array's bands as a list; a numpy array of names is one too.

    Args:
        bands: what a user gave.
        dataset: names the array in the message.

    Raises:
        InputError: the names have no order or no number, as those of a set or a generator; or there are none.
    """
    listed = bands.tolist() if hasattr(bands, "tolist") else bands
    if not isinstance(listed, Sequence) or isinstance(listed, str | bytes) or not listed:
        of = "" if dataset is None else f" of {dataset}"
        raise InputError(
            f"bands{of}: {bands!r:.80}: give a list of names in the order of the array's bands, such as "
            "['B2', 'B3', 'B4']"
        )
    return [str(band) for band in listed]


def find_dataset(inputs: Sequence[str], bands: Sequence[str], table: Mapping[str, Modality] = MODALITIES) -> str:
    """The dataset that one array is of, from the names of its bands.

    Args:
        inputs: the model's input modalities.
        table: what they are.

    Raises:
        InputError: no dataset of the model has all of the bands, or several have.
    """
    bands = in_order(bands)
    known = _known(inputs, table)
    fitting = [dataset for dataset, names in known.items() if all(_spelled(band) in names for band in bands)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        every = {name: dataset for dataset, names in known.items() for name in names}
        for band in bands:
            if _spelled(band) not in every:
                raise InputError(_unknown(band, None, known))
        raise InputError(f"bands {', '.join(bands)} are of several datasets: give a mapping of datasets to arrays")
    raise InputError(
        f"bands {', '.join(bands)}: datasets {' and '.join(fitting)} both have them: give a mapping, "
        f"{{{fitting[0]!r}: array}}"
    )


def plan_bands(
    inputs: Sequence[str], bands: Mapping[str, Sequence[str]], table: Mapping[str, Modality] = MODALITIES
) -> BandPlan:
    """Find what arrays with these bands can be encoded as.

    Args:
        inputs: the model's input modalities.
        bands: dataset -> names of the array's bands, in its order.
        table: what the input modalities are.

    Raises:
        InputError: a dataset or band that the model does not have, a band twice, or no modality is complete.
    """
    known = _known(inputs, table)
    bands = {dataset: in_order(given, dataset) for dataset, given in bands.items()}
    places: dict[str, tuple[int, ...]] = {}
    for dataset, given in bands.items():
        if dataset not in known:
            raise InputError(f"no input of this model comes from dataset {dataset!r}{did_you_mean(dataset, known)}")
        places[dataset] = tuple(_place(band, dataset, known) for band in given)
        for place, band in zip(places[dataset], given, strict=True):
            if places[dataset].count(place) > 1:
                raise InputError(f"{dataset}: band {band} is named twice: name each band of the array once")
    rows = [table[name] for name in inputs if table[name].dataset in places]
    whole = [row for row in rows if set(row.bands) <= set(places[row.dataset])]
    if not whole:
        raise InputError("; ".join(["these bands complete no modality of the model", *_lacks(rows, places)]))
    used = {(row.dataset, band) for row in whole for band in row.bands}
    unused = {
        dataset: tuple(band for place, band in zip(places[dataset], given, strict=True) if (dataset, place) not in used)
        for dataset, given in bands.items()
    }
    return BandPlan(tuple(row.name for row in whole), places, {key: names for key, names in unused.items() if names})


def _known(inputs: Sequence[str], table: Mapping[str, Modality]) -> dict[str, dict[str, int]]:
    """Dataset -> spelled name of each band that the model has -> its index in the dataset."""
    known: dict[str, dict[str, int]] = {}
    for row in (table[name] for name in inputs):
        of = known.setdefault(row.dataset, {})
        of |= {_spelled(name): band for name, band in zip(row.band_names, row.bands, strict=True)}
    return known


def _spelled(band: str) -> str:
    """One spelling of a band's name: B02 and b2 are B2, and `VV ascending` is `asc VV`."""
    low = str(band).strip().lower()
    if found := _SENTINEL2.fullmatch(low):
        return f"b{found[1]}"
    words = [_ORBITS.get(word, word) for word in re.split(r"[\s_-]+", low)]
    return " ".join(sorted(words, key=lambda word: word not in {"asc", "desc"}))


def _place(band: str, dataset: str, known: Mapping[str, Mapping[str, int]]) -> int:
    place = known[dataset].get(_spelled(band))
    if place is None:
        raise InputError(_unknown(band, dataset, known))
    return place


def _unknown(band: str, dataset: str | None, known: Mapping[str, Mapping[str, int]]) -> str:
    of = {name: bands for name, bands in known.items() if dataset in {None, name}}
    listed = "; ".join(f"{name}: {', '.join(_names(name, bands))}" for name, bands in of.items())
    return f"this model has no band {str(band)!r} (it has {listed}): leave the band out"


def _names(dataset: str, bands: Mapping[str, int]) -> Iterator[str]:
    """The bands as the table of modalities spells them."""
    spelled = {_spelled(name): name for row in MODALITIES.values() if row.dataset == dataset for name in row.band_names}
    return (spelled.get(band, band.upper() if _SENTINEL2.fullmatch(band) else band) for band in bands)


def _lacks(rows: Sequence[Modality], places: Mapping[str, Sequence[int]]) -> Iterator[str]:
    for row in rows:
        lacking = [
            name for name, band in zip(row.band_names, row.bands, strict=True) if band not in places[row.dataset]
        ]
        yield f"{row.name} also needs {', '.join(lacking)} ({counted(len(row.bands), 'band')})"
