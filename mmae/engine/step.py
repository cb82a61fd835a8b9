"""One optimiser step. Its loss is that of the global batch, however the batch is split over ranks and micro-batches.

Masks and validity alone decide how many samples of the global batch are scored for an output. These counts are summed
over micro-batches and ranks before any backward pass, in one small reduction, and weight the micro-batches' losses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from mmae.config.schema import Config
from mmae.data.transforms.preprocess import Preprocess
from mmae.engine.engine_protocol import Engine
from mmae.losses import scored
from mmae.model.masking import plan_masks
from mmae.types import Batch, Inputs, MaskPlan


@dataclass(frozen=True)
class StepStats:
    """Results of a step, on the device, already summed over micro-batches and ranks.

    Attributes:
        loss: scalar, the loss that was minimised.
        loss_O: each output's loss over the global batch, unweighted; 0 where nothing was scored.
        count_O: scored samples of each output.
        hidden_M: share of each input modality's tokens that was hidden.
        valid_M: share of each input modality's tokens that holds data.
        filled: visible tokens without data, over the global batch.
        left_out: tiles of the global batch that are not real; in training these are damaged tiles. No other number
            counts them.
        wanted_R: how many ranks have each reason to stop (`stop_signals.REASONS`).
        finite_OB: which losses are finite, for each micro-batch of this rank only.
    """

    loss: Tensor
    loss_O: Tensor
    count_O: Tensor
    hidden_M: Tensor
    valid_M: Tensor
    filled: Tensor
    left_out: Tensor
    wanted_R: Tensor
    finite_OB: tuple[Tensor, ...]


def prepare(batch: Batch, preprocess: Preprocess, config: Config, train: bool) -> tuple[Inputs, MaskPlan]:
    """Floats and masks of a micro-batch that is on the device."""
    inputs = preprocess(batch, train=train)
    token_valid_BN = torch.cat([inputs.token_valid[name] for name in config.model.in_domains], dim=1)
    return inputs, plan_masks(token_valid_BN, inputs.key_B, config.model)


Prepared = Sequence[tuple[Inputs, MaskPlan]]


def prepare_step(batches: Sequence[Batch], preprocess: Preprocess, config: Config) -> Prepared:
    """Floats and masks of a training step's micro-batches, which are on the device."""
    return [prepare(batch, preprocess, config, train=True) for batch in batches]


def optimiser_step(
    engine: Engine,
    prepared: Prepared,
    config: Config,
    wanted_R: Tensor | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> StepStats:
    """Forward and backward of every micro-batch of this rank, then the optimiser.

    Args:
        engine: DeepSpeed's engine around a `PretrainModule`.
        prepared: this rank's micro-batches, as many as DeepSpeed accumulates.
        wanted_R: this rank's reasons to stop, float32 on the device. They are summed over ranks beside the losses.
        meanwhile: is called once all work before the optimiser is queued on the device, where activations are free
            again.
    """
    world = dist.get_world_size()
    share = 1 / (world * len(prepared))
    scored_OB = [scored(inputs, plan, config.model) for inputs, plan in prepared]
    tokens = _token_counts(prepared, config)
    sums = torch.cat([torch.stack([has_OB.sum(1) for has_OB in scored_OB]).sum(0), tokens]).to(torch.float64)
    dist.all_reduce(sums)
    outputs = len(config.model.outputs)
    count_O = sums[:outputs].to(torch.float32)

    parts: list[Tensor] = []
    finite_OB: list[Tensor] = []
    for (inputs, plan), has_OB in zip(prepared, scored_OB, strict=True):
        # The published code takes the mean of each micro-batch, then the mean over micro-batches.
        weigh_O = has_OB.sum(1) / share if config.model.paper_exact else count_O
        part, part_O, finite = engine(inputs, plan, weigh_O, share)
        # DeepSpeed averages gradients over ranks, but the parts must be summed. An infinite loss can have a finite
        # gradient: NaN takes its place, which reaches every rank with the reduction, so that no rank makes the update.
        engine.backward(part * torch.where(part.detach().isfinite(), float(world), torch.nan), scale_wrt_gas=False)
        if meanwhile is not None and len(parts) == len(prepared) - 1:
            meanwhile()
        engine.step()
        finite_OB.append(finite)
        parts.append(torch.cat([part.detach().float().reshape(1), part_O.detach().float()]))
    wanted_R = torch.zeros(0, device=count_O.device) if wanted_R is None else wanted_R
    reduced = torch.cat([torch.stack(parts).sum(0), wanted_R])
    dist.all_reduce(reduced)
    losses, wanted_R = reduced[: 1 + outputs], reduced[1 + outputs :]
    return _stats(losses, count_O, sums[outputs:], len(config.model.in_domains), wanted_R, tuple(finite_OB))


def _token_counts(prepared: Prepared, config: Config) -> Tensor:
    """[tokens of a modality, hidden tokens x M, valid tokens x M, filled tokens] of real tiles, then other tiles."""
    domains, tokens = config.model.in_domains, config.model.tokens_per_modality
    counts = []
    for inputs, plan in prepared:
        hidden_BM = plan.hidden_BN.view(len(plan.hidden_BN), len(domains), tokens).sum(2)
        valid_BM = torch.stack([inputs.token_valid[name].sum(1) for name in domains], dim=1)
        total_B1 = torch.full_like(plan.filled_B, tokens)[:, None]
        counts_BX = torch.cat([total_B1, hidden_BM, valid_BM, plan.filled_B[:, None]], dim=1)
        others = (~inputs.real_B).sum().reshape(1)
        counts.append(torch.cat([(counts_BX * inputs.real_B[:, None]).sum(0), others]))
    return torch.stack(counts).sum(0)


def _stats(
    losses: Tensor, count_O: Tensor, tokens: Tensor, modalities: int, wanted_R: Tensor, finite_OB: tuple[Tensor, ...]
) -> StepStats:
    total, hidden_M, valid_M, filled, left_out = torch.split(tokens, [1, modalities, modalities, 1, 1])
    total = total.clamp(min=1)
    return StepStats(
        loss=losses[0],
        loss_O=losses[1:],
        count_O=count_O,
        hidden_M=hidden_M / total,
        valid_M=valid_M / total,
        filled=filled[0],
        left_out=left_out[0],
        wanted_R=wanted_R,
        finite_OB=finite_OB,
    )
