"""A task of a benchmark, whatever suite it is from: its splits, its bands, and batches in the units of MMEarth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from mmae.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmae.modalities import S2Level

Kind = Literal["classification", "multilabel", "segmentation", "regression", "pixel_regression"]
Unit = Literal["stored", "picture"]

TRAIN: Final = "train"
VALID: Final = "valid"

VECTOR_PROTOCOLS: Final = ("knn", "linear")
"""Protocols for tasks with an answer a tile."""
DENSE_PROTOCOLS: Final = ("linear-seg", "upernet")
"""Protocols for tasks with an answer a pixel."""
PROTOCOLS: Final = (*VECTOR_PROTOCOLS, *DENSE_PROTOCOLS)
"""Protocols of a frozen encoder."""
FINETUNE: Final = "finetune"
"""The protocol that trains the encoder too; it fits every task."""

NOT_SCORED: Final = -1
"""The label of a pixel that is in no score."""


@dataclass(frozen=True)
class TaskInfo:
    """What a task asks for.

    Attributes:
        name: as the suite spells it.
        kind: of answer.
        outputs: classes, labels or targets.
        metric: the name of the score that is compared with published ones.
    """

    name: str
    kind: Kind
    outputs: int
    metric: str

    @property
    def dense(self) -> bool:
        """Whether every pixel has an answer."""
        return self.kind in {"segmentation", "pixel_regression"}

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols that fit."""
        return (*(DENSE_PROTOCOLS if self.dense else VECTOR_PROTOCOLS), FINETUNE)


@dataclass(frozen=True, eq=False)
class Tiles:
    """A batch.

    Attributes:
        arrays: dataset -> float32 (B, C, H, W) with the bands of `BenchmarkTask.bands`, NaN where there is no data.
        labels: classification int64 (B,); multilabel uint8 (B, K); segmentation int64 (B, H, W), `NOT_SCORED` where a
            pixel does not count; regression float32 (B, 1); pixel_regression float32 (B, H, W), NaN where a pixel does
            not count.
    """

    arrays: Mapping[str, NDArray[np.float32]]
    labels: NDArray[Any]


@dataclass(frozen=True, eq=False)
class BenchmarkTask(ABC):
    """A task that is open for reading.

    Attributes:
        info: what it asks for.
        partition: the name of the split of its samples.
        splits: name -> ids of samples: `train`, `valid`, then those that are tested.
        level: of its Sentinel-2 bands; None where they are pictures.
        notes: sentences about how the files were read, to print.
    """

    info: TaskInfo
    partition: str
    splits: Mapping[str, tuple[str, ...]]
    level: S2Level | None
    notes: Sequence[str]

    @property
    @abstractmethod
    def bands(self) -> Mapping[str, tuple[str, ...]]:
        """MMEarth's dataset -> names of the bands of its arrays, in order."""

    @property
    @abstractmethod
    def units(self) -> Mapping[str, Unit]:
        """Dataset -> `stored`: MMEarth's units; `picture`: 0 to 255 without a physical scale."""

    @abstractmethod
    def read(self, ids: Sequence[str]) -> Tiles:
        """The samples with these ids, in their order.

        Raises:
            InputError: a file is missing or damaged.
        """

    @abstractmethod
    def fingerprint(self, ids: Sequence[str]) -> str:
        """Hexadecimal digits that change with these samples, their files, and with how they are read."""

    @abstractmethod
    def places(self, ids: Sequence[str]) -> NDArray[np.float64] | None:
        """Latitude and longitude of the middle of each sample (N, 2), NaN where unknown; None where none is known."""

    @property
    @abstractmethod
    def half_diagonal_km(self) -> float:
        """From the middle of a sample to its corners on the ground; 0 where it is not known."""

    @property
    def tests(self) -> tuple[str, ...]:
        """The names of the splits that are tested."""
        return tuple(name for name in self.splits if name not in {TRAIN, VALID})

    def check_data(self, samples: Mapping[str, int]) -> None:
        """Refuse the task if a model sees nothing of a whole split.

        Args:
            samples: split -> how many of it hold data in some input of the model.

        Raises:
            InputError: the message names the split.
        """
        for split, count in samples.items():
            if not count:
                raise InputError(
                    f"{self.info.name}, {self.partition}: no sample of split {split} holds data in any input of the "
                    "model: leave the task out"
                )
