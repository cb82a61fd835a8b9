"""The kernels as torch's operators, with their gradients: compiled graphs hold them whole, recomputation can keep them.

The gradient of packed queries, keys and values is packed in the same way, as the projection's backward pass takes it.
Triton is imported when an operator first runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from mmae.model.short_attention.block_shapes import block_shapes


@custom_op("mmae::short_self_attention", mutates_args=(), schema="(Tensor qkv) -> Tensor")
def short_self_attention(qkv_Bn3He: Tensor) -> Tensor:
    """Packed queries, keys and values (B, n, 3, H, e) -> (B, n, H, e), scaled by e^-0.5."""
    query, key, value = _rows(qkv_Bn3He).unbind(2)
    return _forward(query, key, value)


@custom_op("mmae::short_self_attention_backward", mutates_args=(), schema="(Tensor qkv, Tensor gradient) -> Tensor")
def short_self_attention_backward(qkv_Bn3He: Tensor, gradient_BnHe: Tensor) -> Tensor:
    """The gradient of `short_self_attention`'s input, (B, n, 3, H, e), from that of its result."""
    out_Bn3He = qkv_Bn3He.new_empty(qkv_Bn3He.shape)
    _backward(_rows(qkv_Bn3He).unbind(2), gradient_BnHe, out_Bn3He.unbind(2))
    return out_Bn3He


@custom_op("mmae::short_cross_attention", mutates_args=(), schema="(Tensor query, Tensor kv) -> Tensor")
def short_cross_attention(query_BnHe: Tensor, kv_BL2He: Tensor) -> Tensor:
    """Queries (B, n, H, e), packed keys and values (B, L, 2, H, e) -> (B, n, H, e), scaled by e^-0.5."""
    key, value = _rows(kv_BL2He).unbind(2)
    return _forward(_rows(query_BnHe), key, value)


@custom_op(
    "mmae::short_cross_attention_backward",
    mutates_args=(),
    schema="(Tensor query, Tensor kv, Tensor gradient) -> (Tensor, Tensor)",
)
def short_cross_attention_backward(
    query_BnHe: Tensor, kv_BL2He: Tensor, gradient_BnHe: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of `short_cross_attention`'s two inputs, in their shapes, from that of its result."""
    dquery_BnHe, dkv_BL2He = query_BnHe.new_empty(query_BnHe.shape), kv_BL2He.new_empty(kv_BL2He.shape)
    inputs = (_rows(query_BnHe), *_rows(kv_BL2He).unbind(2))
    _backward(inputs, gradient_BnHe, (dquery_BnHe, *dkv_BL2He.unbind(2)))
    return dquery_BnHe, dkv_BL2He


def _rows(x: Tensor) -> Tensor:
    """The tensor, or a copy if columns or heads do not lie side by side."""
    heads, width = x.shape[-2:]
    beside = (width == 1 or x.stride(-1) == 1) and (heads == 1 or x.stride(-2) == width)
    return x if beside else x.contiguous()


def _forward(query_BnHe: Tensor, key_BLHe: Tensor, value_BLHe: Tensor) -> Tensor:
    from mmae.model.short_attention.triton_kernels import short_attention_forward

    out_BnHe = query_BnHe.new_empty(query_BnHe.shape)
    _launch(short_attention_forward, (query_BnHe, key_BLHe, value_BLHe, out_BnHe))
    return out_BnHe


def _backward(inputs: Sequence[Tensor], gradient_BnHe: Tensor, outputs: Sequence[Tensor]) -> None:
    from mmae.model.short_attention.triton_kernels import short_attention_backward

    _launch(short_attention_backward, (*inputs, _rows(gradient_BnHe), *outputs))


def _launch(kernel: Any, tensors: Sequence[Tensor]) -> None:
    """Run a kernel on tensors (B, rows, H, e), whose first two are queries and keys."""
    from mmae.model.short_attention.triton_kernels import INTERPRETED

    (batch, queries, heads, width), keys = tensors[0].shape, tensors[1].shape[1]
    shapes = block_shapes(queries, keys, width, tensors[0].itemsize)
    strides = [stride for tensor in tensors for stride in tensor.stride()[:2]]
    with _on(tensors[0].device):
        kernel[(batch * heads,)](
            *tensors, width**-0.5, queries, keys, heads, *strides,
            **shapes.constants(INTERPRETED), num_warps=shapes.warps, num_stages=1,
        )  # fmt: skip


def _on(device: torch.device) -> AbstractContextManager[Any]:
    """Triton launches on the current device, whichever the tensors are on."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@short_self_attention.register_fake
def _(qkv_Bn3He: Tensor) -> Tensor:
    batch, length, _, heads, width = qkv_Bn3He.shape
    return qkv_Bn3He.new_empty(batch, length, heads, width)


@short_self_attention_backward.register_fake
def _(qkv_Bn3He: Tensor, _gradient_BnHe: Tensor) -> Tensor:
    return qkv_Bn3He.new_empty(qkv_Bn3He.shape)


@short_cross_attention.register_fake
def _(query_BnHe: Tensor, _kv_BL2He: Tensor) -> Tensor:
    return query_BnHe.new_empty(query_BnHe.shape)


@short_cross_attention_backward.register_fake
def _(query_BnHe: Tensor, kv_BL2He: Tensor, _gradient_BnHe: Tensor) -> tuple[Tensor, Tensor]:
    return query_BnHe.new_empty(query_BnHe.shape), kv_BL2He.new_empty(kv_BL2He.shape)


def _keep_inputs(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _self_gradient(context: Any, gradient_BnHe: Tensor) -> Tensor:
    dqkv_Bn3He: Tensor = short_self_attention_backward(*context.saved_tensors, gradient_BnHe)
    return dqkv_Bn3He


def _cross_gradients(context: Any, gradient_BnHe: Tensor) -> tuple[Tensor, Tensor]:
    dquery_BnHe, dkv_BL2He = short_cross_attention_backward(*context.saved_tensors, gradient_BnHe)
    return dquery_BnHe, dkv_BL2He


short_self_attention.register_autograd(_self_gradient, setup_context=_keep_inputs)
short_cross_attention.register_autograd(_cross_gradients, setup_context=_keep_inputs)
