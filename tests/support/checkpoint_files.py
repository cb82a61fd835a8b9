"""Checkpoints without weights, as a training leaves them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from mmae.engine.checkpoint.contents.train_state import FORMAT, TrainState
from mmae.engine.checkpoint.hashed_file import write_hashed
from mmae.engine.checkpoint.store import SAVING, commit
from mmae.run.layout import STATE, name_of

WEIGHTS = "mp_rank_00_model_states.pt"


def state_of(step: int) -> TrainState:
    return TrainState(step, step * 16, 2, 1, "bf16", "abc", 1, {"mmae": "0.1.0"}, format=FORMAT)


def save_checkpoint(checkpoints: Path, step: int, state: TrainState | None = None, weights: str = "weights") -> Path:
    """Write and commit a checkpoint of three files, one of them in a folder."""
    final = checkpoints / name_of(step)
    temporary = checkpoints / f"{SAVING}{final.name}"
    (temporary / "offloaded_tensors" / "rank00").mkdir(parents=True)
    content = {
        STATE: json.dumps(asdict(state or state_of(step))),
        WEIGHTS: f"{weights} of step {step}",
        "offloaded_tensors/rank00/0.swp": "moments",
    }
    commit(temporary, final, {name: write_hashed(temporary / name, text.encode()) for name, text in content.items()})
    return final
