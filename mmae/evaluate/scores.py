"""Scores of any predictions over many tiles, on the same pixels as validation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mmae.config.schema import ModelConfig
from mmae.losses import hidden_tokens, patchify, sample_losses, scored
from mmae.modalities import output_source
from mmae.types import Inputs, MaskPlan, ModelOutput

Predict = Callable[[Inputs, MaskPlan], ModelOutput]


@dataclass(frozen=True)
class Score:
    """The scores of one output over all tiles.

    Attributes:
        loss: mean over the tiles that are scored; NaN if there are none.
        accuracy: share of scored pixels with the right class as the likeliest; NaN without pixels or classes.
    """

    loss: float
    accuracy: float


@torch.no_grad()
def score(
    predictors: Mapping[str, Predict], tiles: Iterable[tuple[Inputs, MaskPlan]], config: ModelConfig
) -> dict[str, dict[str, Score]]:
    """The score of each predictor, by output."""
    sums = {name: torch.zeros(4, len(config.outputs), dtype=torch.float64) for name in predictors}
    for inputs, plan in tiles:
        count_O = scored(inputs, plan, config).sum(1).cpu()
        for name, predict in predictors.items():
            output = predict(inputs, plan)
            sums[name][0] += sample_losses(output, inputs, plan, config).sum(1).cpu()
            sums[name][1] += count_O
            hits_O2 = [_hits_and_pixels(each, output, inputs, plan, config) for each in config.outputs]
            sums[name][2:] += torch.stack(hits_O2, dim=1).cpu()
    return {name: _scores(config.outputs, sum_4O) for name, sum_4O in sums.items()}


def _scores(outputs: tuple[str, ...], sum_4O: Tensor) -> dict[str, Score]:
    loss_O, accuracy_O = sum_4O[0] / sum_4O[1], sum_4O[2] / sum_4O[3]
    return {name: Score(loss_O[place].item(), accuracy_O[place].item()) for place, name in enumerate(outputs)}


def _hits_and_pixels(name: str, output: ModelOutput, inputs: Inputs, plan: MaskPlan, config: ModelConfig) -> Tensor:
    """Number of scored pixels with the right class, and of all scored pixels: int64 (2,); 0 without classes."""
    source = output_source(name)
    if not source.categorical:
        return torch.zeros(2, dtype=torch.int64, device=inputs.key_B.device)
    side = source.patch(config.patch_size)
    ids_Bnpp = patchify(inputs.values[source.name], side)
    hidden_Bn = hidden_tokens(name, inputs, plan, config) & inputs.real_B[:, None]
    scored_Bnpp = patchify(inputs.valid[source.name], side) & hidden_Bn[:, :, None, None]
    right_Bnpp = output.patches[name].argmax(dim=2) == ids_Bnpp
    return torch.stack([(right_Bnpp & scored_Bnpp).sum(), scored_Bnpp.sum()])
