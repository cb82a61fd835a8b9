"""The best checkpoint by a score. Each checkpoint holds the scores of its step, so the choice is read from the disk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmae.config.score_names import EVAL, is_lower_better, of_weights
from mmae.disk.json_text import parse_json
from mmae.disk.regular_file import read_regular_text
from mmae.errors import InputError
from mmae.run.layout import STATE, checkpoint_names, newest_first, step_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Best:
    """A checkpoint, its step, and its value of the score that was asked for, with the score's name."""

    path: Path
    step: int
    value: float
    score: str


def best_checkpoint(checkpoints: Path, score: str, protocol: str) -> Best | None:
    """The checkpoint with the best value of a score; of equal ones the earliest. None if none has such a score.

    Args:
        protocol: of the probes (`EvalConfig.protocol`): those of other checkpoints cannot be compared with it.

    Raises:
        OSError: a checkpoint's scores cannot be read, so that the best one is not known.
    """
    best: Best | None = None
    for each in _scored(checkpoints, score, protocol):
        if best is None or is_better(score, each.value, best.value):
            best = each
    return best


def best_of_run(run: str, trust: bool) -> Best:
    """The best checkpoint of a run by the score that its recipe keeps it by (`checkpoint.keep_best`).

    Args:
        trust: the run may belong to another user.

    Raises:
        InputError: there is no run; it keeps no best checkpoint, or has none yet.
    """
    # `mmae status` reads no recipe, and does without what that takes.
    from mmae.run.folder import open_run

    folder = open_run(run, trust)
    config = folder.stored_config(trust)
    assert config is not None
    score, names = config.checkpoint.keep_best, checkpoint_names(folder.checkpoints)
    if score is None:
        raise InputError(f"{run}: --best: its recipe keeps no best checkpoint (checkpoint.keep_best): give --step")
    try:
        best = best_checkpoint(folder.checkpoints, score, config.eval.protocol)
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}: correct that, or give --step") from error
    if best is None:
        raise InputError(f"{run}: --best: no checkpoint has a score {score} (there are: {names}): give --step")
    return best


def is_better(score: str, value: float, than: float) -> bool:
    """Whether a value of a score is better than another one. Equal ones are not."""
    return value < than if is_lower_better(score) else value > than


def _scored(checkpoints: Path, score: str, protocol: str) -> Iterator[Best]:
    """Checkpoints that have the score, oldest first."""
    for path in reversed(newest_first(checkpoints)):
        state = _state(path)
        scores = state.get("scores")
        value = scores.get(score) if isinstance(scores, dict) else None
        comparable = not of_weights(score).startswith(EVAL) or state.get("protocol") == protocol
        if comparable and isinstance(value, float) and math.isfinite(value):
            yield Best(path, step_of(path) or 0, value, score)


def _state(checkpoint: Path) -> Mapping[str, Any]:
    """A checkpoint's state.json; empty if the checkpoint is removed just now, or damaged."""
    try:
        state = parse_json(read_regular_text(checkpoint / STATE))
    except (FileNotFoundError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}
