"""The learned tensors of a model by name and size, without a model: sharding goes tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator

from mmae.config.schema import ModelConfig
from mmae.modalities import MODALITIES
from mmae.model.counts.parameter_counts import CLASS_WIDTH, DECODER_MLP_RATIO, patch_inputs, patch_values

Sizes = dict[str, int]


def parameter_sizes(config: ModelConfig) -> Sizes:
    """Numbers in each tensor that is learned, by its name in the engine's module."""
    return dict([*_tokenizer(config), *_encoder(config), *_decoders(config), *_balancer(config)])


def _tokenizer(config: ModelConfig) -> Iterator[tuple[str, int]]:
    dim = config.variant.dim
    for name in config.in_domains:
        modality, at = MODALITIES[name], f"model.tokenizer.adapters.{name}"
        if modality.categorical:
            yield f"{at}.class_emb.weight", modality.num_classes * CLASS_WIDTH
        yield from _linear(f"{at}.proj", patch_inputs(modality, config), dim)
        if config.positions == "learned":
            yield f"{at}.positions.table", config.tokens_per_modality * dim


def _encoder(config: ModelConfig) -> Iterator[tuple[str, int]]:
    variant = config.variant
    if config.num_global_tokens:
        yield "model.encoder.global_tokens", config.num_global_tokens * variant.dim
    for number in range(variant.depth):
        yield from _block(f"model.encoder.blocks.{number}", variant.dim, variant.mlp_dim)


def _decoders(config: ModelConfig) -> Iterator[tuple[str, int]]:
    stack, width, at = len(config.outputs), config.decoder_dim, "model.decoders"
    hidden = DECODER_MLP_RATIO * width
    yield f"{at}.mask_token", stack * width
    yield f"{at}.task_embeddings", stack * len(config.in_domains) * width
    if config.positions == "learned":
        yield f"{at}.positions.table", stack * config.tokens_per_modality * width
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


def _balancer(config: ModelConfig) -> Iterator[tuple[str, int]]:
    if config.task_balancer == "uncertainty":
        yield "loss_balancer.log_vars", len(config.outputs)


def _block(at: str, width: int, mlp: int, stack: int = 1) -> Iterator[tuple[str, int]]:
    yield from _norm(f"{at}.norm1", width, stack)
    yield from _linear(f"{at}.attn.qkv", width, 3 * width, stack)
    yield from _linear(f"{at}.attn.proj", width, width, stack)
    yield from _norm(f"{at}.norm2", width, stack)
    yield from _linear(f"{at}.mlp.fc1", width, mlp, stack)
    yield from _linear(f"{at}.mlp.fc2", mlp, width, stack)


def _linear(at: str, inputs: int, outputs: int, stack: int = 1) -> Iterator[tuple[str, int]]:
    yield f"{at}.weight", stack * inputs * outputs
    yield f"{at}.bias", stack * outputs


def _norm(at: str, width: int, stack: int) -> Iterator[tuple[str, int]]:
    yield f"{at}.weight", stack * width
    yield f"{at}.bias", stack * width
