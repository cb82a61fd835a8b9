"""What a fine-tuned model predicts; torch is not needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mmae.config.finetune_schema import TaskKind
from mmae.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


_DENSE: Final = ("segmentation", "pixel_regression")
_REGRESSION: Final = ("regression", "pixel_regression")
_MOST: Final = 65536
_CODES: Final = 2**31

Name = Annotated[str, Field(min_length=1, max_length=200)]
Names = Annotated[tuple[Name, ...], Field(max_length=_MOST)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Code = Annotated[int, Field(ge=-_CODES, lt=_CODES)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Task:
    """A task.

    Attributes:
        kind: of a tile: `classification` (one class), `multilabel` (any number of classes), `regression` (numbers);
            of each pixel: `segmentation` (one class), `pixel_regression` (numbers).
        name: what is predicted; it names files.
        classes: a name for each class id; none for regressions.
        class_codes: the number of each class in files; None: its id.
        ignore: the label that means "not known", among class ids; no loss counts it.
        targets: a name for each number that is predicted; none for classes.
        units: of each target.
        mean, std: of each target, in its units: the model predicts (target - mean) / std.
    """

    kind: TaskKind
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
    classes: Names = ()
    class_codes: Annotated[tuple[Code, ...], Field(max_length=_MOST)] | None = None
    ignore: Code | None = None
    targets: Names = ()
    units: Annotated[tuple[Annotated[str, Field(max_length=200)], ...], Field(max_length=_MOST)] = ()
    mean: Annotated[tuple[Finite, ...], Field(max_length=_MOST)] = ()
    std: Annotated[tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], Field(max_length=_MOST)] = ()

    @property
    def dense(self) -> bool:
        """Whether each pixel has its own label."""
        return self.kind in _DENSE

    @property
    def regression(self) -> bool:
        return self.kind in _REGRESSION

    @property
    def outputs(self) -> int:
        """Numbers that the model gives a tile, or a pixel."""
        return len(self.targets if self.regression else self.classes)

    @property
    def codes(self) -> tuple[int, ...]:
        """The number of each class in files."""
        return tuple(range(len(self.classes))) if self.class_codes is None else self.class_codes

    def unscaled(self, out: Tensor) -> Tensor:
        """What a regression gives, (B, K) or (B, K, H, W), in the units of its targets; float32."""
        import torch

        shape = (1, -1, *(1 for _ in out.shape[2:]))
        mean, std = (torch.tensor(numbers, device=out.device).view(shape) for numbers in (self.mean, self.std))
        return out.float() * std + mean

    def check(self) -> None:
        """Refuse a task that contradicts itself.

        Raises:
            InputError: the first contradiction.
        """
        for problem in self._problems():
            raise InputError(f"task {self.name}: {problem}")

    def _problems(self) -> Iterator[str]:
        if self.regression:
            if not self.targets or self.classes or self.class_codes is not None or self.ignore is not None:
                yield f"a {self.kind} has targets, and no classes, class_codes or ignore"
            for key in ("units", "mean", "std"):
                if len(getattr(self, key)) != len(self.targets):
                    yield f"{key} has {len(getattr(self, key))} entries for {len(self.targets)} targets"
        else:
            if self.targets or self.units or self.mean or self.std:
                yield f"a {self.kind} has classes, and no targets, units, mean or std"
            fewest = 1 if self.kind == "multilabel" else 2
            if len(self.classes) < fewest:
                yield f"a {self.kind} needs {fewest} classes at least, and {len(self.classes)} are named"
            if len(set(self.codes)) != len(self.classes):
                yield "class_codes must have one number a class, each once"
            if self.ignore is not None and 0 <= self.ignore < len(self.classes):
                yield f"ignore={self.ignore} is the id of the class {self.classes[self.ignore]!r}: take another number"
        names = self.targets or self.classes
        if len(set(names)) != len(names):
            yield "two classes or targets have the same name"
