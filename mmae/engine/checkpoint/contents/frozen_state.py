"""Frozen state: persistent buffers and frozen parameters, whole, by name. The optimiser holds neither.

DeepSpeed's conversions lose both. Stored beside its files they can be loaded with any number of ranks and any stage.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

FROZEN_TENSORS: Final = "untrained.safetensors"


def frozen_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Copies of the frozen state on the CPU. Collective where parameters are sharded; empty where all is trained."""
    # Not at the top: `read_frozen_tensors` needs no DeepSpeed, and an export imports it in its own way.
    from mmae.engine.deepspeed_internals.sharded_parameters import gathered

    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    found: dict[str, Tensor] = {}
    for name, tensor in _held(module).items():
        if name not in trained:
            with gathered(tensor):
                found[name] = tensor.detach().cpu().clone().contiguous()
    return found


def load_frozen_tensors(module: nn.Module, checkpoint: Path) -> None:
    """Load a checkpoint's frozen state, if it has one. Collective where parameters are sharded."""
    from mmae.engine.deepspeed_internals.sharded_parameters import gathered

    stored = read_frozen_tensors(checkpoint)
    held = _held(module)
    for name in sorted(stored):
        tensor = held[name]
        with torch.no_grad(), gathered(tensor, modifier_rank=0):
            # After a gather, rank 0's value is sent to all ranks.
            tensor.copy_(stored[name])


def read_frozen_tensors(checkpoint: Path) -> dict[str, Tensor]:
    """What `frozen_tensors` returned when the checkpoint was written."""
    file = checkpoint / FROZEN_TENSORS
    tensors: dict[str, Tensor] = load_file(file) if file.is_file() else {}
    return tensors


def _held(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter and persistent buffer itself, by its name in `state_dict`."""
    persistent = set(module.state_dict())
    buffers = {name: buffer for name, buffer in module.named_buffers() if name in persistent}
    return {**dict(module.named_parameters()), **buffers}
