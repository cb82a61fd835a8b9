"""Archives what a start does not go on with. Nothing is removed, and an archive is itself a run folder."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Final

from mmae.disk.files import sync, write_whole
from mmae.engine.checkpoint.store import unused
from mmae.engine.history.record_archive import archive_records, is_ahead
from mmae.run.folder import RunFolder
from mmae.run.layout import (
    ARCHIVE,
    BAND_STATS,
    CHECKPOINTS,
    CONFIG,
    DAMAGED_TILES,
    DS_CONFIG,
    LATEST,
    LOG,
    LOGS,
    MODEL,
    PARENT,
    PICTURES,
    PREDICTIONS,
    PROFILE,
    QUARANTINE,
    RESULTS,
    SAMPLES,
    SCORES,
    SEARCH,
    SEEDS,
    TENSORBOARD,
    WANDB,
    newest_first,
    step_of,
)

_SETTINGS: Final = (CONFIG, DS_CONFIG, BAND_STATS, PARENT)
_MOVED: Final = (
    CHECKPOINTS, *_SETTINGS, LOG, SAMPLES, DAMAGED_TILES,
    QUARANTINE, LOGS, PICTURES, PROFILE, TENSORBOARD, WANDB,
    RESULTS, SCORES, MODEL, PREDICTIONS, SEARCH, SEEDS,
)  # fmt: skip
_OF_AN_END: Final = (RESULTS, MODEL, PREDICTIONS)
"""What a fine-tuning writes behind its last checkpoint."""


def archive_run(folder: RunFolder) -> Path | None:
    """Move a run into a dated folder within its own; None where there is no run."""
    found = [path for pattern in _MOVED for path in sorted(folder.path.glob(pattern))]
    if not found:
        return None
    archive = _dated(folder)
    for path in found:
        os.rename(path, archive / path.name)
    sync(folder.path)
    return archive


def archive_later_checkpoints(folder: RunFolder, step: int) -> Path | None:
    """Move checkpoints and records of later steps into a dated folder, beside copies of the settings.

    Returns:
        the folder; None where there is nothing later.
    """
    later = [path for path in newest_first(folder.checkpoints) if (step_of(path) or 0) > step]
    if not later and not is_ahead(folder.path, step):
        return None
    archive = _dated(folder)
    for name in _SETTINGS:
        if (folder.path / name).is_file():
            shutil.copy2(folder.path / name, archive / name)
    if later:
        _move_checkpoints(later, archive / folder.checkpoints.name)
        for name in _OF_AN_END:
            if (folder.path / name).exists():
                os.rename(folder.path / name, archive / name)
    # After the checkpoints: a start that is killed in between leaves a log that is ahead, and the next start sees that.
    archive_records(folder.path, step, archive)
    return archive


def _move_checkpoints(newest_first: list[Path], there: Path) -> None:
    there.mkdir()
    # Newest first: after each move the remaining checkpoints are those up to a step, without a gap.
    for path in newest_first:
        os.rename(path, there / path.name)
    write_whole(there / LATEST, newest_first[0].name)
    sync(newest_first[0].parent)


def _dated(folder: RunFolder) -> Path:
    archive = unused(folder.path / f"{ARCHIVE}{time.strftime('%Y%m%d-%H%M%S')}")
    archive.mkdir()
    return archive
