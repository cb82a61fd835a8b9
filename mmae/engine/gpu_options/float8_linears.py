"""Products in float8 within the linear layers of the encoder's blocks (torchao; `train.float8`).

Each of a product's two tensors is multiplied so that its largest number is float8's largest, rounded, and the product
divided again: weights and activations to e4m3, gradients to e5m2 (Micikevicius et al., "FP8 Formats for Deep Learning",
2022). Parameters stay what they are, under the same names.
"""

from __future__ import annotations

import logging
import re
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import torch
from torch import nn

from mmae.config.checks import LEAST_FLOAT8_WIDTH
from mmae.config.schema import TrainConfig
from mmae.engine.module import PretrainModule
from mmae.errors import InputError
from mmae.model.counts.flops import gains_by_float8

_LEAST_CAPABILITY: Final = (8, 9)
_OLDEST: Final = (0, 18)
"""The oldest torchao that this was tried with."""
_DIVISOR: Final = 16
"""Of the rows and columns of float8 matrices, by the GPU's units."""


def check_float8(train: TrainConfig, device: torch.device) -> None:
    """Refuse `train.float8` where it cannot be heeded.

    Raises:
        InputError: torchao is missing or too old, or the device has no units for float8.
    """
    if train.float8 is None:
        return
    try:
        installed = version("torchao")
    except PackageNotFoundError:
        raise InputError("train.float8 needs torchao, which is not installed: pip install 'mmae[float8]'") from None
    if tuple(map(int, re.findall(r"\d+", installed)[:2])) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise InputError(
            f"train.float8 needs torchao {oldest} or newer, and {installed} is installed: pip install 'mmae[float8]'"
        )
    if train.float8 == "tensorwise" and (reason := _device_refusal(device)):
        raise InputError(f"train.float8=tensorwise {reason}: leave it out (train.float8=emulated runs anywhere)")


def _device_refusal(device: torch.device) -> str:
    if device.type != "cuda":
        return f"needs a GPU, and this training runs on the {device.type}"
    if torch.version.hip is not None:
        return "needs an NVIDIA GPU"
    capability = torch.cuda.get_device_capability(device)
    if capability < _LEAST_CAPABILITY:
        least, here = (".".join(map(str, pair)) for pair in (_LEAST_CAPABILITY, capability))
        name = torch.cuda.get_device_name(device)
        return f"needs a GPU of compute capability {least} or newer, and {name} has {here}"
    return ""


def use_float8(module: PretrainModule, train: TrainConfig, micro_batch: int) -> None:
    """Have the linear layers of the encoder's blocks multiply in float8, if the recipe asks for it.

    Of an encoder as wide as `tensorwise` takes only those layers that gain; of a narrower one all.

    Args:
        micro_batch: tiles of a micro-batch in training.
    """
    if train.float8 is None:
        return
    # It warns of its own use of torch in a line on the screen.
    noisy = logging.getLogger("torch.utils._pytree")
    noisy.disabled, before = True, noisy.disabled
    try:
        from torchao.float8 import Float8LinearConfig, convert_to_float8_training
    finally:
        noisy.disabled = before
    narrow = module.model.variant.dim < LEAST_FLOAT8_WIDTH

    def chosen(layer: nn.Module, _name: str) -> bool:
        return isinstance(layer, nn.Linear) and (narrow or gains_by_float8(layer.in_features, layer.out_features))

    rows = micro_batch * (module.config.num_encoded_tokens + module.config.num_global_tokens)
    # Gradients of weights are sums over rows, which units for float8 take in groups.
    config = Float8LinearConfig(emulate=train.float8 == "emulated", pad_inner_dim=rows % _DIVISOR != 0)
    for block in module.model.encoder.blocks:
        convert_to_float8_training(block, module_filter_fn=chosen, config=config)
