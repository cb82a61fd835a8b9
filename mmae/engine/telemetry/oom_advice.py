"""Advice after out-of-memory: an error message that names what to try next."""

from __future__ import annotations

import re

import torch

from mmae.config.batch_split import BatchSplit, split_global_batch
from mmae.config.schema import TrainConfig
from mmae.errors import DoesNotFitError
from mmae.terminal.error_line import first_line


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the memory of a device or of the host is exhausted."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(
        re.search(r"DefaultCPUAllocator: (can't|not enough)|Cannot allocate memory|out of memory", str(error))
    )


def next_smaller(split: BatchSplit) -> int | None:
    """The next smaller micro-batch that divides a rank's part of the global batch; None below 1."""
    if split.micro == 1:
        return None
    return split_global_batch(split.global_batch, split.micro - 1, split.world).micro


def advice(split: BatchSplit, train: TrainConfig, zero_stage: int, in_a_step: bool = True) -> list[str]:
    """What to add to the command line; what costs the least time comes first.

    Args:
        in_a_step: False where weights and optimiser alone did not fit. Then only ZeRO helps.
    """
    return [*(_for_activations(split, train) if in_a_step else []), *_for_weights(split, zero_stage)]


def _for_activations(split: BatchSplit, train: TrainConfig) -> list[str]:
    modes = ["none", "selective", "full"]
    # torch.compile itself decides what is recomputed, so "selective" does not combine with it.
    stronger = [
        mode for mode in modes[modes.index(train.activation_checkpointing) + 1 :]
        if not (train.compile and mode == "selective")
    ]  # fmt: skip
    found = [f"train.activation_checkpointing={mode}" for mode in stronger]
    if train.activation_checkpointing == "full" and train.checkpoint_blocks_every > 1:
        found.append("train.checkpoint_blocks_every=1")
    if (smaller := next_smaller(split)) is not None:
        found.append(f"train.micro_batch={smaller}")
    return found


def _for_weights(split: BatchSplit, zero_stage: int) -> list[str]:
    if split.world > 1 and zero_stage < 3:
        return [f"--deepspeed_config zero{zero_stage + 1}"]
    return [f"--deepspeed_config zero{max(2, zero_stage)}_offload"]


def explained(
    error: BaseException,
    split: BatchSplit,
    train: TrainConfig,
    zero_stage: int,
    rank: int,
    device: str,
    in_a_step: bool = True,
) -> DoesNotFitError:
    """The error that the run ends with: rank, device, current settings, and what to try next, in one line."""
    what = first_line(error)
    what = re.sub(r"\s+", " ", what)[:200]
    tried = (
        f"micro-batch {split.micro}, train.activation_checkpointing={train.activation_checkpointing}, ZeRO-{zero_stage}"
    )
    options = [*advice(split, train, zero_stage, in_a_step), "a smaller model"]
    remedy = f"try in this order: {', '.join(options)}"
    return DoesNotFitError(f"rank {rank} is out of memory on {device} ({tried}): {remedy} [{what}]")
