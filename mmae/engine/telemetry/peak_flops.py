"""What makers say a device can multiply and add at most: what a share of FLOPs (MFU) is a share of."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

import torch

_DENSE_BF16: Final = MappingProxyType({"H100": 989e12, "H200": 989e12, "GH200": 989e12, "A100": 312e12, "L40S": 362e12})
"""Makers' figures without sparsity, for boards with the full power limit (H100 SXM: NVIDIA H100 datasheet)."""


def datasheet_flops(device: torch.device, dtype: torch.dtype) -> tuple[float, str] | None:
    """FLOPs a second and the model that they are of; None where no figure is known, as of every CPU."""
    if device.type != "cuda" or dtype not in {torch.bfloat16, torch.float16}:
        return None
    return flops_of_model(torch.cuda.get_device_name(device))


def flops_of_model(name: str) -> tuple[float, str] | None:
    """The same by a device's name, such as `NVIDIA H100 80GB HBM3`."""
    words = {*name.split(), *name.replace("-", " ").split()}
    for model, flops in _DENSE_BF16.items():
        if model in words:
            return flops, model
    return None
