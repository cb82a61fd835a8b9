"""What people read of a validation beside its losses: IoU a class, and RMSE in metres, reflectance, dB or degrees.

They are taken over the losses' own pixels: those with data that were hidden, or all with `model.loss_on_unmasked`. Each
pixel counts once, whatever tile it belongs to; a loss is a mean over tiles. `norm_rgb` has none: it predicts patches
without their mean and spread, and `rgb` says the same in reflectance.

Shape suffixes: X sums of an output, c true classes, e predicted ones (the one for no data is last).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor

from mmae.config.schema import ModelConfig
from mmae.losses import hidden_tokens, patchify
from mmae.modalities import MODALITIES, Modality
from mmae.model.mmae import MultiMAE
from mmae.types import Inputs, MaskPlan, ModelOutput

_READ_AS: Final = MappingProxyType({"reflectance x 10000": ("reflectance", 1e-4)})
"""Stored units that people read in others: their name, and the factor."""


@dataclass(frozen=True)
class ValScores:
    """The scores of a validation, the same on all ranks. None where there is no pixel to score.

    Attributes:
        iou: of each class of each categorical output: intersection over union; None for a class that neither labels
            nor predictions hold.
        mean_iou: its mean over the other classes.
        rmse: of each continuous output, over its bands.
        units: of `rmse`.
    """

    iou: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    mean_iou: Mapping[str, float | None] = field(default_factory=dict)
    rmse: Mapping[str, float | None] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)


class ScoreSums:
    """Adds up batches on the device, without waiting for it. Every rank has one."""

    def __init__(self, config: ModelConfig, device: torch.device) -> None:
        self._config = config
        self._rows = [MODALITIES[name] for name in config.out_domains]
        sizes = [row.no_data_class * row.num_classes if row.categorical else 2 for row in self._rows]
        # Counts are whole numbers, which double precision adds without rounding.
        self._sums = [torch.zeros(size, dtype=torch.float64, device=device) for size in sizes]

    def add(self, output: ModelOutput, inputs: Inputs, plan: MaskPlan, units: Mapping[str, Tensor]) -> None:
        """Count a batch.

        Args:
            output: the model's predictions.
            units: of `Preprocess.units`.
        """
        for row, sum_X in zip(self._rows, self._sums, strict=True):
            side = row.patch(self._config.patch_size)
            predicted_BnCpp = output.patches[row.name]
            target, valid = patchify(inputs.values[row.name], side), patchify(inputs.valid[row.name], side)
            scored_Bn = hidden_tokens(row.name, inputs, plan, self._config) & inputs.real_B[:, None]
            if row.categorical:
                sum_X.add_(_confusion(predicted_BnCpp, target, valid & scored_Bn[:, :, None, None], row))
            else:
                valid = valid & scored_Bn[:, :, None, None, None]
                sum_X.add_(_squares(predicted_BnCpp, target, valid, units[row.name].double()))

    def total(self) -> ValScores:
        """The scores over all ranks. Collective."""
        flat = torch.cat(self._sums)
        dist.all_reduce(flat)
        sums = dict(zip(self._rows, torch.split(flat.cpu(), [len(each) for each in self._sums]), strict=True))
        iou = {row.name: _iou(sums[row], row) for row in self._rows if row.categorical}
        squares = {row: sums[row].tolist() for row in self._rows if not row.categorical}
        return ValScores(
            iou,
            {name: _mean([each for each in classes.values() if each is not None]) for name, classes in iou.items()},
            {
                row.name: _read_as(row)[1] * (total / count) ** 0.5 if count else None
                for row, (total, count) in squares.items()
            },
            {row.name: _read_as(row)[0] for row in squares},
        )


@contextmanager
def predictions_of(model: MultiMAE) -> Iterator[list[ModelOutput]]:
    """Within the context, each forward pass of the model appends its output to the list; take it out there."""
    outputs: list[ModelOutput] = []
    hook = model.register_forward_hook(lambda _model, _args, output: outputs.append(output))
    try:
        yield outputs
    finally:
        hook.remove()


def _confusion(logits_BnCpp: Tensor, ids_Bnpp: Tensor, scored_Bnpp: Tensor, row: Modality) -> Tensor:
    """Scored pixels by true and predicted class, float64 (c * e,)."""
    scored_Bnpp = scored_Bnpp & (ids_Bnpp != row.no_data_class)
    cells = row.no_data_class * row.num_classes
    cell_Bnpp = torch.where(scored_Bnpp, ids_Bnpp * row.num_classes + logits_BnCpp.argmax(dim=2), cells)
    counts = torch.zeros(cells + 1, dtype=torch.int64, device=ids_Bnpp.device)
    counts.scatter_add_(0, cell_Bnpp.flatten(), torch.ones_like(cell_Bnpp).flatten())
    return counts[:cells].double()


def _squares(predicted_BnCpp: Tensor, target_BnCpp: Tensor, scored_BnCpp: Tensor, unit_BC: Tensor) -> Tensor:
    """Sum of squared errors in stored units, and their number, float64 (2,)."""
    unit_B1C11 = unit_BC[:, None, :, None, None]
    scored_BnCpp = scored_BnCpp & (unit_B1C11 > 0)
    error_BnCpp = torch.where(scored_BnCpp, predicted_BnCpp.float() - target_BnCpp, 0).double() * unit_B1C11
    return torch.stack([error_BnCpp.square().sum(), scored_BnCpp.sum().double()])


def _iou(counts: Tensor, row: Modality) -> dict[str, float | None]:
    counts_ce = counts.view(row.no_data_class, row.num_classes)
    right_c = counts_ce.diagonal()
    union_c = counts_ce.sum(1) + counts_ce[:, : row.no_data_class].sum(0) - right_c
    pairs = zip(row.class_names, right_c.tolist(), union_c.tolist(), strict=True)
    return {name: right / union if union else None for name, right, union in pairs}


def _mean(numbers: list[float]) -> float | None:
    return sum(numbers) / len(numbers) if numbers else None


def _read_as(row: Modality) -> tuple[str, float]:
    return _READ_AS.get(row.units, (row.units, 1.0))
