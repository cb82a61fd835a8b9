"""The number of a model's parameters in closed form: no model is built, and torch is not needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mmae.config.schema import ModelConfig
from mmae.modalities import MODALITIES, Modality, output_source
from mmae.variants import Variant

CLASS_WIDTH: Final = 64
"""Width of a class embedding (`tokenizer.CLASS_WIDTH`, which needs torch)."""
ALIGNED: Final = 8
"""Rows of the product that makes visible tokens are a multiple of so many numbers (`tokenizer.ALIGNED`)."""
DECODER_MLP_RATIO: Final = 4
"""Of the decoders' perceptrons (`layers.MLP_RATIO`, which needs torch)."""


@dataclass(frozen=True)
class ParameterCounts:
    """Trainable numbers, by part."""

    tokenizer: int
    encoder: int
    decoders: int
    loss_balancer: int

    @property
    def total(self) -> int:
        return self.tokenizer + self.encoder + self.decoders + self.loss_balancer


def parameter_counts(
    config: ModelConfig, variant: Variant | None = None, table: Mapping[str, Modality] = MODALITIES
) -> ParameterCounts:
    """The exact number of learned parameters, including those of the loss balancer.

    Args:
        table: what the input modalities are.
    """
    variant = variant or config.variant
    outputs = len(config.outputs)
    block = _block_parameters(variant.dim, variant.mlp_dim)
    return ParameterCounts(
        tokenizer=sum(_adapter_parameters(table[name], config, variant.dim) for name in config.in_domains),
        encoder=config.num_global_tokens * variant.dim + variant.depth * block,
        decoders=sum(_decoder_parameters(output, config, variant.dim) for output in config.outputs),
        loss_balancer=outputs if config.task_balancer == "uncertainty" else 0,
    )


def patch_inputs(modality: Modality, config: ModelConfig) -> int:
    """Numbers of a patch that enter the projection to a token."""
    channels = CLASS_WIDTH if modality.categorical else len(modality.bands)
    return int(channels * modality.patch(config.patch_size) ** 2)


def visible_row(config: ModelConfig) -> int:
    """Numbers of a visible token's row in the one product that makes all of them (`Tokenizer`).

    Each input has a place for its patch (of class ids, for a number of each class) and one for its bias.
    """
    total = 0
    for modality in (MODALITIES[name] for name in config.in_domains):
        total += modality.channels * modality.patch(config.patch_size) ** 2 + 1
    return total + -total % ALIGNED


def patch_values(output: str, config: ModelConfig) -> int:
    """Numbers of a patch that an output predicts."""
    source = output_source(output)
    return int(source.channels * source.patch(config.patch_size) ** 2)


def _weights(inputs: int, outputs: int) -> int:
    """Parameters of a linear layer with bias."""
    return inputs * outputs + outputs


def _norm(width: int) -> int:
    return 2 * width


def _block_parameters(width: int, mlp: int) -> int:
    attention = _weights(width, 3 * width) + _weights(width, width)
    return attention + _weights(width, mlp) + _weights(mlp, width) + 2 * _norm(width)


def _adapter_parameters(modality: Modality, config: ModelConfig, dim: int) -> int:
    embedding = modality.num_classes * CLASS_WIDTH
    return embedding + _weights(patch_inputs(modality, config), dim) + _positions(config, dim)


def _positions(config: ModelConfig, width: int) -> int:
    return config.tokens_per_modality * width if config.positions == "learned" else 0


def _decoder_parameters(output: str, config: ModelConfig, dim: int) -> int:
    width = config.decoder_dim
    hidden = DECODER_MLP_RATIO * width
    tokens = width + len(config.in_domains) * width + _positions(config, width)
    cross = 2 * _weights(width, width) + _weights(width, 2 * width)
    mlp = _weights(width, hidden) + _weights(hidden, width)
    blocks = config.decoder_depth * _block_parameters(width, hidden)
    out = _weights(width, patch_values(output, config))
    return tokens + _weights(dim, width) + 3 * _norm(width) + cross + mlp + blocks + out
