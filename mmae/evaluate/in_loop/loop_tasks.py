"""What probes predict of a tile while a model trains: its label, the method, and the score.

The label is of the whole tile as it is stored: a class by vote of its pixels, or the mean of its pixels; unknown if
less than half of them hold data.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor

from mmae.data.shards.columns import UNKNOWN_BIOME
from mmae.data.transforms.labels import class_ids, class_table
from mmae.data.transforms.validity import is_data, widen
from mmae.errors import InputError, did_you_mean
from mmae.evaluate.frozen.methods import Knn, Method, Ridge
from mmae.evaluate.frozen.metrics import METRICS
from mmae.evaluate.frozen.parts import Part, Task
from mmae.evaluate.frozen.sweep import Candidate, probe
from mmae.evaluate.in_loop.probed_tiles import Share
from mmae.modalities import MODALITIES, Modality
from mmae.types import Batch

NEIGHBOURS: Final = 20
_VALIDATES: Final = 4
"""Every so many-th tile of those that are fitted chooses the penalty of a ridge."""
_FEWEST: Final = NEIGHBOURS + NEIGHBOURS // (_VALIDATES - 1) + 1
"""Tiles to fit on, of which every fourth one is not a neighbour."""


@dataclass(frozen=True)
class LoopTask:
    """A task.

    Attributes:
        modality: whose pixels the label is made of; empty: the index's biome.
    """

    name: str
    modality: str = ""

    @property
    def is_class(self) -> bool:
        """Whether the label is a class: kNN and accuracy; otherwise a number: ridge and R2."""
        return not self.modality or MODALITIES[self.modality].categorical

    def labels(self, share: Share) -> Tensor:
        """The labels of a rank's tiles: float64 (B,), NaN where unknown."""
        if not self.modality:
            biome_B = torch.from_numpy(share.biome_B)
            return torch.where(biome_B == UNKNOWN_BIOME, torch.nan, biome_B.double())
        return torch.cat([_pixel_labels(each, MODALITIES[self.modality]) for each in share.stored] or [torch.empty(0)])


TASKS: Final = MappingProxyType(
    {
        task.name: task
        for task in (
            LoopTask("biome"),
            LoopTask("land_cover", "semseg"),
            LoopTask("dynamic_world", "dynamic_world"),
            LoopTask("elevation", "depth"),
            LoopTask("slope", "slope"),
            LoopTask("canopy_height", "canopy_height"),
        )
    }
)


def find_tasks(names: tuple[str, ...]) -> list[LoopTask]:
    """The tasks of these names.

    Raises:
        InputError: there is no such task, or what it needs is not installed.
    """
    for name in names:
        if name not in TASKS:
            raise InputError(f"eval.tasks: there is no task {name!r}{did_you_mean(name, TASKS)}")
        if not TASKS[name].is_class and find_spec("sklearn") is None:
            raise InputError(f"eval.tasks: {name} needs scikit-learn, which is not installed: pip install 'mmae[eval]'")
    return [TASKS[name] for name in names]


@dataclass(frozen=True, eq=False)
class Labelled:
    """The tiles of a task: what is fitted and what is scored.

    Attributes:
        fit_N, score_M: int64, numbers of tiles among the chosen ones.
        y_N, y_M: their targets: int64 (N,) classes, or float64 (N, 1).
        classes: how many; 0 for numbers.
    """

    fit_N: Tensor
    score_M: Tensor
    y_N: Tensor
    y_M: Tensor
    classes: int

    def score(self, vectors_SD: Tensor) -> float:
        """The accuracy of kNN, or R2 of a ridge, from features of all chosen tiles; NaN where R2 is not defined.

        Raises:
            InputError: features that are not finite.
        """
        if self.classes:
            task, method, metric, normaliser = Task("classes", self.classes), _KNN, METRICS["accuracy"], "centre"
        else:
            task, method, metric, normaliser = Task("values", 1), _RIDGE, METRICS["r2"], "zscore"
        fitted, asked = Part(vectors_SD[self.fit_N], self.y_N), Part(vectors_SD[self.score_M], self.y_M)
        chooses_N = torch.arange(len(fitted)) % _VALIDATES == _VALIDATES - 1
        candidate = Candidate(-1, "mean", fitted[~chooses_N], fitted[chooses_N], asked)
        prediction = probe(task, [candidate], method, metric, (normaliser,)).prediction
        return metric.compute(prediction, asked.y)


_KNN: Final[Method] = Knn((float(NEIGHBOURS),))
_RIDGE: Final[Method] = Ridge()


def labelled(task: LoopTask, label_S: Tensor, fitted: int) -> Labelled:
    """The tiles with a known label. Classes that no fitted tile has are not scored.

    Args:
        label_S: float64, NaN where a tile has no label or cannot be used.
        fitted: so many tiles, the first ones, are fitted.

    Raises:
        InputError: too few labels, only one class, or the same number everywhere.
    """
    known_S = ~label_S.isnan()
    number_S = torch.arange(len(label_S))
    fit_N, score_M = number_S[known_S & (number_S < fitted)], number_S[known_S & (number_S >= fitted)]
    if len(fit_N) < _FEWEST:
        raise InputError(
            f"eval.tasks: {task.name}: only {len(fit_N)} of the {fitted} tiles of training have a label, and a probe "
            f"needs {_FEWEST} (k {NEIGHBOURS}): set a larger eval.tiles, or leave the task out"
        )
    if task.is_class:
        score_M = score_M[torch.isin(label_S[score_M], label_S[fit_N])]
    if not len(score_M):
        raise InputError(
            f"eval.tasks: {task.name}: none of the {len(label_S) - fitted} tiles of val has a label that tiles of "
            "training have, too: leave the task out, or set a larger eval.tiles"
        )
    for part, of in ((fit_N, "training"), (score_M, "val")):
        if len(torch.unique(label_S[part])) < 2:
            what = "are of one class" if task.is_class else "have one value"
            raise InputError(
                f"eval.tasks: {task.name}: all {len(part)} labelled tiles of {of} {what}, which no probe can tell "
                "apart: leave the task out, or set a larger eval.tiles"
            )
    if not task.is_class:
        return Labelled(fit_N, score_M, label_S[fit_N][:, None], label_S[score_M][:, None], 0)
    classes = torch.unique(label_S[fit_N])
    y_N, y_M = (torch.searchsorted(classes, label_S[part]) for part in (fit_N, score_M))
    return Labelled(fit_N, score_M, y_N, y_M, len(classes))


def _pixel_labels(batch: Batch, row: Modality) -> Tensor:
    """The vote or the mean of each tile's pixels with data, float64 (B,); NaN if they are less than half."""
    pixels_BHW = batch.pixels[row.dataset][:, row.bands[0]]
    stored_BHW = widen(_signed(pixels_BHW), pixels_BHW.dtype == torch.uint16)
    if row.categorical:
        stored_Bn = class_ids(stored_BHW, class_table(row, torch.device("cpu"))).flatten(1)
        valid_Bn = stored_Bn != row.no_data_class
        votes_Bc = (stored_Bn[..., None] == torch.arange(row.no_data_class)).sum(1)
        label_B = votes_Bc.argmax(1).double()
    else:
        valid_Bn = is_data(stored_BHW, row.no_data).flatten(1)
        total_B = torch.where(valid_Bn, stored_BHW.flatten(1).double(), 0).sum(1)
        label_B = total_B / valid_Bn.sum(1).clamp(min=1)
    return torch.where(2 * valid_Bn.sum(1) >= valid_Bn.shape[1], label_B, torch.nan)


def _signed(pixels: Tensor) -> Tensor:
    return pixels.view(torch.int16) if pixels.dtype == torch.uint16 else pixels
