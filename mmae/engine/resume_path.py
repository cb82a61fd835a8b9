"""What `--resume PATH` names: a checkpoint, or a run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmae.engine.checkpoint_store import newest_first, step_of
from mmae.engine.train_state import CONFIG, STATE, checkpoint_names
from mmae.errors import InputError


@dataclass(frozen=True)
class ResumePath:
    """Where to go on from.

    Attributes:
        checkpoint: the very one; None to take the newest good one.
        checkpoints: the folder it lies in.
        config_file: recipe of the run that wrote it.
    """

    checkpoint: Path | None
    checkpoints: Path
    config_file: Path


def resume_path(text: str) -> ResumePath:
    """What a user named. Looks at names only.

    Raises:
        InputError: it is neither a checkpoint nor a run with one.
    """
    path = Path(text).absolute()
    if (path / STATE).is_file() or step_of(path) is not None:
        if not path.is_dir():
            raise InputError(f"--resume {text}: no such checkpoint (there are: {checkpoint_names(path.parent)})")
        own = path / CONFIG
        return ResumePath(path, path.parent, own if own.is_file() else path.parent.parent / CONFIG)
    for checkpoints in (path / "checkpoints", path):
        if newest_first(checkpoints):
            return ResumePath(None, checkpoints, checkpoints.parent / CONFIG)
    raise InputError(f"--resume {text}: neither a checkpoint (global_stepN) nor a run folder that holds one")
