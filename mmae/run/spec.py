"""A run that has passed every check which needs no process group, no model and no GPU."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import xxhash

import mmae
from mmae.config.batch_split import BatchSplit, split_global_batch
from mmae.config.deepspeed import load_deepspeed_json, merge, precision_of, zero_stage_of
from mmae.config.recipe_file import load_config, parse_overrides
from mmae.config.schema import Config, flatten
from mmae.data.sampling.order import TrainOrder
from mmae.data.sampling.shard_sets import check_cache, common_datasets, open_sets
from mmae.data.sampling.training_tiles import TrainingTiles, training_tiles
from mmae.distributed.code_hash import code_hash
from mmae.errors import InputError
from mmae.run.folder import RunFolder, changes_on_resume
from mmae.run.layout import CHECKPOINTS, CONFIG, STATE, checkpoint_names, newest_first, step_of
from mmae.run.restart import was_followed
from mmae.run.tile_checks import check_tiles, chosen_band_stats


@dataclass(frozen=True)
class RunSpec:
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


def make_run_spec(
    recipe: str,
    deepspeed_config: str,
    overrides: list[str],
    world: int,
    trust: bool = False,
    resume: str | None = None,
    fresh: bool = False,
) -> RunSpec:
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

    from mmae.data.transforms.preprocess import Preprocess

    preprocess = Preprocess(config.data, config.model, band_stats, torch.device("cpu"))
    preprocess.tile_size({name: dataset.shape for name, dataset in sets[0].index.datasets.items()})
    order = tiles.order(config.train.global_batch)
    return RunSpec(
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
    for checkpoints in (path / CHECKPOINTS, path):
        if newest_first(checkpoints):
            return ResumePath(None, checkpoints, checkpoints.parent / CONFIG)
    raise InputError(f"--resume {text}: neither a checkpoint (global_stepN) nor a run folder that holds one")


def runs(spec: RunSpec) -> dict[str, str]:
    """What must be the same on every rank of a training."""
    recipe = json.dumps([flatten(spec.config), spec.ds_config], sort_keys=True, default=str)
    code = code_hash(Path(mmae.__file__).parent)
    return {
        "mmae": f"{mmae.__version__} ({code[:8]})",
        **{name: version(name) for name in ("torch", "deepspeed", "numpy")},
        "python": ".".join(map(str, sys.version_info[:3])),
        "recipe": xxhash.xxh3_64_hexdigest(recipe.encode())[:8],
        "shards": " ".join(each.index.fingerprint[:8] for each in spec.tiles.sets),
    }


def check_trackers(config: Config) -> None:
    """Refuse what cannot be had.

    Raises:
        InputError: a tracker that was asked for needs a package that is missing.
    """
    if config.log.tensorboard and find_spec("tensorboard") is None:
        raise InputError(
            "log.tensorboard=true needs the package tensorboard: pip install 'mmae[tensorboard]' (or leave it false)"
        )
