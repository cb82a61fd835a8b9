"""Scaled dot-product attention over short sequences, by one of torch's kernels or by our own."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from mmae.config.schema import AttentionKernel
from mmae.model.short_attention.applicable import takes
from mmae.model.short_attention.operators import short_cross_attention, short_self_attention

# Seen on an H100 in bfloat16, 50 tokens, heads of 64: forward and backward 0.91 ms by the memory-efficient kernels,
# 1.16 by cuDNN's (torch's own choice), 1.62 by FlashAttention. With heads of 80 cuDNN's lead: 1.45, 2.01, 1.63.
_NARROW: Final = (
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.MATH,
)
_NARROW_HEAD: Final = 64


def self_attention(qkv_BLD: Tensor, num_heads: int, kernel: AttentionKernel) -> Tensor:
    """Packed queries, keys and values (..., L, 3 D), each in contiguous heads -> (..., L, D), scaled by e^-0.5."""
    *batch, length, width = qkv_BLD.shape
    qkv_BL3He = qkv_BLD.reshape(-1, length, 3, num_heads, width // (3 * num_heads))
    if kernel == "short" and takes(length, qkv_BL3He):
        attended_BLHe: Tensor = short_self_attention(qkv_BL3He)
    else:
        attended_BLHe = attend(*qkv_BL3He.permute(2, 0, 3, 1, 4).unbind(0)).transpose(1, 2)
    return attended_BLHe.reshape(*batch, length, -1)


def cross_attention(query_BnD: Tensor, kv_BLD: Tensor, num_heads: int, kernel: AttentionKernel) -> Tensor:
    """Queries (..., n, D) read packed keys and values (..., L, 2 D), each in contiguous heads -> (..., n, D)."""
    *batch, length, width = query_BnD.shape
    query_BnHe = query_BnD.reshape(-1, length, num_heads, width // num_heads)
    kv_BL2He = kv_BLD.reshape(-1, kv_BLD.shape[-2], 2, num_heads, width // num_heads)
    if kernel == "short" and takes(length, kv_BL2He):
        attended_BnHe: Tensor = short_cross_attention(query_BnHe, kv_BL2He)
    else:
        key, value = kv_BL2He.permute(2, 0, 3, 1, 4).unbind(0)
        attended_BnHe = attend(query_BnHe.transpose(1, 2), key, value).transpose(1, 2)
    return attended_BnHe.reshape(*batch, length, width)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(..., H, n, e), (..., H, L, e), (..., H, L, e) -> (..., H, n, e), scaled by e^-0.5; H heads of width e."""
    if query.is_cuda and query.shape[-1] <= _NARROW_HEAD:
        with sdpa_kernel(list(_NARROW), set_priority=True):
            return scaled_dot_product_attention(query, key, value)
    if query.device.type == "cpu" and query.dtype is torch.bfloat16:
        # Seen on two cores, batch 32, 12 heads of 64, 50 tokens, forward and backward: in bfloat16 49 ms by
        # FlashAttention for CPUs and 23 by the math path, from contiguous float32 18.
        attended = scaled_dot_product_attention(_whole(query), _whole(key), _whole(value))
        return attended.to(query.dtype)
    return scaled_dot_product_attention(query, key, value)


def _whole(x: Tensor) -> Tensor:
    return x.to(torch.float32, memory_format=torch.contiguous_format)
