"""Attention forward and backward by torch's kernels and by ours, from packed projections to their packed gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from mmae.bench.step.device_limit import copy_bandwidth
from mmae.bench.step.phases import seconds
from mmae.bench.step.roofline import Attend, torch_kernels
from mmae.config.schema import Config
from mmae.model.short_attention.applicable import device_refusal, fits
from mmae.model.short_attention.operators import short_cross_attention, short_self_attention
from mmae.plan.least_work import CROSS_ATTENTION, Attention, least_work
from mmae.terminal.table import Value

_DTYPES: Final = MappingProxyType({"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32})
_JUDGED: Final = 8
"""Sequences that are compared with float64: of all of them the scores would fill the memory."""

Packed = tuple[Tensor, ...]
"""Of self-attention (B, n, 3, H, e); of cross-attention queries (B, n, H, e), keys and values (B, L, 2, H, e)."""
Way = Callable[..., Tensor]
"""Packed tensors -> (B, n, H, e)."""


def compared_rows(
    config: Config, micro_batch: int, device: torch.device, precisions: list[str], repeats: int
) -> list[dict[str, Value]]:
    """A row for each way of each attention of the recipe's model, by the keys of `command.TIMES`."""
    rows: list[dict[str, Value]] = []
    bandwidth = copy_bandwidth(device)
    for precision in precisions:
        dtype = _DTYPES[precision]
        for part in least_work(config, micro_batch, dtype.itemsize):
            if part.attention is None:
                continue
            shape, own = part.attention, part.name != CROSS_ATTENTION
            least = shape.numbers * dtype.itemsize / bandwidth
            for name, (milliseconds, *errors) in compared(shape, device, dtype, own, repeats).items():
                rows.append(
                    {
                        "precision": precision, "part": part.name, "way": name, "milliseconds": milliseconds,
                        "of_copy": least * 1e3 / milliseconds, "result_error": errors[0], "gradient_error": errors[1],
                    }
                )  # fmt: skip
    return rows


def compared(
    shape: Attention, device: torch.device, dtype: torch.dtype, own: bool, repeats: int
) -> dict[str, tuple[float, float, float]]:
    """Name of a way -> milliseconds forward and backward, and errors of the result and of gradients beside float64.

    Args:
        own: whether queries, keys and values are packed together: self-attention.
    """
    packed, gradient = _made(shape, device, dtype, own)
    few, few_gradient = tuple(each[:_JUDGED].detach() for each in packed), gradient[:_JUDGED]
    exact = _both(
        partial(_by, scaled_dot_product_attention), tuple(each.double() for each in few), few_gradient.double()
    )
    found: dict[str, tuple[float, float, float]] = {}
    for name, way in _ways(shape, device, dtype, own):
        try:
            errors = [_error(*pair) for pair in zip(_both(way, few, few_gradient), exact, strict=True)]
        except RuntimeError:
            # torch has no such kernel for this device, dtype or width.
            continue
        taken = seconds(partial(_both, way, packed, gradient), device, repeats)
        found[name] = taken * 1e3, errors[0], max(errors[1:])
    return found


def _made(shape: Attention, device: torch.device, dtype: torch.dtype, own: bool) -> tuple[Packed, Tensor]:
    def numbers(length: int, *pieces: int) -> Tensor:
        drawn = torch.randn(shape.batch, length, *pieces, shape.heads, shape.width, device=device)
        return drawn.to(dtype)

    packed = (numbers(shape.queries, 3),) if own else (numbers(shape.queries), numbers(shape.keys, 2))
    return packed, numbers(shape.queries)


def _both(way: Way, packed: Packed, gradient_BnHe: Tensor) -> tuple[Tensor, ...]:
    """The result, and the gradients of what is packed."""
    leaves = tuple(each.detach().requires_grad_() for each in packed)
    result = way(*leaves)
    return result.detach(), *torch.autograd.grad(result, leaves, gradient_BnHe)


def _error(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).abs().max() / exact.abs().max())


def _ways(shape: Attention, device: torch.device, dtype: torch.dtype, own: bool) -> Iterator[tuple[str, Way]]:
    for name, attend in torch_kernels(device):
        yield f"torch, {name}", partial(_by, attend)
    usable = fits(shape.queries, shape.keys, shape.width, dtype)
    if usable and device_refusal(device.type, device.index) is None:
        yield "short", short_self_attention if own else short_cross_attention


def _by(attend: Attend, *packed: Tensor) -> Tensor:
    if len(packed) == 1:
        query, key, value = packed[0].permute(2, 0, 3, 1, 4).unbind(0)
    else:
        query, (key, value) = packed[0].transpose(1, 2), packed[1].permute(2, 0, 3, 1, 4).unbind(0)
    return attend(query, key, value).transpose(1, 2)
