"""Whether a checkpoint is whole, as far as one process can tell without a model."""

from __future__ import annotations

import errno
import sys
from dataclasses import dataclass
from pathlib import Path

from mmae.disk.ownership import check_tree
from mmae.engine.checkpoint.contents.train_state import TrainState, read_state
from mmae.engine.checkpoint.hashed_file import Entry
from mmae.engine.checkpoint.manifest import MANIFEST, content_problem, listing_problem, read_manifest
from mmae.errors import InputError
from mmae.run.layout import STATE, newest_first
from mmae.terminal.printable import printable


@dataclass(frozen=True)
class CheckpointInfo:
    """A checkpoint whose names and sizes are right.

    Attributes:
        files: what each must hold; None for one from before there were manifests.
    """

    state: TrainState
    files: dict[str, Entry] | None


def look_at(checkpoint: Path) -> CheckpointInfo | str:
    """A checkpoint's state and list of files, or what is wrong with it. Reads no weights.

    Raises:
        OSError: the checkpoint cannot be read, though it may be good.
    """
    try:
        files = read_manifest(checkpoint)
        if files is not None and (problem := listing_problem(checkpoint, files)):
            return problem
    except ValueError as error:
        return f"{MANIFEST}: {error}"
    except OSError as error:
        if error.errno == errno.EIO:
            return f"{error.filename}: {error.strerror}"
        raise
    try:
        state = read_state(checkpoint)
    except InputError as error:
        return f"{STATE}: {error.__cause__}"
    if files is None and state.format > 1:
        return f"{MANIFEST} is missing"
    return CheckpointInfo(state, files)


def problem_of(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, after reading every byte; None where nothing is."""
    try:
        found = look_at(checkpoint)
        if isinstance(found, str):
            return found
        return content_problem(checkpoint, found.files) if found.files is not None else None
    except OSError as error:
        return f"{error.filename}: {error.strerror}"


def newest_good(checkpoints: Path, trust: bool) -> Path | None:
    """The newest good checkpoint of a run that a training may be writing. Damaged ones are named and not touched.

    Raises:
        InputError: the newest was written by another user and is not trusted.
    """
    for path in newest_first(checkpoints):
        check_tree(path, trust)
        problem = problem_of(path)
        if problem is None:
            return path
        print(printable(f"{path} is damaged: {problem}; taking the one before it"), file=sys.stderr, flush=True)
    return None
