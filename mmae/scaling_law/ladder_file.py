"""`ladder.json`: what a ladder's runs reached, and the recipe that they share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from mmae.config.schema import Flat
from mmae.disk.files import write_whole
from mmae.disk.json_text import parse_json
from mmae.disk.regular_file import read_regular_text
from mmae.errors import InputError
from mmae.scaling_law.law import Point

LADDER: Final = "ladder.json"
VERSION: Final = 1
ALL: Final = "all"
"""The sum of the losses of all outputs."""

_Count = Annotated[int, Field(ge=1, le=10**18)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Number = Annotated[float, Field(allow_inf_nan=False)]
_Size = Annotated[str, Field(max_length=40, pattern=r"^[\w.-]+$")]


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Rung:
    """A run of a ladder that has ended.

    Attributes:
        parameters: of the encoder.
        tiles: that training has seen, repeated ones counted again.
        flops: of the whole training, as counted in a utilisation.
        seconds: that its steps took; None if the log does not say it.
        losses: of the last validation, by output.
        probes: scores of probes at the last step, by task.
    """

    size: _Size
    parameters: _Count
    tiles: _Count
    flops: _Positive
    seconds: _Positive | None
    losses: dict[str, _Positive]
    probes: dict[str, _Number | None]


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class _File:
    version: int
    recipe: dict[str, Any]
    rungs: tuple[Rung, ...]


@dataclass(frozen=True)
class Ladder:
    """The runs of a ladder that have ended, and what their recipes share, by dotted key."""

    recipe: Flat
    rungs: tuple[Rung, ...]

    def outputs(self) -> list[str]:
        """`ALL`, and each output that every run was validated on."""
        every = [name for name in (self.rungs[0].losses if self.rungs else {}) if name != ALL]
        return [ALL, *(name for name in every if all(name in rung.losses for rung in self.rungs))]

    def points(self, output: str) -> list[Point]:
        """The points of one output, or of `ALL`."""
        names = [name for name in self.outputs() if name != ALL] if output == ALL else [output]
        return [
            Point(rung.size, rung.parameters, rung.tiles, sum(rung.losses[name] for name in names))
            for rung in self.rungs
        ]


def write_ladder(folder: Path, recipe: Mapping[str, Any], rungs: Sequence[Rung]) -> None:
    content = {"version": VERSION, "recipe": dict(recipe), "rungs": [asdict(rung) for rung in rungs]}
    write_whole(folder / LADDER, json.dumps(content, indent=1) + "\n")


def read_ladder(folder: Path) -> Ladder:
    """The ladder in a folder.

    Raises:
        InputError: there is none, or its file is damaged.
    """
    path = folder / LADDER
    try:
        found = TypeAdapter(_File).validate_python(parse_json(read_regular_text(path)))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}: {where}: {first['msg']}: run mmae ladder again") from None
    except FileNotFoundError:
        raise InputError(f"{folder}: holds no ladder (no {LADDER}): give the --out of mmae ladder") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}): run mmae ladder again") from None
    if found.version != VERSION:
        raise InputError(f"{path}: version {found.version} is not known here: run mmae ladder again")
    return Ladder(found.recipe, found.rungs)
