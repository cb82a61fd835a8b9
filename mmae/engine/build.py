"""From a plan to DeepSpeed's engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator

from mmae.config.deepspeed import precision_of, zero_stage_of
from mmae.config.schema import Config
from mmae.engine.grad_norm import norm_at_once
from mmae.engine.module import PretrainModule, compile_parts
from mmae.engine.optim import build_optimizer, build_scheduler
from mmae.model.block import EncoderBlock
from mmae.model.recompute import Recompute
from mmae.model.saved.saved_model import initial_weights


def build_engine(config: Config, ds_config: dict[str, Any], load_initial: bool, trust: bool = False) -> Any:
    """DeepSpeed's engine around model, losses, optimiser and schedule.

    Args:
        ds_config: the merged DeepSpeed JSON.
        load_initial: take the weights of `model.init_from` where the recipe names one.
        trust: they may be another user's.
    """
    # Initial weights have a seed of their own; what is left to torch's generator is drop path, which differs by rank.
    torch.manual_seed(_seed_of_rank(config.train.seed, dist.get_rank()))
    recompute = Recompute(config.train.activation_checkpointing, config.train.checkpoint_blocks_every)
    # At stage 3 no rank ever holds the whole model: each parameter is sharded as soon as it is initialised.
    stage = zero_stage_of(ds_config)
    sharded = stage == 3
    with deepspeed.zero.Init(config_dict_or_path=ds_config, enabled=sharded):
        module = PretrainModule(config.model, None, recompute, seed=config.train.seed)
    _buffers_to_device(module)
    if load_initial and config.model.init_from is not None:
        _start_from(module, Path(config.model.init_from), trust)
    if sharded and config.train.compile:
        gather_whole_blocks(module)
    optimizer = build_optimizer(module, config.train, config.model.paper_exact)
    engine, *_ = deepspeed.initialize(
        model=module,
        optimizer=optimizer,
        lr_scheduler=build_scheduler(optimizer, config.train),
        config=ds_config,
        dist_init_required=False,
    )
    if stage == 0 and precision_of(ds_config) != "fp32":
        _undo_first_step(engine)
    norm_at_once(engine)
    if config.train.compile:
        compile_parts(module, sharded)
    return engine


def gather_whole_blocks(module: PretrainModule) -> None:
    """Have ZeRO-3 gather a block's weights at once, around the block. Before `deepspeed.initialize`.

    Seen with deepspeed 0.19.8: not so the tokenizer, no input of which needs a gradient. Its weights are let go of
    before their gradients are known.
    """
    deepspeed.utils.set_z3_leaf_modules(module, [EncoderBlock])


def _buffers_to_device(module: PretrainModule) -> None:
    """DeepSpeed moves a whole module, but not the buffers of one that was built sharded."""
    device = get_accelerator().current_device_name()
    for owner in module.modules():
        for name, buffer in owner.named_buffers(recurse=False):
            setattr(owner, name, buffer.to(device))


def _seed_of_rank(seed: int, rank: int) -> int:
    """A seed that torch takes: what has more than 64 bits is cut to them."""
    mixed = seed * 65_537 + rank
    return mixed if -(1 << 63) <= mixed < 1 << 64 else mixed % (1 << 64)


def _undo_first_step(engine: Any) -> None:
    """At stage 0 with mixed precision DeepSpeed allocates AdamW's moments by a step with gradients of 0.

    That step counts: it decays the master weights, and every bias correction to come is late by one. Seen with
    deepspeed 0.19.8: losses 2 % off those of ZeRO 1 to 3 after three steps.
    """
    engine.basic_optimizer.state.clear()
    engine.optimizer.refresh_fp32_params()


def _start_from(module: PretrainModule, folder: Path, trust: bool) -> None:
    """Weights of a model folder into a model that may be sharded: a parameter at a time."""
    weights = initial_weights(module.model, folder, trust)
    for name, parameter in module.model.named_parameters():
        sharded = hasattr(parameter, "ds_id")
        with torch.no_grad(), deepspeed.zero.GatheredParameters([parameter], modifier_rank=0, enabled=sharded):
            if not sharded or dist.get_rank() == 0:
                parameter.copy_(weights[name])
