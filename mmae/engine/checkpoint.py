"""Saving and resuming: DeepSpeed's ZeRO checkpoint, and beside it what DeepSpeed leaves out.

A checkpoint is a folder `global_stepN`. It is written under a name that begins with a dot and renamed when every
rank has finished, so a folder under its final name is whole. `latest` (DeepSpeed's own convention) is replaced after.

    mp_rank_*, *zero_pp_rank_*   DeepSpeed: weights, optimiser, schedule, loss scale
    rng_rank_*.safetensors       torch's generators of each rank
    state.json                   step, tiles seen, world, what data and which versions
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmae import __version__
from mmae.data.atomic import sync
from mmae.data.order import ORDER_VERSION
from mmae.engine.convert import write_back
from mmae.engine.full_state import open_full_state
from mmae.engine.optim import group_names
from mmae.engine.plan import Plan
from mmae.engine.run_folder import write_whole
from mmae.engine.train_state import LATEST, STATE, TrainState, check_owner, latest, read_state
from mmae.errors import InputError


@dataclass(frozen=True)
class Found:
    """A checkpoint to go on from."""

    path: Path
    state: TrainState


def save(engine: Any, plan: Plan, step: int) -> Path:
    """Write `checkpoints/global_stepN`. Collective: every rank calls it.

    Returns:
        the checkpoint's folder.
    """
    checkpoints = plan.folder.checkpoints
    final = checkpoints / f"global_step{step}"
    temporary = checkpoints / f".saving-{final.name}"
    if dist.get_rank() == 0:
        checkpoints.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
    dist.barrier()
    engine.save_checkpoint(
        str(checkpoints),
        tag=temporary.name,
        # Without this, stages 1 and 2 cannot be converted to another world size later.
        client_state={"universal_checkpoint_info": {"universal_checkpoint_version": 0.2}},
        save_latest=False,
    )
    save_file(_rng_state(), temporary / f"rng_rank_{dist.get_rank()}.safetensors")
    dist.barrier()
    if dist.get_rank() == 0:
        write_whole(temporary / STATE, json.dumps(asdict(_state(plan, step)), indent=2) + "\n")
        # Every file is on the disk before the folder gets its final name.
        for path in (*temporary.iterdir(), temporary):
            sync(path)
        _replace_folder(temporary, final)
        write_whole(checkpoints / LATEST, final.name)
    dist.barrier()
    return final


def find(plan: Plan) -> Found | None:
    """The checkpoint a start of this plan goes on from, or None for a fresh start.

    Raises:
        InputError: there is one, and it does not fit the plan or must not be loaded.
    """
    path = latest(plan.folder.checkpoints)
    if path is None:
        return None
    check_owner(path, plan.trust)
    state = read_state(path)
    _check_data(path, state, plan)
    if state.order_version != ORDER_VERSION:
        raise InputError(
            f"{path}: counts its steps in order {state.order_version} of the tiles, this mmae has {ORDER_VERSION}: "
            f"go on with mmae {state.versions.get('mmae')}"
        )
    return Found(path, state)


def load(engine: Any, plan: Plan, found: Found) -> int:
    """Restore weights, optimiser, schedule and this rank's generators. Collective.

    A checkpoint of another world size, ZeRO stage or precision is converted on the way.

    Returns:
        the step to go on from.

    Raises:
        InputError: the files do not hold what the state says.
    """
    if difference(plan, found.state):
        names = group_names(engine.module, plan.config.train, plan.config.model.paper_exact)
        with open_full_state(found.path, found.state.zero_stage, names) as state:
            write_back(engine, state, found.state.step)
    else:
        path, _ = engine.load_checkpoint(str(found.path.parent), tag=found.path.name)
        if path is None or engine.global_steps != found.state.step:
            raise InputError(f"{found.path}: DeepSpeed could not load step {found.state.step} from it")
    rng = found.path / f"rng_rank_{dist.get_rank()}.safetensors"
    if rng.is_file():
        _restore_rng(load_file(rng))
    return found.state.step


def difference(plan: Plan, state: TrainState) -> str:
    """How this start differs from the one that wrote the checkpoint, in words; empty where it does not."""
    pairs = (
        (f"{state.world} ranks", f"{plan.split.world} ranks"),
        (f"ZeRO-{state.zero_stage}", f"ZeRO-{plan.zero_stage}"),
        (state.precision, plan.precision),
    )
    return ", ".join(f"{there} -> {here}" for there, here in pairs if there != here)


def _check_data(path: Path, state: TrainState, plan: Plan) -> None:
    indexes = [each.index for each in plan.tiles.sets]
    before = state.shards.split()
    if len(before) != len(indexes):
        raise InputError(
            f"{path}: was trained on {len(before)} shard sets, data.shards names {len(indexes)}: "
            "put the list back, or choose another run.dir"
        )
    for index, fingerprint in zip(indexes, before, strict=True):
        if index.fingerprint != fingerprint:
            raise InputError(
                f"{path}: was trained on other shards (index {fingerprint[:12]}) than {index.folder} "
                f"(index {index.fingerprint[:12]}): point data.shards at the former, or choose another run.dir"
            )
    if state.keys != plan.tiles.keys:
        raise InputError(
            f"{path}: was trained on another list of tiles than data.keys={plan.config.data.keys}: "
            "put the list back, or choose another run.dir"
        )
    if plan.folder.stored_band_stats() != plan.band_stats:
        raise InputError(
            f"{path}: was trained with other band statistics: say data.band_stats={plan.folder.band_stats_file} "
            "to go on with them, or choose another run.dir"
        )


def _state(plan: Plan, step: int) -> TrainState:
    return TrainState(
        step=step,
        tiles_seen=step * plan.config.train.global_batch,
        world=plan.split.world,
        zero_stage=plan.zero_stage,
        precision=plan.precision,
        shards=" ".join(each.index.fingerprint for each in plan.tiles.sets),
        keys=plan.tiles.keys,
        order_version=ORDER_VERSION,
        versions={"mmae": __version__, "torch": torch.__version__, "deepspeed": deepspeed.__version__},
    )


def _rng_state() -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _restore_rng(state: dict[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _replace_folder(temporary: Path, final: Path) -> None:
    if final.exists():
        # A step that was saved before and is reached again: the old one goes only when the new one stands.
        old = final.with_name(f".replaced-{final.name}")
        shutil.rmtree(old, ignore_errors=True)
        os.rename(final, old)
        os.rename(temporary, final)
        shutil.rmtree(old)
    else:
        os.rename(temporary, final)
