"""Builds DeepSpeed's engine from a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator

from mmae.config.deepspeed import precision_of, zero_stage_of
from mmae.config.schema import Config, ModelConfig, TrainConfig
from mmae.distributed.collectives import gather
from mmae.engine.deepspeed_internals import untested_version
from mmae.engine.deepspeed_internals.handed_gradients import hand_over_gradients
from mmae.engine.deepspeed_internals.loss_scale import grow_scale_after_steps, scale_loss_at_stage_0
from mmae.engine.deepspeed_internals.norm_hooks import replace_norm
from mmae.engine.deepspeed_internals.optimiser_states import master_place, undo_first_step
from mmae.engine.deepspeed_internals.sharded_parameters import gathered, is_sharded
from mmae.engine.engine_protocol import Engine
from mmae.engine.gpu_options.float8_linears import check_float8, use_float8
from mmae.engine.gpu_options.micro_step_graph import check_graphs, use_graphs
from mmae.engine.grad_norm import gradients_norm
from mmae.engine.matrices.muon import MuonAndAdamW, Row, rows_of_all
from mmae.engine.module import PretrainModule, compile_parts
from mmae.engine.optim import build_optimizer, build_scheduler
from mmae.model.block import EncoderBlock
from mmae.model.counts.block_matrices import matrices_above
from mmae.model.counts.named_parts import learns
from mmae.model.recompute import Recompute
from mmae.model.saved.warm_start import warm_start
from mmae.model.short_attention.applicable import unused_line
from mmae.terminal.message import say


def build_engine(config: Config, ds_config: dict[str, Any], load_initial: bool, trust: bool = False) -> Engine:
    """DeepSpeed's engine around model, losses, optimiser and schedule.

    Args:
        ds_config: the merged DeepSpeed JSON.
        load_initial: load the weights of `model.init_from`, if the recipe names one.
        trust: load them although they are another user's.

    Raises:
        InputError: the recipe asks for what this machine cannot do, or names initial weights that cannot be used.
    """
    device = torch.device(get_accelerator().current_device_name())
    check_float8(config.train, device)
    check_graphs(config.train, device)
    _say_at_the_start(config.model, device)
    # Initial weights have their own seed. torch's generator draws drop path only, which differs between ranks.
    torch.manual_seed(_seed_of_rank(config.train.seed, dist.get_rank()))
    recompute = Recompute(config.train.activation_checkpointing, config.train.checkpoint_blocks_every)
    # At stage 3 no rank ever holds the whole model: each parameter is sharded as soon as it is initialised.
    stage = zero_stage_of(ds_config)
    sharded = stage == 3
    with deepspeed.zero.Init(config_dict_or_path=ds_config, enabled=sharded):
        module = PretrainModule(config.model, None, recompute, seed=config.train.seed)
    _buffers_to_device(module)
    use_float8(module, config.train, ds_config["train_micro_batch_size_per_gpu"])
    if load_initial and config.model.init_from is not None:
        _start_from(module, Path(config.model.init_from), trust)
    freeze(module, config.train)
    if sharded and config.train.compile:
        gather_whole_blocks(module)
    optimizer = build_optimizer(module, config.train, config.model)
    engine: Engine
    engine, *_ = deepspeed.initialize(
        model=module,
        optimizer=optimizer,
        lr_scheduler=build_scheduler(optimizer, config.train),
        config=ds_config,
        dist_init_required=False,
    )
    if stage == 0 and precision_of(ds_config) != "fp32":
        undo_first_step(engine)
    if precision_of(ds_config) == "fp16":
        grow_scale_after_steps(engine)
        if stage == 0:
            scale_loss_at_stage_0(engine)
    if isinstance(optimizer, MuonAndAdamW):
        half = precision_of(ds_config) != "fp32"
        optimizer.divide(_rows(engine) if stage else None, torch.bfloat16 if half else torch.float32)
    replace_norm(engine, gradients_norm)
    if config.train.direct_gradients:
        hand_over_gradients(engine)
    if config.train.compile:
        compile_parts(module, sharded)
    use_graphs(module, config.train, engine.gradient_accumulation_steps())
    return engine


def _rows(engine: Engine) -> dict[str, Row]:
    """Where this rank has the numbers of the matrices that Muon trains, at ZeRO stages 1 and 2. Collective."""
    rows = {}
    for name, parameter in engine.module.named_parameters():
        if matrices_above(name) and parameter.requires_grad:
            place = master_place(engine, parameter)
            offset, start, size = (place.offset, place.start, place.size) if place is not None else (0, 0, 0)
            rows[name] = Row(tuple(parameter.shape), offset, start, size, cut=False)
    return dict(rows_of_all(rows, gather({name: row.size for name, row in rows.items()})))


def freeze(module: PretrainModule, train: TrainConfig) -> None:
    """Have the parts of `train.frozen` need no gradients; the optimiser then leaves them out."""
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(learns(name, train))


def _say_at_the_start(model: ModelConfig, device: torch.device) -> None:
    lines = untested_version(deepspeed.__version__), unused_line(model, device)
    if dist.get_rank() == 0:
        for line in filter(None, lines):
            say(line)


def gather_whole_blocks(module: PretrainModule) -> None:
    """Have ZeRO-3 gather a block's weights at once, around the block. Before `deepspeed.initialize`.

    Seen with deepspeed 0.19.8: this fails for the tokenizer, because none of its inputs needs a gradient. Its weights
    are released before their gradients are computed.
    """
    deepspeed.utils.set_z3_leaf_modules(module, [EncoderBlock])


def _buffers_to_device(module: PretrainModule) -> None:
    """DeepSpeed moves a module to the device, but not the buffers of a module that was built sharded."""
    device = get_accelerator().current_device_name()
    for owner in module.modules():
        for name, buffer in owner.named_buffers(recurse=False):
            setattr(owner, name, buffer.to(device))


def _seed_of_rank(seed: int, rank: int) -> int:
    """A seed that torch accepts: larger numbers are cut to 64 bits."""
    mixed = seed * 65_537 + rank
    return mixed if -(1 << 63) <= mixed < 1 << 64 else mixed % (1 << 64)


def _start_from(module: PretrainModule, source: Path, trust: bool) -> None:
    """Load another model's weights, one parameter at a time, since the model may be sharded; and say what differs."""
    start = warm_start(module.model, source, trust)
    if dist.get_rank() == 0:
        for line in start.differences:
            say(f"model.init_from: {line}")
    for name, parameter in module.model.named_parameters():
        with torch.no_grad(), gathered(parameter, modifier_rank=0):
            if not is_sharded(parameter) or dist.get_rank() == 0:
                parameter.copy_(start.fitted(name, parameter))
