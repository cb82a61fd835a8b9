"""A checkpoint's training state by parameter name, for every ZeRO stage, world size and precision.

DeepSpeed's universal checkpoints convert stages 1 to 3 into whole tensors by name. They do not read stage 0. Its file
holds whole tensors already, in the order of the optimiser's groups. The layout was read in deepspeed 0.19.8.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mmae.errors import InputError
from mmae.run.layout import CONVERTED

MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's state besides the step count, by the names of torch and of DeepSpeed's converter."""


@dataclass(frozen=True)
class ParameterState:
    """One parameter: float32 weight and AdamW's two moments, flat.

    Attributes:
        updates: how often AdamW has changed it; skipped steps do not count. None where the file does not say it
            (ZeRO-3).
    """

    weight: Tensor
    moments: dict[str, Tensor]
    updates: int | None = None


class FullState:
    """Reads one parameter at a time, so that no process holds the whole state of a large model."""

    def __init__(self, folder: Path | None, loaded: dict[str, ParameterState] | None = None) -> None:
        self._folder = folder
        self._loaded = loaded or {}

    def __getitem__(self, name: str) -> ParameterState:
        if self._folder is None:
            return self._loaded[name]
        weight, *moments = (self._read(name, kind) for kind in ("fp32", *MOMENTS))
        return ParameterState(weight, dict(zip(MOMENTS, moments, strict=True)), self._updates(name))

    def _updates(self, name: str) -> int | None:
        assert self._folder is not None
        file = self._folder / "zero" / name / "step.pt"
        return int(torch.load(file, map_location="cpu", weights_only=True)) if file.is_file() else None

    def _read(self, name: str, kind: str) -> Tensor:
        assert self._folder is not None
        file = self._folder / "zero" / name / f"{kind}.pt"
        try:
            # This start has just written it, from files with a checked owner.
            stored = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except OSError as error:
            raise InputError(f"{file}: the converted checkpoint lacks {name}: {error}") from error
        tensor: Tensor = stored["param"] if isinstance(stored, dict) else stored
        return tensor.float().flatten()


@contextmanager
def open_full_state(checkpoint: Path, zero_stage: int, group_names: list[list[str]], work: Path) -> Iterator[FullState]:
    """The state in a checkpoint. Collective: rank 0 converts, every rank reads, the end removes the converted files.

    Args:
        zero_stage: the ZeRO stage that wrote the checkpoint.
        group_names: names of the parameters in each of the optimiser's groups, in order.
        work: a folder that every rank sees, for the converted files.

    Raises:
        InputError: DeepSpeed's converter failed.
    """
    if zero_stage == 0:
        yield FullState(None, read_stage_0(checkpoint, group_names))
        return
    folder = work / f"{CONVERTED}{checkpoint.name}"
    failed: list[str | None] = [_convert(checkpoint, folder) if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(failed)
    try:
        if failed[0]:
            raise InputError(f"{checkpoint}: DeepSpeed's conversion failed: {failed[0]}")
        yield FullState(folder)
        dist.barrier()
    finally:
        if dist.get_rank() == 0:
            shutil.rmtree(folder, ignore_errors=True)


def read_stage_0(checkpoint: Path, group_names: list[list[str]]) -> dict[str, ParameterState]:
    """Every parameter's state from a stage 0 checkpoint. Unpickles DeepSpeed's file: check the owner first."""
    stored = torch.load(checkpoint / "mp_rank_00_model_states.pt", map_location="cpu", weights_only=False)
    optimizer: dict[str, Any] = stored["optimizer"]
    names = [name for group in group_names for name in group]
    if "fp32_groups" in optimizer:
        weights = [weight for group in optimizer["fp32_groups"] for weight in group]
        states = optimizer["optimizer_state_dict"]["state"]
    else:
        weights = [stored["module"][name] for name in names]
        states = optimizer["state"]
    return {
        name: ParameterState(
            weight.detach().float().flatten(),
            {key: states[i][key].flatten() for key in MOMENTS},
            int(states[i]["step"]) if "step" in states[i] else None,
        )
        for i, (name, weight) in enumerate(zip(names, weights, strict=True))
    }


def _convert(checkpoint: Path, folder: Path) -> str | None:
    """Run DeepSpeed's converter. Returns its last line where it failed, else None."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    pointer = folder.with_name("latest_universal")
    done = subprocess.run(
        [
            sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal",
            "--input_folder", str(checkpoint), "--output_folder", str(folder),
            "--num_extract_workers", "1", "--num_merge_workers", "1",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    # DeepSpeed's pointer to a folder that is removed soon.
    pointer.unlink(missing_ok=True)
    return (done.stderr.strip().splitlines() or ["no message"])[-1] if done.returncode else None
