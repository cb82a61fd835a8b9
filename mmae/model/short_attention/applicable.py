"""Where the kernels can run, and the reason where they cannot. Nothing here imports triton."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from functools import cache
from typing import Final

import torch

from mmae.config.schema import ModelConfig
from mmae.model.short_attention.block_shapes import MOST_TOKENS, MOST_WIDTH

DTYPES: Final = frozenset({torch.float32, torch.bfloat16, torch.float16})
_LEAST_CAPABILITY: Final = (8, 0)
_YES: Final = frozenset({"1", "true", "on", "yes", "y"})


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def runs_on(device_type: str, index: int | None) -> bool:
    """Whether the kernels run on this device; asked once a graph where it is compiled."""
    return device_refusal(device_type, index) is None


@cache
def device_refusal(device_type: str, index: int | None) -> str | None:
    """Why the kernels do not run on a device; None: they do."""
    interpreted = os.environ.get("TRITON_INTERPRET", "").lower() in _YES
    if device_type != "cuda" and not (device_type == "cpu" and interpreted):
        return "it needs a GPU"
    if torch.version.hip is not None:
        return "it needs an NVIDIA GPU"
    if importlib.util.find_spec("triton") is None:
        return "the package triton is missing (pip install triton)"
    if device_type == "cuda" and torch.cuda.get_device_capability(index) < _LEAST_CAPABILITY:
        return f"it needs a GPU of compute capability {'.'.join(map(str, _LEAST_CAPABILITY))} or newer"
    return None


def fits(queries: int, keys: int, width: int, dtype: torch.dtype) -> bool:
    """Whether the kernels take heads of these shapes."""
    return 1 <= queries <= MOST_TOKENS and 1 <= keys <= MOST_TOKENS and width <= MOST_WIDTH and dtype in DTYPES


def unused_line(config: ModelConfig, device: torch.device) -> str | None:
    """One line for the start of a run whose `model.attention=short` cannot be heeded everywhere; else None."""
    if config.attention != "short":
        return None
    if reason := device_refusal(device.type, device.index):
        return f"model.attention=short: {reason}: torch's attention runs instead"
    layers = "; ".join(_shape_refusals(config))
    return f"model.attention=short: {layers}: torch's attention runs there" if layers else None


def _shape_refusals(config: ModelConfig) -> Iterator[str]:
    length, places = config.num_encoded_tokens + config.num_global_tokens, config.tokens_per_modality
    width = config.variant.dim // config.variant.num_heads
    decoder_width = config.decoder_dim // config.decoder_num_heads
    layers = [("the encoder", length, width), ("the decoders' cross-attention", max(length, places), decoder_width)]
    if config.decoder_depth:
        layers.append(("the decoders' self-attention", places, decoder_width))
    for what, tokens, columns in layers:
        if tokens > MOST_TOKENS:
            yield f"{what} has {tokens} tokens, more than {MOST_TOKENS}"
        elif columns > MOST_WIDTH:
            yield f"{what} has heads of {columns} columns, more than {MOST_WIDTH}"
