"""A run that has passed every check which needs no process group, no model and no GPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmae.batching import BatchSplit, split_global_batch
from mmae.config import Config, load_config, parse_overrides
from mmae.data.order import TrainOrder
from mmae.data.sets import check_cache, common_datasets, open_sets
from mmae.data.training_tiles import TrainingTiles, training_tiles
from mmae.engine.ds_config import load_deepspeed_json, merge, precision_of, zero_stage_of
from mmae.engine.first_start import was_followed
from mmae.engine.plan_data import check_tiles, chosen_band_stats
from mmae.engine.resume_path import ResumePath, resume_path
from mmae.engine.run_folder import RunFolder, changes_on_resume
from mmae.engine.trackers import check_trackers
from mmae.errors import InputError


@dataclass(frozen=True)
class Plan:
    """What a start of training will do.

    Attributes:
        changes: values that a resumed run changes, by dotted key: old and new.
        ds_config: what `deepspeed.initialize` is given.
        tiles: of every shard set, what training takes.
        order: in which it reads them.
        band_stats: what tiles are normalised with.
        trust: read what other users wrote or can write: the run that is resumed, recipe, initial weights.
        resume: the checkpoint to go on from, where one was named.
        fresh: begin anew; what the folder holds is set aside.
        followed_before: one of the two was said, but this is a start again by a launcher or scheduler, which has
            followed it.
    """

    config: Config
    changes: dict[str, tuple[Any, Any]]
    folder: RunFolder
    ds_config: dict[str, Any]
    split: BatchSplit
    tiles: TrainingTiles
    order: TrainOrder
    band_stats: Mapping[str, Any]
    trust: bool = False
    resume: ResumePath | None = None
    fresh: bool = False
    followed_before: bool = False

    @property
    def stop(self) -> int:
        """The step this start ends at."""
        return min(self.config.train.stop_at or self.config.train.max_steps, self.config.train.max_steps)

    @property
    def zero_stage(self) -> int:
        return zero_stage_of(self.ds_config)

    @property
    def precision(self) -> str:
        return precision_of(self.ds_config)


def plan_run(
    recipe: str,
    deepspeed_config: str,
    overrides: list[str],
    world: int,
    trust: bool = False,
    resume: str | None = None,
    fresh: bool = False,
) -> Plan:
    """Check everything that a start of training says. Reads only.

    Args:
        recipe: packaged name or YAML file.
        deepspeed_config: packaged name or JSON file.
        overrides: `section.key=value` of the command line.
        world: ranks that will train.
        resume: what `--resume` says, if anything.
        fresh: whether `--fresh` is said.

    Raises:
        InputError: whatever can be refused before a rank is waited for.
    """
    config = load_config(recipe, overrides, trust)
    check_trackers(config)
    split = split_global_batch(config.train.global_batch, config.train.micro_batch, world)
    ds_config = merge(*load_deepspeed_json(deepspeed_config), config.train, split)
    folder = RunFolder(Path(config.run.dir))
    if resume is not None and fresh:
        raise InputError("--resume and --fresh contradict each other: say one of them")
    followed_before = (resume is not None or fresh) and folder.config_file.is_file()
    followed_before = followed_before and was_followed(folder.path, os.environ)
    if followed_before:
        resume, fresh = None, False
    source = resume_path(resume) if resume is not None else None
    stored = _config_to_go_on_with(folder, source, fresh, trust)
    said = parse_overrides(overrides)
    changes = {} if stored is None else changes_on_resume(stored, config, said, folder)
    if not config.data.locations:
        raise InputError(f"{recipe}: data.shards is not set: say data.shards=FOLDER, written by mmae repack")
    sets = open_sets(config.data)
    check_cache(sets, config.data)
    common_datasets(sets, config.model.domains)
    tiles = training_tiles(sets, config.data, config.train.seed)
    goes_on = None if stored is None else folder if source is None else RunFolder(source.config_file.parent)
    band_stats = chosen_band_stats(config, tiles, goes_on)
    check_tiles(config, tiles, band_stats)
    # Behind all that can be refused without torch, which takes seconds to import.
    import torch

    from mmae.data.preprocess import Preprocess

    preprocess = Preprocess(config.data, config.model, band_stats, torch.device("cpu"))
    preprocess.tile_size({name: dataset.shape for name, dataset in sets[0].index.datasets.items()})
    order = tiles.order(config.train.global_batch)
    return Plan(
        config, changes, folder, ds_config, split, tiles, order, band_stats, trust, source, fresh, followed_before
    )


def _config_to_go_on_with(folder: RunFolder, source: ResumePath | None, fresh: bool, trust: bool) -> Config | None:
    """The recipe that this start may change only so far; None where it is the first."""
    if source is not None:
        if not source.config_file.is_file():
            raise InputError(f"{source.config_file}: is missing: which recipe the checkpoint belongs to is not known")
        return RunFolder(source.config_file.parent).stored_config(trust)
    # Whatever run the folder holds, damaged or not, is set aside.
    return None if fresh and folder.config_file.is_file() else folder.stored_config(trust)
