"""What a start of fine-tuning will do, after every check that needs no process group, no model and no GPU."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

import mmae
from mmae.config.batch_split import BatchSplit, split_global_batch
from mmae.config.finetune_checks import CLASSES, DENSE, FINETUNING, SCRATCH
from mmae.config.finetune_schema import FinetuneConfig
from mmae.config.schema import flatten
from mmae.data.sampling.mixture import Mixture
from mmae.data.sampling.shard_sets import ShardSet, open_sets
from mmae.data.sampling.training_tiles import TrainingTiles
from mmae.distributed.code_hash import code_hash
from mmae.errors import InputError
from mmae.run.folder import RunFolder, changes_on_resume
from mmae.run.spec import ResumePath, check_trackers, followed_before, recipe_to_go_on_with, resume_path

if TYPE_CHECKING:
    from mmae.finetune.labelled.census import SplitCensus
    from mmae.finetune.labelled.label_sources import LabelSource
    from mmae.finetune.labelled.tuning_splits import TuningSplits
    from mmae.model.tuned.task import Task


@dataclass(frozen=True, eq=False)
class Labelled:
    """The labelled tiles of a fine-tuning.

    Attributes:
        each: the shard set.
        source: of the labels.
        splits: which tiles train, choose, and are scored.
        census: by split: train, val, and test if there is one.
        notes: what was left out or is odd, in words.
        pictures: whether images hold numbers without units.
    """

    each: ShardSet
    source: LabelSource
    splits: TuningSplits
    task: Task
    census: Mapping[str, SplitCensus]
    notes: tuple[str, ...]
    pictures: bool = False

    @property
    def identity(self) -> str:
        """A hash of the tiles and of what is predicted: the same for the same labels of the same set."""
        from mmae.finetune.labelled.label_sources import RowLabels

        splits = self.splits
        parts = [each.tobytes() for each in (splits.train, splits.val, splits.test)]
        if isinstance(self.source, RowLabels):
            parts += [self.source.row_N.tobytes(), self.source.label_N.tobytes()]
        counts = [each.count_K.tobytes() for each in self.census.values()]
        return xxhash.xxh3_128_hexdigest(repr(self.task).encode() + b"".join(parts + counts))


@dataclass(frozen=True, eq=False)
class TuningSpec:
    """What a start of fine-tuning will do.

    Attributes:
        changes: old and new of each value that a resumed run changes, by dotted key.
        resume: the checkpoint that `--resume` names, if any.
        fresh: start a new run, and archive the run that the folder holds.
        followed_before: the command has `--resume` or `--fresh`, but an earlier start of this launch followed it.
    """

    config: FinetuneConfig
    changes: dict[str, tuple[Any, Any]]
    folder: RunFolder
    split: BatchSplit
    labelled: Labelled
    trust: bool = False
    resume: ResumePath | None = None
    fresh: bool = False
    followed_before: bool = False

    @property
    def stop(self) -> int:
        """The step at which this start ends."""
        return min(self.config.train.stop_at or self.config.train.max_steps, self.config.train.max_steps)

    def tiles(self) -> TrainingTiles:
        """The training tiles. An epoch reads them as often as one global batch needs at least."""
        positions = self.labelled.splits.train
        repeats = -(-self.split.global_batch // len(positions))
        mixture = Mixture((len(positions),), (float(repeats),), self.config.train.seed)
        return TrainingTiles((self.labelled.each,), (positions,), mixture, None, "")


def make_tuning_spec(
    recipe: str,
    overrides: list[str],
    world: int,
    trust: bool = False,
    resume: str | None = None,
    fresh: bool = False,
) -> TuningSpec:
    """Check all settings of a start of fine-tuning. It only reads.

    Args:
        recipe: packaged name or YAML file.
        overrides: `section.key=value` of the command line.
        world: number of ranks.
        resume: the value of `--resume`, if given.
        fresh: whether `--fresh` is given.

    Raises:
        InputError: anything that can be refused before ranks meet.
    """
    said = FINETUNING.parse_overrides(overrides)
    config = _with_target(_with_places(FINETUNING.overridden(recipe, said, trust)))
    check_trackers(config)
    if config.source.is_shards and not config.data.locations:
        raise InputError(f"{recipe}: data.shards is not set: give data.shards=FOLDER, written by mmae repack")
    split = split_global_batch(config.train.global_batch, config.train.micro_batch, world)
    folder = RunFolder(Path(config.run.dir))
    again = followed_before(folder, resume, fresh)
    if again:
        resume, fresh = None, False
    source = resume_path(resume) if resume is not None else None
    several = config.finetune.search or config.finetune.seeds > 1
    if source is not None and several:
        raise InputError(
            "--resume goes on with one training, and the same command again with a search or several seeds: leave "
            "--resume out"
        )
    stored = recipe_to_go_on_with(folder, source, fresh, FINETUNING, trust)
    changes = {} if stored is None else changes_on_resume(stored, config, said, folder)
    if changes and several:
        raise InputError(
            f"{folder.path}: {', '.join(changes)} cannot change in a search or with several seeds: trainings that have "
            "ended would keep the old value; put it back, add --fresh, or choose another run.dir"
        )
    labelled = find_labels(config)
    check_packages(config.task.kind, bool(len(labelled.splits.test)))
    return TuningSpec(config, changes, folder, split, labelled, trust, source, fresh, again)


def find_labels(config: FinetuneConfig) -> Labelled:
    """The labelled tiles that a recipe names.

    Raises:
        InputError: the shards, the labels or a split are missing, or there is nothing to learn.
    """
    from mmae.finetune.labelled.census import census_notes, take_census, task_of
    from mmae.finetune.labelled.target_choice import choose_target
    from mmae.finetune.labelled.tuning_splits import MMEARTH_M, tuning_splits
    from mmae.finetune.sources.labelled_data import found_lines
    from mmae.finetune.sources.open_source import labels_of, open_source
    from mmae.finetune.sources.source_set import as_set

    each: ShardSet
    if config.source.is_shards:
        (each,) = open_sets(config.data.loading)
        source, file = choose_target(config.task, each, config.source)
        found, pictures, pixel_m = tuple[str, ...](), False, MMEARTH_M
    else:
        data = open_source(config)
        each, source, file = as_set(data), labels_of(data), None
        found, pictures = tuple(found_lines(data.facts)), bool(data.facts.pictures)
        pixel_m = data.facts.pixel_m
    splits = tuning_splits(each.index, config.data, None if file is None else file.split_of, pixel_m)
    parts = {"train": splits.train, "val": splits.val} | ({"test": splits.test} if len(splits.test) else {})
    census = {name: take_census(each, positions, source) for name, positions in parts.items()}
    where = str(each.index.folder)
    task = task_of(config.task, source, census["train"], where)
    for name in list(census)[1:]:
        if not census[name].known:
            raise InputError(f"{where}: no {name} tile has a known label {task.name}: choose another split or target")
    chooses = census["val"]
    if config.task.kind == "multilabel" and chooses.read == chooses.tiles and not chooses.count_K.any():
        raise InputError(f"{where}: no val tile has one of the classes of {task.name}: choose another split")
    notes = (*found, *(file.notes if file else ()), *splits.notes, *census_notes(task, census))
    return Labelled(each, source, splits, task, census, notes, pictures)


def check_packages(kind: str, test: bool) -> None:
    """Refuse a start that would miss a library at its end.

    Args:
        kind: of the task.
        test: whether test tiles will be predicted.

    Raises:
        InputError: a library is missing; the message names its extra.
    """
    needed = {"torchmetrics": "eval"}
    if test:
        needed |= {"rasterio": "geo"} if kind in DENSE else {"pyarrow": "geo"}
        needed |= {"matplotlib": "pictures"} if kind in CLASSES else {}
    for package, extra in needed.items():
        if find_spec(package) is None:
            raise InputError(f"mmae finetune needs {package}, which is not installed: pip install 'mmae[{extra}]'")


def runs(spec: TuningSpec) -> dict[str, str]:
    """Everything that must be equal on all ranks of a fine-tuning."""
    recipe = json.dumps(flatten(spec.config), sort_keys=True, default=str)
    return {
        "mmae": f"{mmae.__version__} ({code_hash(Path(mmae.__file__).parent)[:8]})",
        "recipe": xxhash.xxh3_64_hexdigest(recipe.encode())[:8],
        "shards": spec.labelled.each.index.fingerprint[:8],
        "labels": spec.labelled.identity[:8],
    }


def _with_places(config: FinetuneConfig) -> FinetuneConfig:
    """The path of a model as an absolute one, for a resume from another folder; names on the hub stay as they are."""
    source = config.model.init_from
    if source is None or source == SCRATCH:
        return config
    path = Path(source).expanduser()
    if not path.exists():
        return config
    return replace(config, model=replace(config.model, init_from=os.path.abspath(path)))


def _with_target(config: FinetuneConfig) -> FinetuneConfig:
    """The recipe with the name of what is predicted: a packaged one names a target of shards."""
    if config.source.is_shards:
        return config
    return replace(config, task=replace(config.task, target=config.source.task or "label"))
