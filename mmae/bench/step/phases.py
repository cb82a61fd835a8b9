"""Where the time of a step goes: each part's forward and backward pass is timed alone, on its inputs in the step."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median_high
from typing import Any

import torch
from torch import Tensor

from mmae.engine.module import PretrainModule
from mmae.losses import combine
from mmae.types import Inputs, MaskPlan, ModelOutput


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(run: Callable[[], object], device: torch.device) -> float:
    """The seconds of one run, including the device's work."""
    synchronise(device)
    began = time.perf_counter()
    run()
    synchronise(device)
    return time.perf_counter() - began


def seconds(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """The median seconds of repeated runs after one warm-up."""
    run()
    return median_high(timed(run, device) for _ in range(repeats))


def part_runs(module: PretrainModule, inputs: Inputs, plan: MaskPlan, count_O: Tensor) -> dict[str, Callable[[], None]]:
    """Forward and backward of the encoder (with tokenizer), the decoders and the losses, each from detached inputs."""
    model = module.model
    with torch.no_grad():
        encoded_BLD = model.encoded(inputs.values, plan)
        patches = model.decoders(encoded_BLD, plan.keep_BK)

    def encoder() -> None:
        out_BLD = model.encoded(inputs.values, plan)
        torch.autograd.backward([out_BLD], [encoded_BLD])

    def decoders() -> None:
        out = model.decoders(encoded_BLD.detach().requires_grad_(), plan.keep_BK)
        torch.autograd.backward(list(out.values()), [patches[name] for name in out])

    def losses() -> None:
        leaves = {name: patch.detach().requires_grad_() for name, patch in patches.items()}
        loss_OB = module.sample_losses(ModelOutput(leaves, encoded_BLD), inputs, plan, module.config)
        torch.autograd.backward([combine(loss_OB, count_O, 1.0)[0]])

    return {"encoder": encoder, "decoders": decoders, "losses": losses}


def drop_gradients(module: Any) -> None:
    for parameter in module.parameters():
        parameter.grad = None
