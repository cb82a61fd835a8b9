"""`law.json`: the fits of a ladder with their draws, so that predictions need neither another fit nor scipy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Annotated, Final

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from mmae.disk.files import write_whole
from mmae.disk.json_text import parse_json
from mmae.disk.regular_file import read_regular_text
from mmae.scaling_law.ladder_file import Ladder
from mmae.scaling_law.law import Law
from mmae.scaling_law.law_fit import DRAWS, LARGEST_EXPONENT, SMALLEST_EXPONENT, Fit, fit_law

LAW: Final = "law.json"

_Part = Annotated[float, Field(gt=0, le=1e300)]
_Exponent = Annotated[float, Field(ge=SMALLEST_EXPONENT, le=LARGEST_EXPONENT)]
_Law = tuple[_Part, _Part, _Exponent, _Part, _Exponent]


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class _Stored:
    law: _Law
    noise: Annotated[float, Field(gt=0, le=1e3)]
    draws: Annotated[tuple[_Law, ...], Field(min_length=1)]
    shifts: tuple[Annotated[float, Field(ge=-1e2, le=1e2)], ...]

    def __post_init__(self) -> None:
        if len(self.draws) != len(self.shifts):
            raise ValueError("a shift for each draw")


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class _File:
    points: str
    fits: dict[str, _Stored]


def fits_of(folder: Path, ladder: Ladder, draws: int = DRAWS) -> dict[str, Fit]:
    """The fit of each output of a ladder: those that the folder holds for these points, or new ones.

    Args:
        draws: of a new fit.

    Raises:
        InputError: too few points.
    """
    stored = _read(folder / LAW, ladder)
    return stored or {output: fit_law(ladder.points(output), draws) for output in ladder.outputs()}


def write_fits(folder: Path, ladder: Ladder, fits: Mapping[str, Fit]) -> None:
    stored = {
        output: {
            "law": astuple(fit.law),
            "noise": fit.noise,
            "draws": [astuple(law) for law in fit.draws],
            "shifts": fit.shifts.tolist(),
        }
        for output, fit in fits.items()
    }
    write_whole(folder / LAW, json.dumps({"points": _digest(ladder), "fits": stored}) + "\n")


def _read(path: Path, ladder: Ladder) -> dict[str, Fit]:
    """The stored fits; none where they are missing, damaged, or of other points."""
    try:
        found = TypeAdapter(_File).validate_python(parse_json(read_regular_text(path)))
    except (OSError, ValueError, ValidationError):
        return {}
    if found.points != _digest(ladder) or found.fits.keys() != set(ladder.outputs()):
        return {}
    return {
        output: Fit(
            tuple(ladder.points(output)),
            Law(*fit.law),
            fit.noise,
            tuple(Law(*draw) for draw in fit.draws),
            np.array(fit.shifts),
        )
        for output, fit in found.fits.items()
    }


def _digest(ladder: Ladder) -> str:
    return hashlib.sha256(repr(ladder.rungs).encode()).hexdigest()
