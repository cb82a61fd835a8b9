"""The averaged weights of a checkpoint: a file of each rank, with its part of each parameter by name and place.

Names and places do not depend on how the parts were divided, so any number of ranks at any ZeRO stage reads them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mmae.disk.json_text import parse_json
from mmae.errors import InputError
from mmae.run.layout import AVERAGE

_ABOUT: Final = "average"
"""The only key of a file's metadata, of which several have no order: the same average makes the same bytes."""
_STARTS: Final = "starts"
_HALF_LIFE: Final = "half_life_tiles"


@dataclass(frozen=True)
class AveragePart:
    """A part of a parameter's average.

    Attributes:
        start: the place of its first number in the flattened parameter.
        numbers: float32, flat.
    """

    start: int
    numbers: Tensor


class KeptAverage(Protocol):
    """An average that a training keeps. Every rank has its part."""

    half_life: int

    def parts(self) -> Mapping[str, AveragePart]: ...


@dataclass(frozen=True)
class _Piece:
    start: int
    size: int
    file: Any

    @property
    def end(self) -> int:
        return self.start + self.size


def average_file(average: KeptAverage) -> bytes | None:
    """The content of this rank's file; None where it has no part."""
    parts = average.parts()
    if not parts:
        return None
    about = {_HALF_LIFE: average.half_life, _STARTS: {name: part.start for name, part in parts.items()}}
    tensors = {name: part.numbers.detach().cpu().contiguous() for name, part in parts.items()}
    content: bytes = save(tensors, {_ABOUT: json.dumps(about)})
    return content


class StoredAverage:
    """Reads a checkpoint's average piece by piece.

    Attributes:
        half_life: in tiles.
    """

    def __init__(self, checkpoint: Path, files: list[Path]) -> None:
        self._checkpoint = checkpoint
        self._pieces: dict[str, list[_Piece]] = {}
        self.half_life = 0
        try:
            for path in files:
                self._add(path)
        except (SafetensorError, OSError, LookupError, TypeError, ValueError) as error:
            raise self._damaged(f"cannot be read ({error})") from error

    def read(self, name: str, numel: int, start: int, size: int) -> Tensor:
        """Numbers of a parameter's average, flat float32 (size,).

        Args:
            numel: how many the parameter has in all.
            start: of the first one to read.

        Raises:
            InputError: the files do not hold exactly the parameter.
        """
        pieces = sorted(self._pieces.get(name, ()), key=lambda piece: piece.start)
        ends = [0, *(piece.end for piece in pieces)]
        if [piece.start for piece in pieces] != ends[:-1] or ends[-1] != numel:
            raise self._damaged(f"do not hold the {numel} numbers of {name}")
        wanted = [
            piece.file.get_slice(name)[max(0, start - piece.start) : min(piece.size, start + size - piece.start)]
            for piece in pieces
            if piece.start < start + size and start < piece.end
        ]
        return torch.cat(wanted) if wanted else torch.empty(0)

    def _add(self, path: Path) -> None:
        # It has no types.
        file: Any = safe_open(path, framework="pt")
        about = parse_json((file.metadata() or {})[_ABOUT])
        starts, self.half_life = about[_STARTS], int(about[_HALF_LIFE])
        for name in file.keys():  # noqa: SIM118 (not a mapping)
            found = file.get_slice(name)
            if found.get_dtype() != "F32" or len(found.get_shape()) != 1:
                raise ValueError(f"{name!r} is not a row of float32 numbers")
            self._pieces.setdefault(name, []).append(_Piece(int(starts[name]), found.get_shape()[0], file))

    def _damaged(self, how: str) -> InputError:
        return InputError(
            f"{self._checkpoint}: its averaged weights ({AVERAGE}) {how}: take another checkpoint, or go without them"
        )


def open_average(checkpoint: Path) -> StoredAverage | None:
    """A checkpoint's average; None where it has none.

    Raises:
        InputError: its files cannot be read.
    """
    files = sorted(checkpoint.glob(AVERAGE))
    return StoredAverage(checkpoint, files) if files else None
