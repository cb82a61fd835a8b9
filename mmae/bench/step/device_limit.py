"""How many multiplications and additions a device can do at most: what a share of FLOPs (MFU) is a share of."""

from __future__ import annotations

from functools import cache
from types import MappingProxyType
from typing import Final

import torch

from mmae.bench.step.phases import timed
from mmae.model.counts.peak_flops import datasheet_flops

_SIDE: Final = MappingProxyType({"cuda": 8192, "cpu": 2048})


@cache
def peak_flops(device: torch.device, dtype: torch.dtype) -> tuple[float, str]:
    """FLOPs a second, and where the figure is from: the maker's where known, else a large product, measured."""
    if (known := datasheet_flops(device, dtype)) is not None:
        flops, model = known
        return flops, f"{model}'s datasheet"
    side = _SIDE[device.type]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    # The first runs are slower, and so never the quickest.
    taken = min(timed(lambda: torch.mm(left, right, out=out), device) for _ in range(8))
    return 2 * side**3 / taken, f"a product of {side} x {side}, measured"
