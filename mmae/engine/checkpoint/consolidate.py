"""Loads a run's model from its ZeRO checkpoint: whole float32 weights on the CPU."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmae.config.schema import Config
from mmae.disk.ownership import check_tree
from mmae.engine.checkpoint.contents.average_state import open_average
from mmae.engine.checkpoint.contents.frozen_state import read_frozen_tensors
from mmae.engine.checkpoint.contents.hyper_parameters import stored_groups
from mmae.engine.checkpoint.contents.train_state import read_state
from mmae.engine.checkpoint.conversion.universal_state import read_stage_0
from mmae.engine.checkpoint.integrity import newest_good, problem_of
from mmae.engine.module import PretrainModule
from mmae.errors import InputError
from mmae.model.mmae import MultiMAE
from mmae.run.folder import RunFolder, open_run
from mmae.run.layout import checkpoint_names, name_of


@dataclass(frozen=True)
class Trained:
    """A trained model with what is needed to use it.

    Attributes:
        model: in eval mode, float32, on the CPU.
        log_vars: the loss balancer's log variances, (O,); None without uncertainty weighting.
        band_stats: the statistics its inputs are normalised with.
        half_life: in tiles, where the weights are averaged ones; else None.
    """

    model: MultiMAE
    log_vars: Tensor | None
    config: Config
    folder: RunFolder
    band_stats: dict[str, Any]
    step: int
    half_life: int | None = None


def load_trained(run: str, step: int | None, trust: bool, averaged: bool = False) -> Trained:
    """The model of a run at its newest good checkpoint, or at a given step.

    Args:
        averaged: with the averaged weights (`train.ema`).

    Raises:
        InputError: no run, no such checkpoint, a damaged one, one that another user wrote and that is not trusted, or
            one without averaged weights where they are asked for.
    """
    folder = open_run(run, trust)
    config = folder.stored_config(trust)
    assert config is not None
    checkpoint = _chosen(folder, step, trust)
    state = read_state(checkpoint)
    frozen = read_frozen_tensors(checkpoint)
    with torch.device("meta"):
        module = PretrainModule(config.model)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in frozen)
    half_life = None
    if averaged:
        half_life, weights = _averaged_weights(checkpoint, module)
    else:
        names = stored_groups(checkpoint, module, config, trust)
        weights = consolidated_weights(checkpoint, state.zero_stage, names)
    weights.update({name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in frozen.items()})
    held = set(module.state_dict())
    weights = {name: tensor for name, tensor in weights.items() if name in held}
    for name, parameter in module.named_parameters():
        weights[name] = weights[name].view(parameter.shape)
    log_vars = weights.pop("loss_balancer.log_vars", None)
    module.model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in weights.items()}, assign=True)
    return Trained(module.model.eval(), log_vars, config, folder, folder.stored_band_stats(), state.step, half_life)


def _averaged_weights(checkpoint: Path, module: PretrainModule) -> tuple[int, dict[str, Tensor]]:
    """The half-life in tiles of a checkpoint's averaged weights, and the averages of what is trained, flat, by name."""
    stored = open_average(checkpoint)
    if stored is None:
        raise InputError(f"{checkpoint}: holds no averaged weights (train.ema was null): leave --ema out")
    trained = {name: each.numel() for name, each in module.named_parameters() if each.requires_grad}
    return stored.half_life, {name: stored.read(name, numel, 0, numel) for name, numel in trained.items()}


def _chosen(folder: RunFolder, step: int | None, trust: bool) -> Path:
    """The newest good checkpoint, or that of a step."""
    there = checkpoint_names(folder.checkpoints)
    if step is None:
        newest = newest_good(folder.checkpoints, trust)
        if newest is None:
            raise InputError(f"{folder.path}: no good checkpoint (there are: {there})")
        return newest
    checkpoint = folder.checkpoints / name_of(step)
    if not checkpoint.is_dir():
        raise InputError(f"{folder.path}: no checkpoint of step {step} (there are: {there})")
    check_tree(checkpoint, trust)
    if problem := problem_of(checkpoint):
        raise InputError(f"{checkpoint}: damaged: {problem}: choose another (there are: {there})")
    return checkpoint


def consolidated_weights(checkpoint: Path, zero_stage: int, group_names: list[list[str]]) -> dict[str, Tensor]:
    """Float32 weights by name from a checkpoint of any ZeRO stage. Unpickles DeepSpeed's files: check the owner first.

    With mixed precision they are the optimiser's master weights, not the rounded ones of the forward pass.
    """
    if zero_stage == 0:
        return {name: state.weight for name, state in read_stage_0(checkpoint, group_names).items()}
    # Weights are put together on the CPU. With this variable DeepSpeed does not look for a GPU.
    # Processes that this one starts must not inherit it: they would build DeepSpeed's ops again.
    with _variable("DS_ACCELERATOR", "cpu"):
        from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    # It prints progress for its own developers on both streams.
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        state: dict[str, Tensor] = get_fp32_state_dict_from_zero_checkpoint(str(checkpoint.parent), checkpoint.name)
    return {name: tensor.float() for name, tensor in state.items()}


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable within the context, unless it is set already."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
