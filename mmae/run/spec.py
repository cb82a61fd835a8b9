"""What a start of training will do, after every check that needs no process group, no model and no GPU."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import xxhash

import mmae
from mmae.config.batch_split import BatchSplit, split_global_batch
from mmae.config.deepspeed import load_deepspeed_json, merge, precision_of, zero_stage_of
from mmae.config.deepspeed_schema import DeepSpeedJson
from mmae.config.recipe_file import TRAINING, RecipeKind, overridden, parse_overrides
from mmae.config.schema import Config, Tracked, flatten
from mmae.data.sampling.order import TrainOrder
from mmae.data.sampling.shard_sets import check_cache, common_datasets, open_sets
from mmae.data.sampling.training_tiles import TrainingTiles, training_tiles
from mmae.distributed.code_hash import code_hash
from mmae.errors import InputError
from mmae.model.counts.named_parts import check_compiled, check_parts
from mmae.run.folder import RunFolder, changes_on_resume
from mmae.run.layout import CHECKPOINTS, CONFIG, STATE, checkpoint_names, newest_first, step_of
from mmae.run.restart import was_followed
from mmae.run.tile_checks import check_tiles, chosen_band_stats

C = TypeVar("C")


@dataclass(frozen=True)
class RunSpec:
    """What a start of training will do.

    Attributes:
        changes: old and new of each value that a resumed run changes, by dotted key.
        ds_config: the configuration for `deepspeed.initialize`.
        tiles: the training tiles of every shard set.
        order: the order in which training reads them.
        band_stats: the statistics that normalise tiles.
        trust: read files that other users wrote or can write: the resumed run, the recipe, initial weights.
        resume: the checkpoint that `--resume` names, if any.
        fresh: start a new run, and archive the run that the folder holds.
        followed_before: the command has `--resume` or `--fresh`, but an earlier start of this launch followed it.
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
        """The step at which this start ends."""
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
    """Check all settings of a start of training. It only reads.

    Args:
        recipe: packaged name or YAML file.
        deepspeed_config: packaged name or JSON file.
        overrides: `section.key=value` of the command line.
        world: number of ranks.
        resume: the value of `--resume`, if given.
        fresh: whether `--fresh` is given.

    Raises:
        InputError: anything that can be refused before ranks meet.
    """
    said = parse_overrides(overrides)
    config = overridden(recipe, said, trust)
    split, ds_config = engine_settings(config, *load_deepspeed_json(deepspeed_config), world)
    folder = RunFolder(Path(config.run.dir))
    again = followed_before(folder, resume, fresh)
    if again:
        resume, fresh = None, False
    source = resume_path(resume) if resume is not None else None
    stored = recipe_to_go_on_with(folder, source, fresh, TRAINING, trust)
    leaves = source is not None and source.checkpoints.parent.resolve() != folder.path.resolve()
    changes = {} if stored is None else changes_on_resume(stored, config, said, folder, leaves)
    if not config.data.locations:
        raise InputError(f"{recipe}: data.shards is not set: give data.shards=FOLDER, written by mmae repack")
    tiles = tiles_of(config)
    goes_on = None if stored is None else folder if source is None else RunFolder(source.config_file.parent)
    band_stats = chosen_band_stats(config, tiles, goes_on)
    check_tiles(config, tiles, band_stats)
    # The import of torch takes seconds: all checks without it come first.
    import torch

    from mmae.data.transforms.preprocess import Preprocess

    preprocess = Preprocess(config.data, config.model, band_stats, torch.device("cpu"))
    preprocess.tile_size({name: dataset.shape for name, dataset in tiles.sets[0].index.datasets.items()})
    order = tiles.order(config.train.global_batch)
    return RunSpec(config, changes, folder, ds_config, split, tiles, order, band_stats, trust, source, fresh, again)


def engine_settings(config: Config, path: Path, parsed: DeepSpeedJson, world: int) -> tuple[BatchSplit, dict[str, Any]]:
    """How ranks share a batch, and the configuration for `deepspeed.initialize`.

    Args:
        path: the name of the JSON, for messages.

    Raises:
        InputError: the recipe and the JSON do not go together, or name what the model or this machine does not have.
    """
    check_parts(config)
    check_trackers(config)
    split = split_global_batch(config.train.global_batch, config.train.micro_batch, world)
    ds_config = merge(path, parsed, config.train, split)
    check_compiled(config, zero_stage_of(ds_config))
    return split, ds_config


def tiles_of(config: Config) -> TrainingTiles:
    """The training tiles of every shard set.

    Raises:
        InputError: a set cannot be opened, lacks a modality, or does not fit into the cache; or no tile is chosen.
    """
    sets = open_sets(config.data)
    check_cache(sets, config.data)
    common_datasets(sets, config.model.domains)
    return training_tiles(sets, config.data, config.train.seed, config.train.tiles_seed)


def recipe_to_go_on_with(
    folder: RunFolder, source: ResumePath | None, fresh: bool, kind: RecipeKind[C], trust: bool
) -> C | None:
    """The recipe of the run that a start resumes; None for a new run.

    Args:
        folder: the start's own.
        source: what `--resume` names.
        fresh: whether `--fresh` is given.
        kind: of the run's recipe.

    Raises:
        InputError: see `RunFolder.stored`, or the checkpoint has no recipe.
    """
    if source is not None:
        if not source.config_file.is_file():
            raise InputError(f"{source.config_file}: is missing: which recipe the checkpoint belongs to is not known")
        return RunFolder(source.config_file.parent).stored(kind, trust)
    # The run in the folder, damaged or not, will be archived.
    return None if fresh and folder.config_file.is_file() else folder.stored(kind, trust)


def followed_before(folder: RunFolder, resume: str | None, fresh: bool) -> bool:
    """Whether an earlier start of this launch has followed the command's `--resume` or `--fresh`.

    Raises:
        InputError: the command has both.
    """
    if resume is not None and fresh:
        raise InputError("--resume and --fresh contradict each other: give one of them")
    return (resume is not None or fresh) and folder.config_file.is_file() and was_followed(folder.path, os.environ)


@dataclass(frozen=True)
class ResumePath:
    """Where a start resumes.

    Attributes:
        checkpoint: the checkpoint that was named; None for the newest good one.
        checkpoints: the folder of checkpoints.
        config_file: recipe of the run that wrote them.
    """

    checkpoint: Path | None
    checkpoints: Path
    config_file: Path


def resume_path(text: str) -> ResumePath:
    """The checkpoint or run that `--resume` names. It looks at names only.

    Raises:
        InputError: the path is neither a checkpoint nor a run that has one.
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
    """Everything that must be equal on all ranks of a training."""
    recipe = json.dumps([flatten(spec.config), spec.ds_config], sort_keys=True, default=str)
    code = code_hash(Path(mmae.__file__).parent)
    return {
        "mmae": f"{mmae.__version__} ({code[:8]})",
        **{name: version(name) for name in ("torch", "deepspeed", "numpy")},
        "python": ".".join(map(str, sys.version_info[:3])),
        "recipe": xxhash.xxh3_64_hexdigest(recipe.encode())[:8],
        "shards": " ".join(each.index.fingerprint[:8] for each in spec.tiles.sets),
    }


def check_trackers(config: Tracked) -> None:
    """Refuse a tracker without its package.

    Raises:
        InputError: the recipe asks for a tracker whose package is not installed.
    """
    if config.log.tensorboard and find_spec("tensorboard") is None:
        raise InputError(
            "log.tensorboard=true needs the package tensorboard: pip install 'mmae[tensorboard]' (or leave it false)"
        )
