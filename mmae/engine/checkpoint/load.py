"""Loads a checkpoint `global_stepN`: DeepSpeed's ZeRO files, and what DeepSpeed leaves out.

mp_rank_*, *zero_pp_rank_*   DeepSpeed: weights, buffers, optimiser, schedule, loss scale
untrained.safetensors        buffers and frozen parameters, which DeepSpeed's conversions lose
rng_rank_*.safetensors       random number generators of each rank
average_rank_*.safetensors   averaged weights (`train.ema`), a part of each rank
state.json                   step, tiles seen, world size, data and versions
config.yaml, band_stats.json the resolved recipe and the normalisation
manifest.json                every file's size and hash, written last
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch.distributed as dist
from safetensors.torch import load_file

from mmae.data.sampling.order import ORDER_VERSION
from mmae.engine.checkpoint.contents.frozen_state import load_frozen_tensors
from mmae.engine.checkpoint.contents.hyper_parameters import hyper_parameters, reapply, stored_groups
from mmae.engine.checkpoint.contents.provenance import versions
from mmae.engine.checkpoint.contents.rng_state import restore_generators
from mmae.engine.checkpoint.contents.train_state import FORMAT, TrainState
from mmae.engine.checkpoint.conversion.reshape import write_back
from mmae.engine.checkpoint.conversion.universal_state import open_full_state
from mmae.engine.engine_protocol import Engine
from mmae.engine.optim import group_names
from mmae.errors import InputError
from mmae.run.layout import RNG_STATES, of_rank
from mmae.run.spec import RunSpec
from mmae.terminal.plurals import counted


@dataclass(frozen=True)
class ResumePoint:
    """A checkpoint to resume from.

    Attributes:
        notes: messages about it, and about other checkpoints that were not taken.
    """

    path: Path
    state: TrainState
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoadResult:
    """What was loaded.

    Attributes:
        reapplied: hyper-parameters that differ between checkpoint and recipe, one line each.
        converted: how the checkpoint had to be converted, as text; empty where it was read as it is.
    """

    step: int
    reapplied: tuple[str, ...] = ()
    converted: str = ""


def load(engine: Engine, spec: RunSpec, found: ResumePoint) -> LoadResult:
    """Restore weights, buffers, optimiser, schedule and this rank's generators. Collective.

    A checkpoint of another world size, ZeRO stage or precision is converted, and one whose parameters are grouped in
    another way (`train.lr_multipliers`). The recipe's hyper-parameters hold.

    Raises:
        InputError: the files do not fit what state.json says.
    """
    recipe = hyper_parameters(engine)
    converted = difference(spec, found.state)
    names = stored_groups(found.path, engine.module, spec.config, spec.trust)
    if names != group_names(engine.module, spec.config.train, spec.config.model):
        converted = ", ".join(filter(None, (converted, "groups of learning rates")))
    if converted:
        with open_full_state(found.path, found.state.zero_stage, names, spec.folder.checkpoints) as state:
            write_back(engine, state, found.state.step)
    else:
        path, _ = engine.load_checkpoint(str(found.path.parent), tag=found.path.name)
        if path is None or engine.global_steps != found.state.step:
            raise InputError(f"{found.path}: DeepSpeed could not load step {found.state.step} from it")
    load_frozen_tensors(engine.module, found.path)
    reapplied = reapply(engine, recipe)
    rng = found.path / of_rank(RNG_STATES, dist.get_rank())
    if rng.is_file():
        restore_generators(load_file(rng))
    return LoadResult(found.state.step, tuple(reapplied), converted)


def difference(spec: RunSpec, state: TrainState) -> str:
    """How this start differs from the one that wrote the checkpoint, as text; empty where it does not."""
    pairs = (
        (counted(state.world, "rank"), counted(spec.split.world, "rank")),
        (f"ZeRO-{state.zero_stage}", f"ZeRO-{spec.zero_stage}"),
        (state.precision, spec.precision),
    )
    return ", ".join(f"{there} -> {here}" for there, here in pairs if there != here)


def state_at(spec: RunSpec, step: int, scores: Mapping[str, float] = MappingProxyType({})) -> TrainState:
    """The content of state.json for a checkpoint of this start."""
    return TrainState(
        step=step,
        tiles_seen=step * spec.config.train.global_batch,
        world=spec.split.world,
        zero_stage=spec.zero_stage,
        precision=spec.precision,
        shards=" ".join(each.index.fingerprint for each in spec.tiles.sets),
        keys=spec.tiles.keys,
        order_version=ORDER_VERSION,
        versions=versions(),
        format=FORMAT,
        scores=dict(scores),
        protocol=spec.config.eval.protocol,
    )
