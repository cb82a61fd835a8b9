"""The names of everything in a run's folder, each written once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_NAME: Final = re.compile(r"global_step(0|[1-9]\d{0,17})")
LOCK: Final = ".lock"
ARCHIVE: Final = "aside-"
"""What stands in front of the date of runs that were set aside within the folder."""
FOLLOWED: Final = ".followed"
"""Whose `--resume` or `--fresh` was followed (`restart`)."""
STOP: Final = "stop"
"""A file that people make to stop a training."""
CONFIG: Final = "config.yaml"
DS_CONFIG: Final = "ds_config.json"
BAND_STATS: Final = "band_stats.json"
LOG: Final = "log.jsonl"
SAMPLES: Final = "samples_rank*.jsonl"
DAMAGED_TILES: Final = "damaged_rank*.jsonl"
QUARANTINE: Final = "quarantine"
QUARANTINED: Final = "rank_*.jsonl"
"""In `QUARANTINE`."""
LOGS: Final = "logs"
PICTURES: Final = "pictures"
PROFILE: Final = "profile"
TENSORBOARD: Final = "tensorboard"
WANDB: Final = "wandb"

CHECKPOINTS: Final = "checkpoints"
LATEST: Final = "latest"
"""In `CHECKPOINTS`: the name of the newest."""
STATE: Final = "state.json"
"""In each checkpoint, beside `CONFIG` and `BAND_STATS`."""


def of_rank(pattern: str, rank: int) -> str:
    """The name of a rank's own file, such as `SAMPLES`."""
    return pattern.replace("*", str(rank))


def name_of(step: int) -> str:
    """The folder name of a step's checkpoint."""
    return f"global_step{step}"


def step_of(path: Path) -> int | None:
    """The step that a folder's name says; None where it is no checkpoint's name."""
    match = _NAME.fullmatch(path.name)
    return int(match.group(1)) if match else None


def newest_first(checkpoints: Path) -> list[Path]:
    """Every checkpoint, by the steps in their names."""
    if not checkpoints.is_dir():
        return []
    steps = {step: path for path in checkpoints.iterdir() if path.is_dir() and (step := step_of(path)) is not None}
    return [steps[step] for step in sorted(steps, reverse=True)]


def checkpoint_names(checkpoints: Path) -> str:
    """The checkpoints that a run has, for a message."""
    return ", ".join(sorted(path.name for path in checkpoints.glob("global_step*"))) or "none"
