"""Labels of whole samples: from JSON tables where they are there, and from the sample's pickle where they are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.errors import InputError
from mmae.evaluate.benchmark.geobench.inert_pickle import class_of, labels_of
from mmae.evaluate.benchmark.tasks.suite_files import REMEDY, read_json_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.evaluate.benchmark.geobench.sample_file import SampleFile

_MAP: Final = "label_map.json"
_STATS: Final = "label_stats.json"
_KEY: Final = "label"


@dataclass(frozen=True, eq=False)
class ClassLabels:
    """Labels of one task.

    Attributes:
        several: whether a sample has several labels at once.
        outputs: number of classes or labels.
        listed: sample id -> its class or labels, as far as tables say them.
    """

    several: bool
    outputs: int
    listed: Mapping[str, Any]

    def of(self, sample: str, opened: SampleFile) -> NDArray[np.int64]:
        """The class of a sample as an array (), or its labels (K,) of 0 and 1.

        Raises:
            InputError: its label is missing, or is no label of the task.
        """
        label = self.listed[sample] if sample in self.listed else opened.description().get(_KEY)
        try:
            return self._labels(label) if self.several else self._class(label)
        except ValueError as error:
            raise InputError(f"{opened.path}: {error}: {REMEDY}") from None

    def _class(self, label: Any) -> NDArray[np.int64]:
        number = class_of(label)
        if not 0 <= number < self.outputs:
            raise ValueError(f"label {number} is none of the {self.outputs} classes")
        return np.array(number, np.int64)

    def _labels(self, label: Any) -> NDArray[np.int64]:
        values_K = labels_of(label).astype(np.float64)
        if values_K.shape != (self.outputs,) or not np.isin(values_K, (0, 1)).all():
            raise ValueError(f"the label of shape {values_K.shape} is none of {self.outputs} zeros and ones")
        return values_K.astype(np.int64)


def read_labels(folder: Path, several: bool, outputs: int) -> ClassLabels:
    """The labels that a task's tables say.

    Raises:
        InputError: a table is damaged.
    """
    path = folder / (_STATS if several else _MAP)
    if not path.exists():
        return ClassLabels(several, outputs, {})
    said = read_json_file(path)
    if not isinstance(said, dict) or not all(isinstance(values, list) for values in said.values()):
        raise InputError(f"{path} is no table of labels: {REMEDY}")
    return ClassLabels(several, outputs, said if several else _by_sample(said))


def _by_sample(said: Mapping[str, list[Any]]) -> dict[str, int]:
    # Some tables name classes by words; the samples' own labels are numbers.
    if not all(key.isdecimal() for key in said):
        return {}
    return {sample: int(key) for key, samples in said.items() for sample in samples if isinstance(sample, str)}
