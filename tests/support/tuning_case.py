"""A small labelled shard set, and the words of a fine-tuning on it that takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmae.config.finetune_checks import FINETUNING
from mmae.config.finetune_schema import FinetuneConfig
from mmae.data.shards.index import Index
from mmae.data.shards.index_json import DatasetInfo
from tests.support.tiny_sets import write_set

if TYPE_CHECKING:
    from mmae.finetune.start.tuning_spec import TuningSpec

DATASETS = {
    "sentinel2": DatasetInfo(np.dtype("<u2"), (13, 16, 16)),
    "aster": DatasetInfo(np.dtype("<i2"), (2, 16, 16)),
    "esa_worldcover": DatasetInfo(np.dtype("u1"), (1, 16, 16)),
}
TRAIN, VAL, TEST = range(12), range(20, 26), range(30, 35)

SMALL = (
    "model.init_from=none",
    "model.size=nano",
    "model.in_domains=[rgb,ired]",
    "data.check_units=false",
    "data.workers=0",
    "log.wandb=false",
    "log.every=1",
    "train.max_steps=6",
    "train.warmup_steps=1",
    "train.global_batch=8",
    "train.micro_batch=8",
    "val.every=3",
    "checkpoint.every=2",
)
"""Overrides that make a fine-tuning a matter of seconds."""


def labelled_set(folder: Path) -> Index:
    """A set of noise with the splits train, val and test; its tiles lie 1 km apart in a row."""
    rows = [*TRAIN, *VAL, *TEST]
    places = {row: (50.0, 10.0 + row * 0.014) for row in rows}
    return write_set(folder / "shards", {"train": TRAIN, "val": VAL, "test": TEST}, datasets=DATASETS, places=places)


def label_csv(path: Path, index: Index, label: Callable[[int], str] = lambda row: f"kind {row % 3}") -> Path:
    """A file with a label for each tile, by its source row."""
    lines = [f"{tile.decode()},{label(int(row))}" for tile, row in zip(index.tile_id.tolist(), index.row, strict=True)]
    path.write_text("\n".join(["tile_id,label", *lines]) + "\n")
    return path


def tuning_words(folder: Path, index: Index, *overrides: str) -> list[str]:
    """The words of `mmae finetune`: segmentation, unless overrides say otherwise."""
    words = ["--config", "finetune_segmentation", f"data.shards={index.folder}", f"run.dir={folder / 'run'}"]
    given = {word.partition("=")[0] for word in overrides}
    return [*words, *(word for word in SMALL if word.partition("=")[0] not in given), *overrides]


def tuning_config(*overrides: str) -> FinetuneConfig:
    """A checked configuration: the recipe of segmentation, from scratch, with overrides."""
    return FINETUNING.load("finetune_segmentation", [*SMALL, "data.shards=S", *overrides])


def tuning_spec(folder: Path, index: Index, *overrides: str) -> TuningSpec:
    """What a start on the set would do, as the only rank."""
    from mmae.finetune.start.tuning_spec import make_tuning_spec

    recipe, *words = tuning_words(folder, index, *overrides)[1:]
    return make_tuning_spec(recipe, words, 1)
