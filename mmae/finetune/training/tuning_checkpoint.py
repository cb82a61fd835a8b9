"""Checkpoints of a fine-tuning: safetensors and JSON, whole or not at all, in the layout of those of `mmae train`.

    model.safetensors      the model's state        optimizer.safetensors   moments, by parameter and kind
    average.safetensors    averaged weights, if any  best.safetensors       the best weights, once there are some
    state.json  config.yaml  band_stats.json  manifest.json

Rank 0 writes; all ranks hold the same. Nothing random is in a checkpoint: every draw depends on seed and step.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from mmae.disk.json_text import parse_json
from mmae.disk.ownership import check_tree
from mmae.disk.regular_file import read_regular_text
from mmae.distributed.collectives import on_rank_0
from mmae.engine.checkpoint.background_save import SaveResult
from mmae.engine.checkpoint.hashed_file import Entry, write_hashed
from mmae.engine.checkpoint.manifest import MANIFEST, content_problem, listing_problem, read_manifest
from mmae.engine.checkpoint.store import (
    SAVING,
    archive_damaged,
    commit,
    damaged_ones,
    outside_retention,
    recover,
    remove,
    size_of,
)
from mmae.errors import InputError
from mmae.finetune.training.averaged_weights import AveragedWeights, Best
from mmae.run.layout import BAND_STATS, CONFIG, STATE, name_of, newest_first, step_of
from mmae.run.locking.lock import RunLock

_MODEL: Final = "model.safetensors"
_OPTIMIZER: Final = "optimizer.safetensors"
_AVERAGE: Final = "average.safetensors"
_BEST: Final = "best.safetensors"
_FORMAT: Final = 1


@dataclass(frozen=True)
class TuningState:
    """Where a fine-tuning stands.

    Attributes:
        step: optimiser steps done.
        shards: fingerprint of the shards' index.
        labels: a hash of the positions and the task, so that other labels are noticed.
        skipped: steps without an update so far.
        skipped_in_row: of these, the last ones in a row.
        best_step, best_score, without: of `Best`.
        format: version of the layout.
    """

    step: int
    shards: str
    labels: str
    skipped: int
    skipped_in_row: int
    best_step: int
    best_score: float | None
    without: int
    format: int = _FORMAT


@dataclass(frozen=True)
class Learner:
    """All that changes while a model learns."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: AveragedWeights
    best: Best


class TuningSaver:
    """Saves checkpoints of one run. Every rank calls `save` at the same steps."""

    def __init__(
        self, checkpoints: Path, recipe: str, band_stats: Mapping[str, Any], keep_last: int, lock: RunLock | None
    ) -> None:
        self._checkpoints, self._keep, self._lock = checkpoints, keep_last, lock
        self._settings = {CONFIG: recipe, BAND_STATS: json.dumps(band_stats) + "\n"}
        self.last: Path | None = None
        """The newest whole checkpoint."""

    def save(self, learner: Learner, state: TuningState) -> SaveResult:
        """Save, and say how that ended. A failed save leaves earlier checkpoints as they are.

        Raises:
            InputError: another start has taken over the run's folder.
        """
        began = time.monotonic()

        def work() -> SaveResult:
            try:
                if self._lock is not None:
                    self._lock.check()
                return self._write(learner, state)
            except OSError as error:
                shutil.rmtree(self._temporary(state.step), ignore_errors=True)
                where = error.filename or self._checkpoints
                return SaveResult(state.step, None, f"{where}: {error.strerror or error}")

        result = on_rank_0(work)
        self.last = result.path or self.last
        seconds = time.monotonic() - began
        return SaveResult(result.step, result.path, result.reason, 0, result.size, seconds, seconds)

    def must_have(self, step: int) -> None:
        """Make sure that a training which ends at this step has it saved.

        Raises:
            InputError: its save failed, and what to do.
        """
        if self.last is None or step_of(self.last) != step:
            raise InputError(
                f"{self._checkpoints}: the last step ({step}) could not be saved: make room and start again; that goes "
                f"on from {self.last or 'the beginning'}"
            )

    def _write(self, learner: Learner, state: TuningState) -> SaveResult:
        self._checkpoints.mkdir(parents=True, exist_ok=True)
        recover(self._checkpoints)
        before = newest_first(self._checkpoints)
        needed, free = (size_of(before[0]) if before else 0), shutil.disk_usage(self._checkpoints).free
        if free < needed:
            reason = (
                f"{self._checkpoints}: {free:,} bytes are free, the last checkpoint took {needed:,}: free some space"
            )
            return SaveResult(state.step, None, reason)
        temporary = self._temporary(state.step)
        temporary.mkdir()
        files: dict[str, Entry] = {}
        for name, tensors in _tensors(learner).items():
            files[name] = write_hashed(temporary / name, to_safetensors(tensors))
        for name, text in {**self._settings, STATE: json.dumps(asdict(state), indent=2) + "\n"}.items():
            files[name] = write_hashed(temporary / name, text.encode())
        final = self._checkpoints / name_of(state.step)
        commit(temporary, final, files)
        with suppress(OSError):
            self._thin_out(final)
        return SaveResult(state.step, final, size=sum(entry.size for entry in files.values()))

    def _temporary(self, step: int) -> Path:
        return self._checkpoints / f"{SAVING}{name_of(step)}"

    def _thin_out(self, final: Path) -> None:
        steps = {step: path for path in newest_first(self._checkpoints) if (step := step_of(path)) is not None}
        needed = {step for step, path in steps.items() if path == final}
        for step in outside_retention(steps, self._keep, 0, needed):
            with suppress(OSError):
                remove(steps[step])


def newest_good(
    checkpoints: Path, trust: bool, hashes: bool, say: Any, set_aside: bool = True
) -> tuple[Path, TuningState] | None:
    """The newest good checkpoint of a run and its state; None where there never was one.

    Args:
        hashes: read every byte.
        say: prints a line.
        set_aside: rename damaged ones.

    Raises:
        InputError: only damaged checkpoints are left, or another user wrote one.
    """
    for path in newest_first(checkpoints):
        check_tree(path, trust)
        found = _looked_at(path, hashes)
        if isinstance(found, TuningState):
            return path, found
        renamed = f": renamed to {archive_damaged(path).name}" if set_aside else ""
        say(f"resume: {path} is damaged: {found}{renamed}; looking for the one before it")
    if lost := [path.name for path in damaged_ones(checkpoints)]:
        raise InputError(
            f"{checkpoints}: no good checkpoint is left ({', '.join(lost)}): add --fresh to begin anew, which "
            "removes nothing"
        )
    return None


def named_state(path: Path, trust: bool, hashes: bool) -> TuningState:
    """The state of the checkpoint that `--resume` names.

    Args:
        hashes: read every byte.

    Raises:
        InputError: it is damaged, or another user wrote it.
    """
    check_tree(path, trust)
    found = _looked_at(path, hashes)
    if isinstance(found, str):
        raise InputError(f"--resume {path}: damaged: {found}: name another checkpoint")
    return found


def load_learner(path: Path, state: TuningState, learner: Learner) -> None:
    """Restore what `TuningSaver.save` wrote, bit for bit.

    Raises:
        InputError: it is of another model or recipe.
    """
    try:
        learner.model.load_state_dict(load_file(path / _MODEL))
        _load_optimizer(learner.optimizer, load_file(path / _OPTIMIZER))
        if learner.average.state():
            learner.average.load(load_file(path / _AVERAGE))
        best = learner.best
        best.step, best.score, best.without = state.best_step, state.best_score, state.without
        best.weights = load_file(path / _BEST) if state.best_step else {}
    except (OSError, SafetensorError, RuntimeError, LookupError) as error:
        said = str(error).partition("\n")[0]
        raise InputError(
            f"{path}: does not fit this recipe ({said}): choose another run.dir, or add --fresh"
        ) from error


def _looked_at(path: Path, hashes: bool) -> TuningState | str:
    """The state of a good checkpoint, or what is wrong with it."""
    try:
        files = read_manifest(path)
        if files is None:
            return f"{MANIFEST} is missing"
        problem = listing_problem(path, files) or (content_problem(path, files) if hashes else None)
        return problem or TuningState(**parse_json(read_regular_text(path / STATE)))
    except (ValueError, TypeError) as error:
        return f"{STATE} or {MANIFEST}: {error}"
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}: correct that, then start again") from error


def _tensors(learner: Learner) -> dict[str, dict[str, Tensor]]:
    model = {name: each.detach().contiguous() for name, each in learner.model.state_dict().items()}
    files = {_MODEL: model, _OPTIMIZER: _optimizer_tensors(learner.optimizer)}
    if average := learner.average.state():
        files[_AVERAGE] = average
    if learner.best.weights:
        files[_BEST] = dict(learner.best.weights)
    return files


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """`NUMBER.KIND` -> a moment, or the step count, of each parameter."""
    state: Mapping[int, Mapping[str, Tensor]] = optimizer.state_dict()["state"]
    return {
        f"{number}.{kind}": each.detach().contiguous()
        for number, kinds in state.items()
        for kind, each in kinds.items()
    }


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, each in tensors.items():
        number, _, kind = name.partition(".")
        state.setdefault(int(number), {})[kind] = each
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
