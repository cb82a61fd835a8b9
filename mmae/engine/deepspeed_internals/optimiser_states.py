"""Masters, moments and counts of DeepSpeed's optimisers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn

from mmae.engine.deepspeed_internals.sharded_parameters import is_sharded, whole_shape
from mmae.engine.engine_protocol import Engine


def has_master_part(parameter: nn.Parameter) -> bool:
    """Whether DeepSpeed's setters for single parameters (`safe_set_full_*`) reach this one at stages 1 and 2.

    Written for deepspeed 0.19.8, whose setters ignore other parameters without an error.
    """
    return hasattr(parameter, "_hp_mapping")


def stage_0_master(engine: Engine, parameter: nn.Parameter) -> Tensor:
    """The tensor that the optimiser updates at stage 0: the parameter, or its float32 copy under mixed precision.

    Written for deepspeed 0.19.8, whose setters do not reach stage 0.
    """
    outer = engine.optimizer
    if not hasattr(outer, "fp32_groups"):
        return parameter
    pairs = zip(outer.fp16_groups, outer.fp32_groups, strict=True)
    found: Tensor = next(
        master
        for low_group, high_group in pairs
        for low, master in zip(low_group, high_group, strict=True)
        if low is parameter
    )
    return found


def master_flats(engine: Engine) -> list[Tensor]:
    """The float32 tensors that the optimiser updates on this rank: a few flat ones, at stage 0 one a parameter.

    Written for deepspeed 0.19.8: at stage 3 the optimiser's own groups are empty between the steps of their parts.
    """
    flats: list[Tensor] | None = getattr(engine.optimizer, "fp32_partitioned_groups_flat", None)
    if flats is not None:
        return list(flats)
    return [parameter for group in engine.basic_optimizer.param_groups for parameter in group["params"]]


@dataclass(frozen=True)
class MasterPlace:
    """Where the numbers of a parameter lie that this rank's optimiser updates.

    Written for deepspeed 0.19.8: at stages 1 to 3 a rank has at most one row of a parameter's numbers.

    Attributes:
        flat: index in `master_flats`.
        offset: of the first one in that tensor, flattened.
        start: of the first one in the parameter, flattened.
        size: how many there are.
        whole: every rank has all numbers of the parameter.
    """

    flat: int
    offset: int
    start: int
    size: int
    whole: bool = False


def master_place(engine: Engine, parameter: nn.Parameter) -> MasterPlace | None:
    """Where a trained parameter's numbers lie on this rank; None where it has none of them.

    Written for deepspeed 0.19.8, whose getters return copies of single parameters, and do not reach stage 0.
    """
    marked: Any = parameter
    if is_sharded(parameter):
        flat, offset, size = engine.optimizer.grad_position[engine.optimizer.get_param_id(parameter)]
        start = size * dist.get_rank()
        # Parts are padded so that all ranks have equally many numbers.
        own = min(size, whole_shape(parameter).numel() - start)
        return MasterPlace(flat, offset, start, own) if own > 0 else None
    if has_master_part(parameter):
        if (found := marked._hp_mapping) is None:
            return None
        ours, its = found.hp_fragment_address, found.lp_fragment_address
        return MasterPlace(found.param_group_index, ours.start, its.start, ours.numel)
    master = stage_0_master(engine, parameter)
    flat = next(number for number, each in enumerate(master_flats(engine)) if each is master)
    return MasterPlace(flat, 0, 0, parameter.numel(), whole=True)


def link_moments(engine: Engine) -> None:
    """Let the setters for single parameters find AdamW's moments, after the first step has allocated them.

    Written for deepspeed 0.19.8: stages 1 and 2 link moments to parameters after the first group's first step, when the
    other groups have none yet. Setting theirs failed with `exp_avg not found in optimizer state fragment`.
    """
    if link := getattr(engine.optimizer, "_lazy_init_hp_params_optimizer_state", None):
        engine.optimizer._hp_optimizer_states_linked = False
        link()


def set_counts(engine: Engine, step: int) -> None:
    """Make the engine count from this optimiser step on, with no step left out.

    Written for deepspeed 0.19.8, which sets its counts only when it loads a checkpoint of its own.
    """
    engine.global_steps = step
    engine.micro_steps = step * engine.gradient_accumulation_steps()
    engine.global_samples = step * engine.train_batch_size()
    engine.skipped_steps = 0


def undo_first_step(engine: Engine) -> None:
    """Undo the step by which DeepSpeed allocates AdamW's moments at stage 0 under mixed precision.

    Written for deepspeed 0.19.8. That step has gradients of 0, but it counts: it decays the master weights, and every
    later bias correction is late by one. Losses were 2 % off those of ZeRO 1 to 3 after three steps.
    """
    engine.basic_optimizer.state.clear()
    engine.optimizer.refresh_fp32_params()
