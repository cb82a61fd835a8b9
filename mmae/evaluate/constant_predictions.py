"""Predictions that ignore the input: the mean of each channel, and the class frequencies of a label map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from mmae.config.schema import ModelConfig
from mmae.modalities import NORM_RGB, output_source
from mmae.types import Inputs, ModelOutput


def fit(tiles: Iterable[Inputs], outputs: Iterable[str]) -> dict[str, Tensor]:
    """The constant prediction of each output from some tiles: (C,) float32, channel means or log frequencies."""
    sums: dict[str, Tensor] = {}
    for inputs in tiles:
        for name in outputs:
            sums[name] = sums.get(name, 0) + _sum_and_count(name, inputs)
    return {name: _constant(name, *sum_2C).float() for name, sum_2C in sums.items()}


def constant_output(constants: Mapping[str, Tensor], inputs: Inputs, config: ModelConfig) -> ModelOutput:
    """The constants as a model's output: the same in every pixel of every tile."""
    size, tokens = len(inputs.key_B), config.tokens_per_modality
    patches = {}
    for name, constant_C in constants.items():
        side = output_source(name).patch(config.patch_size)
        patches[name] = constant_C[None, None, :, None, None].expand(size, tokens, -1, side, side)
    return ModelOutput(patches=patches, encoded_BLD=torch.empty(size, 0, 0))


def _sum_and_count(name: str, inputs: Inputs) -> Tensor:
    """For channels the sum and the number of values, for classes the number of pixels of each: (2, C) float64."""
    modality = output_source(name)
    values, valid = inputs.values[modality.name], inputs.valid[modality.name]
    if modality.categorical:
        counted_C = torch.bincount(values[valid], minlength=modality.num_classes).double()
        return torch.stack([counted_C, torch.ones_like(counted_C)])
    return torch.stack([(values * valid).sum((0, 2, 3)), valid.sum((0, 2, 3))]).double()


def _constant(name: str, sum_C: Tensor, count_C: Tensor) -> Tensor:
    if name == NORM_RGB:
        # Its target has mean zero in every patch.
        return torch.zeros_like(sum_C)
    if output_source(name).categorical:
        return (sum_C / sum_C.sum()).clamp(min=1e-9).log()
    return sum_C / count_C
