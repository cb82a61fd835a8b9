"""What a task minimises: a sum over known labels, and the weight that it is divided by.

The loss of a step is that of the global batch: sums of all micro-batches and ranks, over their weight together. So it
does not depend on how the batch is split.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import torch
from torch.nn import functional

from mmae.finetune.labelled.label_sources import known

if TYPE_CHECKING:
    from torch import Tensor

    from mmae.config.finetune_schema import TaskConfig
    from mmae.finetune.labelled.census import SplitCensus
    from mmae.finetune.training.mixing import Mixed
    from mmae.model.tuned.task import Task


class Objective:
    """The loss of a task.

    Args:
        train: the census of the training labels, from which class weights come.
    """

    def __init__(self, task: Task, config: TaskConfig, train: SplitCensus, device: torch.device) -> None:
        self._task, self._smoothing = task, config.label_smoothing
        self._regression = _REGRESSIONS[config.regression_loss]
        self._weight_K: Tensor | None = None
        if config.class_weights == "balanced":
            count_K = torch.from_numpy(train.count_K).to(device, torch.float32)
            present = int((count_K > 0).sum())
            # A class without a training label has no loss either.
            self._weight_K = torch.where(count_K > 0, count_K.sum() / (present * count_K.clamp(min=1)), 0)
        if task.regression:
            self._mean_K, self._std_K = (torch.tensor(each, device=device) for each in (task.mean, task.std))

    def weight(self, mixed: Mixed) -> Tensor:
        """What the sum of `loss` is divided by, float64 scalar. It depends on labels only."""
        total = self._weights(mixed.samples.labels, mixed.share_B).sum(dtype=torch.float64)
        if mixed.others is not None:
            total = total + self._weights(mixed.others, 1 - mixed.share_B).sum(dtype=torch.float64)
        return total

    def loss(self, outputs: Tensor, mixed: Mixed) -> Tensor:
        """The weighted sum of the losses of all known labels, float32 scalar.

        Args:
            outputs: of the model, any floating dtype.
        """
        outputs = outputs.float()
        total = self._sum(outputs, mixed.samples.labels, mixed.share_B)
        if mixed.others is not None:
            total = total + self._sum(outputs, mixed.others, 1 - mixed.share_B)
        return total

    def _sum(self, outputs: Tensor, labels: Tensor, share_B: Tensor) -> Tensor:
        return (self._each(outputs, labels) * self._weights(labels, share_B)).sum()

    def _weights(self, labels: Tensor, share_B: Tensor) -> Tensor:
        """Of each label, float32 of the labels' shape; 0 where it is not known."""
        weights = known(labels).to(torch.float32) * share_B.view(-1, *(1 for _ in labels.shape[1:]))
        return weights if self._weight_K is None else weights * self._weight_K[labels.clamp(min=0)]

    def _each(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The loss of each label, of the labels' shape; anything finite where it is not known."""
        if not labels.is_floating_point():
            return functional.cross_entropy(
                outputs, labels.clamp(min=0), reduction="none", label_smoothing=self._smoothing
            )
        labels = torch.where(known(labels), labels, 0)
        if self._task.kind == "multilabel":
            return functional.binary_cross_entropy_with_logits(outputs, labels, reduction="none")
        shape = (1, -1, *(1 for _ in labels.shape[2:]))
        return self._regression(outputs - (labels - self._mean_K.view(shape)) / self._std_K.view(shape))


def _berhu(error: Tensor) -> Tensor:
    """Linear near 0, quadratic beyond 1 (Laina et al., 3DV 2016; their threshold is a fifth of a batch's largest error,
    which depends on the batch)."""
    size = error.abs()
    return torch.where(size <= 1, size, (size.square() + 1) / 2)


_REGRESSIONS: Final[dict[str, Callable[[Tensor], Tensor]]] = {"l1": torch.abs, "l2": torch.square, "berhu": _berhu}
