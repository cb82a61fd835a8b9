"""The most that a device can do in a second: multiplications and additions (MFU is a share of them), bytes moved."""

from __future__ import annotations

from functools import cache
from types import MappingProxyType
from typing import Final

import torch

from mmae.bench.step.phases import timed
from mmae.model.counts.peak_flops import datasheet_flops

_SIDE: Final = MappingProxyType({"cuda": 8192, "cpu": 2048})
_COPIED_BYTES: Final = MappingProxyType({"cuda": 1 << 30, "cpu": 1 << 27})
_COPIES: Final = 4


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second that a copy of much memory reads and writes, measured now."""
    source = torch.zeros(_COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    taken = min(timed(lambda: target.copy_(source), device) for _ in range(_COPIES))
    return 2 * source.nbytes / taken


@cache
def peak_flops(device: torch.device, dtype: torch.dtype) -> tuple[float, str]:
    """FLOPs a second, and the origin of the figure: the device's datasheet, or else a measured large product."""
    if (known := datasheet_flops(device, dtype)) is not None:
        flops, model = known
        return flops, f"{model}'s datasheet"
    side = _SIDE[device.type]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    # The first runs are slower, so the minimum leaves them out.
    taken = min(timed(lambda: torch.mm(left, right, out=out), device) for _ in range(8))
    return 2 * side**3 / taken, f"a product of {side} x {side}, measured"
