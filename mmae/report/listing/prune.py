"""What a run does not need any more: damaged checkpoints, half-written ones, and the older ones of a finished run.

A run under way, an archive, a checkpoint that a recipe asks to keep, and the newest one are never touched. Nothing
goes unless the newest one is whole to its last byte, and no training can begin meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mmae.config.schema import Config, flatten
from mmae.engine.checkpoint import store
from mmae.engine.checkpoint.integrity import look_at, problem_of
from mmae.errors import InputError
from mmae.run.folder import RunFolder
from mmae.run.layout import CHECKPOINT_GLOB, CHECKPOINTS, LOG, check_run, newest_first, step_of
from mmae.run.state import RunState

_AT_REST: Final = frozenset({"finished", "stopped", "failed", "died"})
_OLDER: Final = "older than the last"


@dataclass(frozen=True)
class Removable:
    """A folder that no run needs, its size, and why."""

    path: Path
    bytes: int
    why: str


@dataclass(frozen=True)
class Prunable:
    """What may go of one run.

    Attributes:
        log_bytes: the length of its log when that was decided: a run that has gone on since needs another decision.
    """

    run: Path
    there: Sequence[Removable]
    log_bytes: int


def prunable(run: Path, state: RunState | None, trust: bool = False) -> Prunable:
    """The folders of a run's checkpoints that may go; none of a run that is under way, or may be."""
    log_bytes = _log_bytes(run)
    if state is None or state.state not in _AT_REST or not _is_ours(run, trust):
        return Prunable(run, (), log_bytes)
    checkpoints = run / CHECKPOINTS
    found = [(path, "damaged") for path in store.damaged_ones(checkpoints)]
    found += [
        (path, "half-written")
        for begin in store.LEFTOVERS
        for path in sorted(checkpoints.glob(f"{begin}{CHECKPOINT_GLOB}"))
    ]
    if state.state == "finished":
        found += [(path, _OLDER) for path in _older(run, trust)]
    there = [Removable(path, folder_bytes(path), why) for path, why in found if _is_own_folder(path)]
    return Prunable(run, there, log_bytes)


def prune(chosen: Prunable) -> int:
    """Remove what may go of a run, under its lock. Returns the bytes that are free now.

    Raises:
        InputError: a training writes the run, or has since; or the checkpoint that would stay is damaged.
    """
    from mmae.run.locking.lock import held

    with held(chosen.run):
        if _log_bytes(chosen.run) != chosen.log_bytes:
            raise InputError(f"{chosen.run}: has gone on meanwhile, so nothing of it was removed: ask again")
        if any(each.why == _OLDER for each in chosen.there):
            newest = newest_first(chosen.run / CHECKPOINTS)[0]
            if problem := problem_of(newest):
                raise InputError(f"{newest}: is damaged ({problem}), so nothing of the run was removed")
        for each in chosen.there:
            store.remove(each.path)
    return sum(each.bytes for each in chosen.there)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder, links not followed."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            # A run may remove a file at this moment.
            with suppress(OSError):
                total += os.lstat(os.path.join(root, name)).st_size
    return total


def _older(run: Path, trust: bool) -> Iterator[Path]:
    """Checkpoints that a finished run has beside its last whole one and those that its recipe keeps."""
    checkpoints = newest_first(run / CHECKPOINTS)
    config = _config(run, trust)
    settings = {} if config is None else flatten(config)
    # Which one is the best is known to the run only.
    if not checkpoints or config is None or settings.get("checkpoint.keep_best"):
        return
    with suppress(OSError):
        if isinstance(look_at(checkpoints[0]), str):
            return
        every, latest = settings["checkpoint.keep_every"], store.pointed_at(run / CHECKPOINTS)
        for path in checkpoints[1:]:
            if path.name != latest and (not every or (step_of(path) or 0) % every):
                yield path


def _is_ours(run: Path, trust: bool) -> bool:
    with suppress(InputError):
        check_run(run, trust)
        return True
    return False


def _config(run: Path, trust: bool) -> Config | None:
    with suppress(InputError):
        return RunFolder(run).stored_config(trust)
    return None


def _is_own_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _log_bytes(run: Path) -> int:
    with suppress(OSError):
        return (run / LOG).stat().st_size
    return 0
