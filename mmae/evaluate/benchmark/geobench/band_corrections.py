"""Two tasks of GEO-Bench store bands under wrong names: which they are, and how a repaired copy is told apart.

The suite's own README says so (version 1.1.0 of its package), and the files on the hub are as they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from mmae.errors import InputError
from mmae.evaluate.benchmark.geobench.sensor_bands import SENTINEL2

_S08A, _S09, _S10, _S11, _S12 = list(SENTINEL2)[8:]
_S06, _S07 = list(SENTINEL2)[5:7]

_CIRRUS: Final = 100.0
"""Mean of B10 where it is stored as digital numbers; every other band is brighter on land."""
_BYTE: Final = 255.0


@dataclass(frozen=True)
class BandMeans:
    """What was seen of a band in some samples: the mean and the largest of its pixels."""

    mean: float
    most: float


_EUROSAT: Final = MappingProxyType({_S08A: "B9", _S09: "B10", _S10: "B11", _S11: "B12", _S12: "B8A"})
_BRICK_KILN: Final = MappingProxyType(
    {_S06: "B7", _S07: "B8A", _S08A: "B11", _S09: "B12", _S10: None, _S11: None, _S12: None}
)
"""None: a band of an 8-bit true-colour picture."""


def correction(task: str, seen: Mapping[str, BandMeans]) -> Mapping[str, str | None]:
    """Name in the files -> the band that it really is, of the names that are wrong; empty where none is.

    Args:
        task: only the two published tasks are ever corrected.
        seen: name in the files -> what some samples hold.

    Raises:
        InputError: the values are neither those of the published files nor those of a repaired copy.
    """
    if task == "m-eurosat":
        return _corrected(task, _EUROSAT, _eurosat_is_wrong(seen), f"{_S09!r} and {_S10!r}")
    if task == "m-brick-kiln":
        return _corrected(task, _BRICK_KILN, _brick_kiln_is_wrong(seen), f"{_S10!r}, {_S11!r} and {_S12!r}")
    return {}


def _corrected(task: str, real: Mapping[str, str | None], wrong: bool | None, judged: str) -> Mapping[str, str | None]:
    if wrong is None:
        raise InputError(
            f"{task}: it is not clear whether its bands have the wrong names of the published files, since {judged} "
            "hold values of neither them nor a repaired copy: download the task again"
        )
    return real if wrong else {}


def _eurosat_is_wrong(seen: Mapping[str, BandMeans]) -> bool | None:
    """Whether the cirrus band, the darkest by far, lies under another name; None where it lies nowhere."""
    if _S09 not in seen or _S10 not in seen:
        return None
    dark = [name for name in (_S09, _S10) if seen[name].mean < _CIRRUS]
    return None if len(dark) != 1 else dark == [_S09]


def _brick_kiln_is_wrong(seen: Mapping[str, BandMeans]) -> bool | None:
    """Whether an 8-bit picture lies under the names of short-wave infrared."""
    short = [seen[name] for name in (_S11, _S12) if name in seen]
    pictures = [each.most <= _BYTE for each in short]
    return None if len(short) != 2 or any(pictures) != all(pictures) else all(pictures)


def correction_note(task: str, real: Mapping[str, str | None]) -> str:
    """The sentence that says what was corrected."""
    listed = ", ".join(f"{name!r} is {band or 'a true-colour picture'}" for name, band in real.items())
    return f"{task}: names of bands are corrected, as the means of its bands show that they are wrong: {listed}"
