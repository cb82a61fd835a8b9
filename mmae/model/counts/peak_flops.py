"""The arithmetic that a device can do at most, by its maker's datasheet. MFU is a share of it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from mmae.model.counts.flops import float8_flops_per_tile, training_flops_per_tile
from mmae.model.counts.named_parts import frozen_parts

if TYPE_CHECKING:
    import torch

    from mmae.config.schema import Config

DENSE_BF16: Final = MappingProxyType({"H100": 989e12, "H200": 989e12, "GH200": 989e12, "A100": 312e12, "L40S": 362e12})
"""FLOPs a second in bf16 and fp16 without sparsity, of boards with the full power limit (H100 SXM: NVIDIA H100
datasheet)."""

MEMORY_BANDWIDTH: Final = MappingProxyType(
    {"H100": 3.35e12, "H200": 4.8e12, "GH200": 4.0e12, "A100": 2.04e12, "L40S": 0.864e12}
)
"""Bytes a second of these boards' memory (H100 SXM, GH200 with HBM3, A100 SXM 80GB; NVIDIA's datasheets)."""


def peak_of_recipe(half: float, config: Config) -> float | None:
    """The most FLOPs a second of a recipe's step, by a device's figure for bf16; None where nothing is comparable.

    All boards above that multiply in float8 do it twice as fast. Emulated float8 is multiplied in float32.
    """
    if config.train.float8 is None:
        return half
    if config.train.float8 == "emulated":
        return None
    frozen = frozen_parts(config)
    faster = float8_flops_per_tile(config.model, frozen=frozen) / training_flops_per_tile(config.model, frozen=frozen)
    return half / (1 - faster / 2)


def datasheet_flops(device: torch.device, dtype: torch.dtype) -> tuple[float, str] | None:
    """FLOPs a second of this device, and its model; None where no figure is known, as for every CPU."""
    import torch

    if device.type != "cuda" or dtype not in {torch.bfloat16, torch.float16}:
        return None
    return flops_of_model(torch.cuda.get_device_name(device))


def flops_of_model(name: str) -> tuple[float, str] | None:
    """The same by a device's name, such as `NVIDIA H100 80GB HBM3`."""
    words = {*name.split(), *name.replace("-", " ").split()}
    for model, flops in DENSE_BF16.items():
        if model in words:
            return flops, model
    return None
