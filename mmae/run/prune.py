"""What a run does not need any more: damaged checkpoints, half-written ones, and the older ones of a finished run.

A run under way, an archive, a checkpoint that a recipe asks to keep, and the newest one are never touched.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mmae.config.schema import Config, flatten
from mmae.errors import InputError
from mmae.run.folder import RunFolder
from mmae.run.layout import CHECKPOINT_GLOB, CHECKPOINTS, STATE, newest_first, step_of
from mmae.run.state import RunState

_AT_REST: Final = frozenset({"finished", "stopped", "failed", "died"})
_MANIFEST: Final = "manifest.json"


@dataclass(frozen=True)
class Removable:
    """A folder that no run needs, its size, and why."""

    path: Path
    bytes: int
    why: str


def removable(folder: Path, state: RunState | None, trust: bool = False) -> list[Removable]:
    """The folders of a run's checkpoints that may go; none of a run that is under way, or may be."""
    if state is None or state.state not in _AT_REST:
        return []
    found = [(path, "damaged") for path in sorted((folder / CHECKPOINTS).glob(f"damaged-{CHECKPOINT_GLOB}"))]
    found += [(path, "half-written") for path in sorted((folder / CHECKPOINTS).glob(f".*{CHECKPOINT_GLOB}"))]
    if state.state == "finished":
        found += [(path, "older than the last") for path in _older(folder, trust)]
    return [Removable(path, folder_bytes(path), why) for path, why in found if path.is_dir() and not path.is_symlink()]


def remove(each: Removable) -> int:
    """Remove a folder. Returns the bytes that are free now."""
    # Renamed first: what is half gone must not look like a checkpoint.
    going = each.path.with_name(f".going-{each.path.name.lstrip('.')}")
    os.rename(each.path, going)
    shutil.rmtree(going)
    return each.bytes


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder, links not followed."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            # A run may remove a file at this moment.
            with suppress(OSError):
                total += os.lstat(os.path.join(root, name)).st_size
    return total


def _older(folder: Path, trust: bool) -> Iterator[Path]:
    """Checkpoints that a finished run has beside its last whole one and those that its recipe keeps."""
    checkpoints = newest_first(folder / CHECKPOINTS)
    config = _config(folder, trust)
    settings = {} if config is None else flatten(config)
    if not checkpoints or not all((checkpoints[0] / name).is_file() for name in (STATE, _MANIFEST)):
        return
    # Which one is the best is known to the run only.
    if config is None or settings.get("checkpoint.keep_best"):
        return
    every = settings["checkpoint.keep_every"]
    for path in checkpoints[1:]:
        if not every or (step_of(path) or 0) % every:
            yield path


def _config(folder: Path, trust: bool) -> Config | None:
    with suppress(InputError):
        return RunFolder(folder).stored_config(trust)
    return None
