"""One optimiser step, and a pass that scores: the same on any number of ranks and micro-batches.

The weight that the loss is divided by is that of the global batch. It is summed over micro-batches and ranks before any
backward pass, and gradients are then sums, not means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from mmae.finetune.labelled.tuning_samples import Samples
from mmae.finetune.training.mixing import Mixed
from mmae.model.tuned.finetuned_model import prediction

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor, nn

    from mmae.finetune.labelled.tuning_samples import SampleMaker
    from mmae.finetune.training.objectives import Objective
    from mmae.model.tuned.task import Task
    from mmae.types import Batch


@dataclass(frozen=True)
class StepResult:
    """Results of a step, over all ranks.

    Attributes:
        loss: of the global batch; None where no label was known.
        labels: the weight of the known labels.
        grad_norm: before clipping; None where the step was not finite.
        updated: whether the weights were changed.
        wanted_R: how many ranks have each reason to stop.
    """

    loss: float | None
    labels: float
    grad_norm: float | None
    updated: bool
    wanted_R: list[float]


def tuning_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    objective: Objective,
    accelerator: Accelerator,
    micro_batches: Sequence[Mixed],
    clip: float,
    wanted_R: Tensor,
    bf16: bool = False,
) -> StepResult:
    """Forward and backward of every micro-batch of this rank, then the optimiser. Waits for the device.

    A step whose loss or gradient is not finite on any rank changes no weight on any rank.

    Args:
        model: as `accelerator.prepare` gives it.
        clip: largest norm of the gradient; 0 never clips.
        wanted_R: this rank's reasons to stop, float32.
        bf16: run the model in bfloat16; its weights stay float32.
    """
    weight = torch.stack([objective.weight(each) for each in micro_batches]).sum()
    dist.all_reduce(weight)
    divisor = weight.clamp(min=torch.finfo(torch.float32).tiny).to(torch.float32)
    world = dist.get_world_size()
    losses = []
    for number, mixed in enumerate(micro_batches):
        last = number == len(micro_batches) - 1
        with _in_one_reduction(model, last):
            outputs = forward(model, mixed.samples, bf16)
            loss = objective.loss(outputs, mixed) / divisor
            # Gradients are averaged over ranks, and the parts must be summed.
            accelerator.backward(loss * world)
        losses.append(loss.detach().to(torch.float64))
    reduced = torch.cat([torch.stack(losses).sum().reshape(1), wanted_R.to(torch.float64)])
    dist.all_reduce(reduced)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip or torch.inf)
    loss_value, norm_value = float(reduced[0]), float(norm)
    # The gradient is the same on all ranks, and so is the answer.
    fine = bool(torch.isfinite(reduced[0]) & torch.isfinite(norm))
    if fine:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    known = float(weight)
    return StepResult(
        loss_value if known and torch.isfinite(reduced[0]) else None,
        known,
        norm_value if fine else None,
        fine,
        reduced[1:].tolist(),
    )


def forward(model: nn.Module, samples: Samples, bf16: bool) -> Tensor:
    """The model's outputs for samples; branches that a sample skips in training depend on its key."""
    inputs = samples.inputs
    # Not accelerate's own: its precision is that of the process, and a process may train several models.
    with torch.autocast(inputs.key_B.device.type, torch.bfloat16, enabled=bf16):
        outputs: Tensor = model(inputs.values, inputs.visible(), inputs.key_B)
    return outputs


Taker = Callable[["Tensor", Samples, "Batch"], None]
"""Takes predictions, samples and the batch they were made of."""


@torch.no_grad()
def score_pass(
    model: nn.Module,
    task: Task,
    accelerator: Accelerator,
    batches: Iterable[Batch],
    make: SampleMaker,
    objective: Objective,
    take: Taker,
    bf16: bool = False,
) -> float | None:
    """Predict every tile of this rank, and hand predictions on. Collective.

    Returns:
        the loss over the known labels of all ranks; None where there are none.
    """
    was_training = model.training
    model.eval()
    sums = torch.zeros(2, dtype=torch.float64, device=accelerator.device)
    for batch in batches:
        samples = make(batch, train=False)
        outputs = forward(model, samples, bf16)
        mixed = Mixed(samples, None, torch.ones(len(samples.labels), device=samples.labels.device))
        sums += torch.stack([objective.loss(outputs, mixed).double(), objective.weight(mixed)])
        take(prediction(task, outputs), samples, batch)
    model.train(was_training)
    dist.all_reduce(sums)
    total, weight = sums.tolist()
    return total / weight if weight else None


def _in_one_reduction(model: nn.Module, last: bool) -> Any:
    """Gradients are reduced over ranks with the last micro-batch only."""
    no_sync = getattr(model, "no_sync", None)
    return nullcontext() if last or no_sync is None else no_sync()
