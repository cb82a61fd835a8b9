"""The names of everything in a run's folder, each written once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from mmae.disk.ownership import check_owner

LOCK: Final = ".lock"
FOLLOWED: Final = ".followed"
"""Names the launches that have followed `--resume` or `--fresh` (`restart`)."""
STOP: Final = "stop"
"""A file that people make to stop a training."""
ARCHIVE: Final = "aside-"
"""Prefix, before the date, of runs that were archived within the folder."""
CONFIG: Final = "config.yaml"
DS_CONFIG: Final = "ds_config.json"
BAND_STATS: Final = "band_stats.json"
PARENT: Final = "parent.json"
"""Names the checkpoint of another run that the run went on from (`parent`)."""
LOG: Final = "log.jsonl"
SAMPLES: Final = "samples_rank*.jsonl"
DAMAGED_TILES: Final = "damaged_rank*.jsonl"
QUARANTINE: Final = "quarantine"
QUARANTINED: Final = "rank_*.jsonl"
"""In `QUARANTINE`."""
LOGS: Final = "logs"
PICTURES: Final = "pictures"
TILES_KEY: Final = "mmae tiles"
"""Under this key a file in `PICTURES` says how many tiles stand side by side in it."""
PROFILE: Final = "profile"
TENSORBOARD: Final = "tensorboard"
WANDB: Final = "wandb"

RESULTS: Final = "results.json"
"""The scores of a fine-tuning that has ended."""
SCORES: Final = "scores"
"""A folder for what probes and other commands wrote about the run; `mmae report` reads it."""
MODEL: Final = "model"
"""The fine-tuned model's folder."""
PREDICTIONS: Final = "predictions"
SEARCH: Final = "search"
SEEDS: Final = "seeds"
"""A fine-tuning's trials and repeats: each is a run folder in one of these two."""

CHECKPOINTS: Final = "checkpoints"
LATEST: Final = "latest"
"""In `CHECKPOINTS`: the name of the newest."""
STATE: Final = "state.json"
"""In each checkpoint, beside `CONFIG` and `BAND_STATS`."""
RNG_STATES: Final = "rng_rank_*.safetensors"
"""In each checkpoint, one for each rank."""
AVERAGE: Final = "average_rank_*.safetensors"
"""In each checkpoint of a run with `train.ema`: a rank's part of the averaged weights."""
CONVERTED: Final = ".universal-"
"""Prefix, before a checkpoint's name, of what a start converts it into for a moment."""
CHECKPOINT_GLOB: Final = "global_step*"
_CHECKPOINT: Final = re.compile(r"global_step(0|[1-9]\d{0,17})")

READ_BY_COMMANDS: Final = (CONFIG, DS_CONFIG, BAND_STATS, PARENT, LOG, FOLLOWED, CHECKPOINTS)


def of_rank(pattern: str, rank: int) -> str:
    """The name of a rank's own file, such as `SAMPLES`."""
    return pattern.replace("*", str(rank))


def name_of(step: int) -> str:
    """The folder name of a step's checkpoint."""
    return f"global_step{step}"


def step_of(path: Path) -> int | None:
    """The step in a checkpoint's name; None if the name is not that of a checkpoint."""
    match = _CHECKPOINT.fullmatch(path.name)
    return int(match.group(1)) if match else None


def newest_first(checkpoints: Path) -> list[Path]:
    """Every checkpoint, sorted by the step in its name."""
    if not checkpoints.is_dir():
        return []
    steps = {step: path for path in checkpoints.iterdir() if path.is_dir() and (step := step_of(path)) is not None}
    return [steps[step] for step in sorted(steps, reverse=True)]


def checkpoint_names(checkpoints: Path) -> str:
    """The names of a run's checkpoints, for a message."""
    return ", ".join(sorted(path.name for path in checkpoints.glob(CHECKPOINT_GLOB))) or "none"


def check_run(folder: Path, trust: bool) -> None:
    """`check_owner` for a run's folder and the files in it that commands read; missing ones do no harm.

    Raises:
        InputError: see `check_owner`.
    """
    check_owner((folder, *(folder / name for name in READ_BY_COMMANDS)), trust)
