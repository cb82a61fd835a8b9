"""Resuming with another world size, ZeRO stage or precision: the state is written back parameter by parameter.

DeepSpeed's own universal loading works only within stages 1 and 2, and within stage 3, where it copies the first
group's learning rate and decay to every group. Writing back through DeepSpeed's public setters works from and to every
stage. Learning rate and decay come from the recipe, as on any start.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from deepspeed.utils import (
    safe_get_local_fp32_param,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)
from torch import Tensor, nn
from torch.nn import functional

from mmae.config.schema import ModelConfig
from mmae.engine.checkpoint.conversion.universal_state import FullState, ParameterState
from mmae.engine.deepspeed_internals.optimiser_states import has_master_part, link_moments, set_counts, stage_0_master
from mmae.engine.deepspeed_internals.sharded_parameters import gathered, is_sharded, whole_shape
from mmae.engine.engine_protocol import Engine
from mmae.modalities import MODALITIES
from mmae.model.masking import plan_from_ids
from mmae.types import Inputs, MaskPlan


def write_back(engine: Engine, state: FullState, step: int) -> None:
    """Write a checkpoint's state into a new engine. Collective.

    Args:
        engine: just built; its optimiser has made no step.
        state: the state by parameter name, as the engine's module has the names.
        step: number of optimiser steps that led to the state.
    """
    _allocate_moments(engine)
    updates: set[int] = set()
    for name, parameter in engine.module.named_parameters():
        if parameter.requires_grad:
            stored = state[name]
            _write_parameter(engine, parameter, stored)
            if stored.updates is not None:
                updates.add(stored.updates)
    # AdamW corrects its moments by the number of updates; Muon, whose parameters have 0 of them, does not.
    count = max(updates, default=step)
    for moments in engine.basic_optimizer.state.values():
        if "step" in moments:
            moments["step"] = torch.full_like(torch.as_tensor(moments["step"], dtype=torch.float32), count)
    set_counts(engine, step)
    scheduler = engine.lr_scheduler
    scheduler.last_epoch = step - 1
    scheduler.step()


def _allocate_moments(engine: Engine) -> None:
    """Make one step that does not count: in the first step AdamW allocates its moments.

    The weights that it changes are overwritten after it.
    """
    config: ModelConfig = engine.module.config
    inputs, plan = _blank(config, engine.device)
    count_O = torch.ones(len(config.outputs), device=engine.device)
    for _ in range(engine.gradient_accumulation_steps()):
        loss, *_ = engine(inputs, plan, count_O, 1.0)
        engine.backward(loss * 0.0, scale_wrt_gas=False)
        engine.step()
    link_moments(engine)


def _blank(config: ModelConfig, device: torch.device) -> tuple[Inputs, MaskPlan]:
    """One empty tile; every shape is as in training."""
    height, width = config.image_hw
    values, valid, token_valid = {}, {}, {}
    for name in config.domains:
        modality = MODALITIES[name]
        shape = (height // modality.stride, width // modality.stride)
        if modality.categorical:
            values[name] = torch.zeros(1, *shape, dtype=torch.int64, device=device)
        else:
            values[name] = torch.zeros(1, modality.channels, *shape, device=device)
        valid[name] = torch.ones_like(values[name], dtype=torch.bool)
        token_valid[name] = torch.ones(1, config.tokens_per_modality, dtype=torch.bool, device=device)
    one = torch.ones(1, dtype=torch.int64, device=device)
    keep_BK = torch.arange(config.num_encoded_tokens, device=device)[None]
    return Inputs(values, valid, token_valid, one, one.bool()), plan_from_ids(keep_BK, config.num_tokens)


def _write_parameter(engine: Engine, parameter: nn.Parameter, state: ParameterState) -> None:
    shape = whole_shape(parameter)
    weight = state.weight.view(shape).to(engine.device)
    moments = {key: value.view(shape).to(engine.device) for key, value in state.moments.items()}
    with torch.no_grad(), gathered(parameter, modifier_rank=0):
        parameter.copy_(weight)
    if is_sharded(parameter):
        safe_set_local_fp32_param(parameter, _own_part(parameter, weight))
        for key, value in moments.items():
            safe_set_local_optimizer_state(parameter, _own_part(parameter, value), key)
        return
    if has_master_part(parameter):
        safe_set_full_fp32_param(parameter, weight)
        for key, value in moments.items():
            safe_set_full_optimizer_state(parameter, value, key)
        return
    master = stage_0_master(engine, parameter)
    with torch.no_grad():
        master.copy_(weight)
        for key, value in moments.items():
            engine.basic_optimizer.state[master][key].copy_(value)


def _own_part(parameter: nn.Parameter, whole: Tensor) -> Tensor:
    """This rank's part of a value for a stage 3 parameter, padded so that all ranks have equally many numbers.

    DeepSpeed's setter for whole values does not pad: in deepspeed 0.19.8 it fails for seven numbers on two ranks.
    """
    size = safe_get_local_fp32_param(parameter).numel()
    padded = functional.pad(whole.flatten(), (0, size * dist.get_world_size() - whole.numel()))
    return padded[size * dist.get_rank() :][:size]
