"""The learned tensors of a model by name, shape and size, without a model: sharding goes tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator

from mmae.config.schema import ModelConfig
from mmae.modalities import MODALITIES
from mmae.model.counts.parameter_counts import CLASS_WIDTH, DECODER_MLP_RATIO, patch_values

Sizes = dict[str, int]
Shape = tuple[int, ...]


def parameter_sizes(config: ModelConfig) -> Sizes:
    """Numbers in each tensor that is learned, by its name in the engine's module."""
    return {name: math.prod(shape) for name, shape in parameter_shapes(config).items()}


def parameter_shapes(config: ModelConfig) -> dict[str, Shape]:
    """The shape of each tensor that is learned, by its name in the engine's module."""
    return dict([*_tokenizer(config), *_encoder(config), *_decoders(config), *_balancer(config)])


def _tokenizer(config: ModelConfig) -> Iterator[tuple[str, Shape]]:
    dim = config.variant.dim
    for name in config.in_domains:
        modality, at = MODALITIES[name], f"model.tokenizer.adapters.{name}"
        channels, side = len(modality.bands), modality.patch(config.patch_size)
        if modality.categorical:
            channels = CLASS_WIDTH
            yield f"{at}.class_emb.weight", (modality.num_classes, CLASS_WIDTH)
        yield f"{at}.proj.weight", (dim, channels, side, side)
        yield f"{at}.proj.bias", (dim,)
        if config.positions == "learned":
            yield f"{at}.positions.table", (config.tokens_per_modality, dim)


def _encoder(config: ModelConfig) -> Iterator[tuple[str, Shape]]:
    variant = config.variant
    if config.num_global_tokens:
        yield "model.encoder.global_tokens", (config.num_global_tokens, variant.dim)
    for number in range(variant.depth):
        yield from _block(f"model.encoder.blocks.{number}", variant.dim, variant.mlp_dim)


def _decoders(config: ModelConfig) -> Iterator[tuple[str, Shape]]:
    count, width, at = len(config.outputs), config.decoder_dim, "model.decoders"
    stack, hidden = (count,), DECODER_MLP_RATIO * width
    yield f"{at}.mask_token", (count, width)
    yield f"{at}.task_embeddings", (count, len(config.in_domains), width)
    if config.positions == "learned":
        yield f"{at}.positions.table", (count, config.tokens_per_modality, width)
    yield from _linear(f"{at}.proj_context", config.variant.dim, width, stack)
    for norm in ("query_norm", "context_norm", "out_norm"):
        yield from _norm(f"{at}.{norm}", width, stack)
    yield from _linear(f"{at}.cross_attention.q", width, width, stack)
    yield from _linear(f"{at}.cross_attention.kv", width, 2 * width, stack)
    yield from _linear(f"{at}.cross_attention.proj", width, width, stack)
    yield from _linear(f"{at}.mlp.fc1", width, hidden, stack)
    yield from _linear(f"{at}.mlp.fc2", hidden, width, stack)
    for number in range(config.decoder_depth):
        yield from _block(f"{at}.blocks.{number}", width, hidden, stack)
    for output in config.outputs:
        yield from _linear(f"{at}.out_proj.{output}", width, patch_values(output, config))


def _balancer(config: ModelConfig) -> Iterator[tuple[str, Shape]]:
    if config.task_balancer == "uncertainty":
        yield "loss_balancer.log_vars", (len(config.outputs),)


def _block(at: str, width: int, mlp: int, stack: Shape = ()) -> Iterator[tuple[str, Shape]]:
    yield from _norm(f"{at}.norm1", width, stack)
    yield from _linear(f"{at}.attn.qkv", width, 3 * width, stack)
    yield from _linear(f"{at}.attn.proj", width, width, stack)
    yield from _norm(f"{at}.norm2", width, stack)
    yield from _linear(f"{at}.mlp.fc1", width, mlp, stack)
    yield from _linear(f"{at}.mlp.fc2", mlp, width, stack)


def _linear(at: str, inputs: int, outputs: int, stack: Shape = ()) -> Iterator[tuple[str, Shape]]:
    yield f"{at}.weight", (*stack, outputs, inputs)
    yield f"{at}.bias", (*stack, outputs)


def _norm(at: str, width: int, stack: Shape) -> Iterator[tuple[str, Shape]]:
    yield f"{at}.weight", (*stack, width)
    yield f"{at}.bias", (*stack, width)
