"""Floating-point operations of a model, in closed form: no model is built, and torch is not needed.

Counted are matrix products, convolutions and attention, a multiplication and an addition as two, as torch's own counter
does; norms, activations, embeddings and losses are left out. Only visible tokens reach the encoder.

Shape letters as in `mmae.types`; m is the hidden width of the encoder's MLPs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mmae.config.schema import ModelConfig
from mmae.modalities import MODALITIES, Modality
from mmae.model.counts.parameter_counts import DECODER_MLP_RATIO, patch_inputs, patch_values, visible_row
from mmae.variants import Variant


@dataclass(frozen=True)
class Flops:
    """Floating-point operations.

    Attributes:
        forward: those of the forward pass.
        backward: those of the backward pass, if nothing is computed twice.
        recomputed: done again in the backward pass: checkpointed blocks, and the scores of fused attention kernels.
    """

    forward: int
    backward: int
    recomputed: int = 0

    @property
    def model(self) -> int:
        """The operations that the model needs, as counted in a model FLOPs utilisation (MFU)."""
        return self.forward + self.backward

    @property
    def hardware(self) -> int:
        """All operations, including recomputed ones."""
        return self.model + self.recomputed

    def __add__(self, other: Flops) -> Flops:
        return Flops(self.forward + other.forward, self.backward + other.backward, self.recomputed + other.recomputed)


@dataclass(frozen=True)
class ModelFlops:
    """Operations for one tile, by part."""

    tokenizer: Flops
    encoder: Flops
    decoders: Flops

    @property
    def total(self) -> Flops:
        return self.tokenizer + self.encoder + self.decoders


@dataclass(frozen=True)
class Recomputation:
    """What the backward pass recomputes, by `train.activation_checkpointing` and in attention kernels.

    Attributes:
        how: `full` computes a block again but for what nothing needs; `selective` no matrix product and no attention.
        every: only blocks with a number that is a multiple of it.
        fused_attention: kernels that do not keep the scores compute them again; plain matrix products keep them.
    """

    how: Literal["none", "selective", "full"] = "none"
    every: int = 1
    fused_attention: bool = True


def training_flops_per_tile(
    config: ModelConfig, variant: Variant | None = None, frozen: frozenset[str] = frozenset()
) -> int:
    """Forward and backward of one tile without recomputation: what an MFU divides by time and peak.

    Args:
        frozen: parts of which nothing learns (`named_parts.frozen_parts`), which have no gradients of weights. In front
            of all that learns there is no backward pass.
    """
    found, variant = model_flops(config, variant), variant or config.variant
    backward = found.total.backward
    if "tokenizer" in frozen:
        backward -= found.tokenizer.backward
    if {"tokenizer", "encoder"} <= frozen:
        backward -= found.encoder.backward + _context_gradients(config, variant)
    elif "encoder" in frozen:
        backward -= found.encoder.forward - variant.depth * _encoder_attention(config, variant)
    if "decoders" in frozen:
        backward -= found.decoders.forward - _decoder_attention(config)
    return found.total.forward + backward


def float8_flops_per_tile(
    config: ModelConfig, variant: Variant | None = None, frozen: frozenset[str] = frozenset()
) -> int:
    """Those of `training_flops_per_tile` that `train.float8` makes in float8: of the encoder's large linear layers."""
    variant = variant or config.variant
    length, width, hidden = config.num_encoded_tokens + config.num_global_tokens, variant.dim, variant.mlp_dim
    layers = ((width, 3 * width), (width, width), (width, hidden), (hidden, width))
    faster = sum(_linear(length, *layer) for layer in layers if gains_by_float8(*layer))
    passes = 1 if {"tokenizer", "encoder"} <= frozen else 2 if "encoder" in frozen else 3
    return passes * variant.depth * faster


def gains_by_float8(inputs: int, outputs: int) -> bool:
    """Whether a linear layer is large enough to gain more than rounding costs: torchao's rule, found on an H100."""
    return outputs > 1024 or inputs > 4096


def _encoder_attention(config: ModelConfig, variant: Variant) -> int:
    """Forward operations of a block's attention, which has no weights."""
    length = config.num_encoded_tokens + config.num_global_tokens
    return _attention(length, length, variant.dim)


def _decoder_attention(config: ModelConfig) -> int:
    places, context = config.tokens_per_modality, config.num_encoded_tokens + config.num_global_tokens
    own = config.decoder_depth * _attention(places, places, config.decoder_dim)
    return len(config.outputs) * (_attention(places, context, config.decoder_dim) + own)


def _context_gradients(config: ModelConfig, variant: Variant) -> int:
    """Of the encoder's output, which the decoders read."""
    context = config.num_encoded_tokens + config.num_global_tokens
    return len(config.outputs) * _linear(context, variant.dim, config.decoder_dim)


def model_flops(
    config: ModelConfig,
    variant: Variant | None = None,
    recomputation: Recomputation = Recomputation(),
) -> ModelFlops:
    """Operations of training on one tile.

    Args:
        variant: encoder size; that of `config.size` if None.
    """
    variant = variant or config.variant
    tokenizer = _tokenizer(config, variant.dim)
    return ModelFlops(tokenizer, _encoder(config, variant, recomputation), _decoders(config, variant, recomputation))


@dataclass(frozen=True)
class _Block:
    """Forward operations of a transformer block over `length` tokens, by what recomputation treats apart."""

    first: int
    attention: int
    last: int

    @staticmethod
    def of(length: int, width: int, mlp: int) -> _Block:
        projections = _linear(length, width, 3 * width) + _linear(length, width, width)
        return _Block(
            projections + _linear(length, width, mlp), _attention(length, length, width), _linear(length, mlp, width)
        )

    @property
    def forward(self) -> int:
        return self.first + self.attention + self.last

    def flops(self, depth: int, recomputation: Recomputation, last_is_kept: bool) -> Flops:
        """Operations of `depth` such blocks."""
        again = 0
        if recomputation.how == "full":
            blocks = -(-depth // recomputation.every)
            # Nothing behind the last product is kept for the backward pass, unless its result is multiplied again.
            again = blocks * (self.first + self.attention + (self.last if last_is_kept else 0))
        scores = depth * _scores_again(self.attention, recomputation)
        return Flops(depth * self.forward, 2 * depth * self.forward, again + scores)


def _linear(length: int, inputs: int, outputs: int) -> int:
    return 2 * length * inputs * outputs


def _attention(queries: int, keys: int, width: int) -> int:
    """Scores, and their products with the values; heads share the width."""
    return 2 * _linear(queries, keys, width)


def _scores_again(attention: int, recomputation: Recomputation) -> int:
    return attention // 2 if recomputation.fused_attention else 0


def _tokenizer(config: ModelConfig, dim: int) -> Flops:
    if config.makes_visible_only:
        # Pixels and class ids need no gradient. Products of class embeddings and kernels are few, whatever the batch.
        forward = _linear(config.num_encoded_tokens, visible_row(config), dim)
        return Flops(forward, forward)
    total = Flops(0, 0)
    for name in config.in_domains:
        total += _adapter(MODALITIES[name], config, dim)
    return total


def _adapter(modality: Modality, config: ModelConfig, dim: int) -> Flops:
    forward = _linear(config.tokens_per_modality, patch_inputs(modality, config), dim)
    # Pixels need no gradient; class embeddings do.
    return Flops(forward, 2 * forward if modality.categorical else forward)


def _encoder(config: ModelConfig, variant: Variant, recomputation: Recomputation) -> Flops:
    length = config.num_encoded_tokens + config.num_global_tokens
    block = _Block.of(length, variant.dim, variant.mlp_dim)
    return block.flops(variant.depth, recomputation, last_is_kept=config.drop_path > 0)


def _decoders(config: ModelConfig, variant: Variant, recomputation: Recomputation) -> Flops:
    total = Flops(0, 0)
    width, places = config.decoder_dim, config.tokens_per_modality
    context = config.num_encoded_tokens + config.num_global_tokens
    hidden = DECODER_MLP_RATIO * width
    cross = _attention(places, context, width)
    block = _Block.of(places, width, hidden)
    for output in config.outputs:
        forward = (
            _linear(context, variant.dim, width)
            + _linear(context, width, 2 * width)
            + 2 * _linear(places, width, width)
            + cross
            + 2 * _linear(places, width, hidden)
            + _linear(places, width, patch_values(output, config))
        )
        total += Flops(forward, 2 * forward, _scores_again(cross, recomputation))
        total += block.flops(config.decoder_depth, recomputation, last_is_kept=False)
    return total
