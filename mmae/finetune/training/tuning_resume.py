"""Where a fine-tuning goes on: the newest good checkpoint of its folder, or the beginning."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmae.config.finetune_checks import FINETUNING
from mmae.config.finetune_schema import FinetuneConfig
from mmae.distributed.collectives import on_rank_0
from mmae.engine.checkpoint.archive import archive_later_checkpoints, archive_run
from mmae.engine.checkpoint.store import recover
from mmae.errors import InputError
from mmae.finetune.training.tuning_checkpoint import TuningState, named_state, newest_good
from mmae.run.folder import RunFolder, recipe_text
from mmae.run.layout import BAND_STATS
from mmae.terminal.message import say

if TYPE_CHECKING:
    from mmae.finetune.start.tuning_spec import TuningSpec


def find_resume_point(spec: TuningSpec, band_stats: Mapping[str, Any]) -> tuple[Path, TuningState] | None:
    """The checkpoint to go on from, and its state; None for a new run. Collective.

    What the folder holds beyond it is archived within the folder: nothing is removed.

    Args:
        band_stats: what this start normalises with.

    Raises:
        InputError: no good checkpoint is left, or it is of other tiles, labels or statistics, or beyond the last step.
    """

    def find() -> tuple[Path, TuningState] | None:
        try:
            return _find(spec, band_stats)
        except OSError as error:
            raise InputError(f"{error.filename}: {error.strerror}: correct that, then start again") from error

    return on_rank_0(find)


def own_recipe(config: FinetuneConfig) -> str:
    """The run's own recipe as YAML."""
    return recipe_text(config, FINETUNING)


def _find(spec: TuningSpec, band_stats: Mapping[str, Any]) -> tuple[Path, TuningState] | None:
    folder = spec.folder
    if spec.fresh:
        _say_archived(archive_run(folder))
        return None
    if folder.checkpoints.is_dir():
        recover(folder.checkpoints)
    hashes, source = spec.config.checkpoint.verify_hashes, spec.resume
    if source is None:
        found = newest_good(folder.checkpoints, spec.trust, hashes, say)
    elif source.checkpoint is not None:
        found = source.checkpoint, named_state(source.checkpoint, spec.trust, hashes)
    else:
        found = newest_good(source.checkpoints, spec.trust, hashes, say, set_aside=False)
        if found is None:
            raise InputError(f"--resume {source.checkpoints}: holds no good checkpoint")
    if found is not None:
        _check(found[0], found[1], spec, band_stats)
    if source is not None and source.checkpoints.resolve() != folder.checkpoints.resolve():
        _say_archived(archive_run(folder))
    else:
        _say_archived(archive_later_checkpoints(folder, found[1].step if found else 0))
    return found


def _check(path: Path, state: TuningState, spec: TuningSpec, band_stats: Mapping[str, Any]) -> None:
    labelled, most = spec.labelled, spec.config.train.max_steps
    if state.step > most:
        raise InputError(
            f"{path}: is beyond the last step, train.max_steps={most}: set a higher one, name an earlier checkpoint "
            "with --resume, or choose another run.dir"
        )
    # What an older release saved leaves the statistics to its run's folder.
    normalised = RunFolder(path if (path / BAND_STATS).is_file() else path.parent.parent)
    if normalised.stored_band_stats() != json.loads(json.dumps(band_stats)):
        raise InputError(
            f"{path}: was trained with other band statistics: set data.band_stats={normalised.band_stats_file} to go "
            "on with them, or choose another run.dir"
        )
    if state.shards != labelled.each.index.fingerprint:
        shards = spec.config.source.is_shards
        what, key = ("shards", "data.shards") if shards else ("files", "source.folder")
        raise InputError(
            f"{path}: was trained on other {what} (index {state.shards[:12]}) than {labelled.each.index.folder}: point "
            f"{key} at the former, or choose another run.dir"
        )
    if state.labels != labelled.identity:
        raise InputError(
            f"{path}: was trained with other labels or splits: put task.labels back, or choose another run.dir"
        )


def _say_archived(archive: Path | None) -> None:
    if archive is not None:
        say(f"resume: what this start does not go on with is now in {archive}")
