"""Where the kernels can run, and the reason where they cannot. Nothing here imports triton."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from functools import cache
from typing import Final

import torch
from torch import Tensor

from mmae.config.schema import AttentionKernel, ModelConfig
from mmae.model.short_attention.block_shapes import MOST_TOKENS, MOST_WIDTH

DTYPES: Final = frozenset({torch.float32, torch.bfloat16, torch.float16})
_LEAST_CAPABILITY: Final = (8, 0)
INTERPRETED: Final = os.environ.get("TRITON_INTERPRET", "").lower() in {"1", "true", "on", "yes", "y"}
"""Whether Triton will interpret the kernels, also on a CPU."""


@cache
def device_refusal(device_type: str, index: int | None) -> str | None:
    """Why the kernels do not run on a device; None: they do."""
    if device_type != "cuda" and not (device_type == "cpu" and INTERPRETED):
        return "it needs a GPU"
    if torch.version.hip is not None:
        return "it needs an NVIDIA GPU"
    if importlib.util.find_spec("triton") is None:
        return "the package triton is missing (pip install triton)"
    if device_type == "cuda" and torch.cuda.get_device_capability(index) < _LEAST_CAPABILITY:
        return f"it needs a GPU of compute capability {'.'.join(map(str, _LEAST_CAPABILITY))} or newer"
    return None


def kernel_here(asked: AttentionKernel) -> AttentionKernel:
    """The kernel that a model takes which is built here: torch's if ours cannot run on the current device.

    Layers ask this when they are built, because a compiler cannot trace it.
    """
    if asked == "torch":
        return asked
    device_type, index = ("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else ("cpu", None)
    return "torch" if device_refusal(device_type, index) else "short"


def takes(queries: int, packed_BLpHe: Tensor) -> bool:
    """Whether the kernels take these keys or values, and this number of queries; a compiler may trace this."""
    _, keys, _, _, width = packed_BLpHe.shape
    return (packed_BLpHe.is_cuda or INTERPRETED) and fits(queries, keys, width, packed_BLpHe.dtype)


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
