"""Checks that need several keys of a `FinetuneConfig`: each names the contradiction, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Final

from mmae.config.checks import MAX_PREFETCH, MAX_WORKERS
from mmae.config.finetune_schema import (
    FinetuneConfig,
    SourceConfig,
    TaskConfig,
    TuneDataConfig,
    TuneModelConfig,
    TuneTrainConfig,
)
from mmae.config.recipe_file import RecipeKind
from mmae.errors import did_you_mean
from mmae.modalities import DATASET_BANDS, MODALITIES, S2_BANDS, with_bands
from mmae.variants import VARIANTS

SCRATCH: Final = "none"
"""The value of `model.init_from` that starts from drawn weights."""
DENSE: Final = frozenset({"segmentation", "pixel_regression"})
"""Tasks with a prediction a pixel."""
CLASSES: Final = frozenset({"classification", "segmentation"})
"""Tasks with one class out of several."""
_NO_SOURCE: Final = SourceConfig()
_FOR_SHARDS: Final = frozenset({"kind", "classes", "ignore"})
_ONLY_FOR: Final = {
    "partition": ("geobench1", "mmearth-bench"),
    "masks": ("geotiffs",),
    "tile": ("geotiffs",),
    "classes": ("geotiffs",),
    "ignore": ("geotiffs", "torchgeo"),
    "bands": ("geotiffs", "torchgeo"),
    "units": ("geotiffs", "torchgeo"),
    "offset": ("geotiffs", "torchgeo"),
    "options": ("torchgeo",),
}
"""Keys of `source` that some kinds of source do not have -> the kinds that have them."""
_TILE_HEADS: Final = frozenset({"linear", "attention"})


def contradiction(config: FinetuneConfig) -> str | None:
    """The first contradiction in one line, or None."""
    for problems in (
        _source(config),
        _task(config),
        _data(config.data),
        _model(config.model, config.task),
        _steps(config.train),
        _mixing(config),
    ):
        for problem in problems:
            return problem
    return None


def _source(config: FinetuneConfig) -> Iterator[str]:
    source, kind = config.source, config.source.kind
    if source.is_shards:
        for name in (each.name for each in fields(source) if each.name not in _FOR_SHARDS):
            if getattr(source, name) != getattr(_NO_SOURCE, name):
                yield f"source.{name} is for other sources than shards: say source.kind, or leave it out"
        return
    if config.data.shards:
        yield f"data.shards and source.kind={kind} both say where the tiles lie: leave one out"
    if source.folder is None:
        yield f"source.folder is not set: name the folder that source.kind={kind} reads"
    if source.task is None and kind != "geotiffs":
        what = "class of torchgeo.datasets, such as EuroSAT" if kind == "torchgeo" else "task, such as m-eurosat"
        yield f"source.task is not set: name the {what}"
    for name, kinds in _ONLY_FOR.items():
        if kind not in kinds and getattr(source, name) != getattr(_NO_SOURCE, name):
            yield f"source.{name} is for source.kind={' or '.join(kinds)}, not for {kind}: leave it out"
    if config.task.labels is not None and kind != "geotiffs":
        yield f"task.labels is for shards and GeoTIFFs, and {kind} has labels of its own: leave it out"
    if kind == "geotiffs":
        yield from _geotiff_labels(config)


def _geotiff_labels(config: FinetuneConfig) -> Iterator[str]:
    masks, labels, kind = config.source.masks, config.task.labels, config.task.kind
    if kind in DENSE and masks is None:
        yield f"source.masks is not set, and task.kind={kind} needs a mask an image: name the folder of masks"
    if kind not in DENSE and masks is not None:
        yield f"source.masks is for segmentation or pixel_regression, and task.kind={kind} needs a label an image"
    if kind not in DENSE | {"classification"} and labels is None:
        yield f"task.labels is not set: name a CSV file with a line an image, which task.kind={kind} needs"
    if config.source.tile is not None and masks is None:
        yield "source.tile cuts images and their masks, and a label of an image is not one of its parts: leave it out"
    if kind != "segmentation" and config.source.classes is not None:
        yield f"source.classes names the classes of masks, task.kind={kind} has none: leave it out"


def _task(config: FinetuneConfig) -> Iterator[str]:
    task = config.task
    if not task.target and config.source.is_shards:
        yield (
            "task.target is not set: name what is predicted, such as task.target=esa_worldcover, or a name for the "
            "labels of task.labels"
        )
    if task.labels is not None and task.kind in DENSE:
        yield f"task.labels holds a label a tile, and task.kind={task.kind} needs one a pixel: name a dataset of maps"
    if task.class_weights == "balanced" and task.kind not in CLASSES:
        yield f"task.class_weights=balanced is for classes, task.kind={task.kind} has none: leave it out"
    if task.label_smoothing and task.kind not in CLASSES:
        yield f"task.label_smoothing is for classes, task.kind={task.kind} has none: set it to 0"


def _data(data: TuneDataConfig) -> Iterator[str]:
    if data.workers > MAX_WORKERS:
        yield f"data.workers={data.workers} are too many loader processes for one rank, at most {MAX_WORKERS}"
    if data.prefetch > MAX_PREFETCH:
        yield f"data.prefetch={data.prefetch} micro-batches would not fit into memory: at most {MAX_PREFETCH}"
    taken = (data.val_fraction or 0) + (data.test_fraction or 0)
    if taken >= 1:
        yield f"data.val_fraction and data.test_fraction take {taken:g} of the training tiles: leave some for training"
    if data.val_fraction is None and data.val_split == "train":
        yield "data.val_split=train would choose by what was learned: set data.val_fraction=0.2 to take a part out"
    if data.test_fraction is None and data.test_split == "train":
        yield "data.test_split=train would score what was learned: set data.test_fraction=0.2 to take a part out"
    if None is data.val_fraction is data.test_fraction and data.test_split == data.val_split:
        yield (
            f"data.val_split and data.test_split are both {data.val_split}: what chooses must not score; set "
            "data.val_fraction=0.2 to choose by a part of train, or data.test_split=null"
        )


def _model(model: TuneModelConfig, task: TaskConfig) -> Iterator[str]:
    if model.init_from is None:
        yield (
            "model.init_from is not set: name a folder that mmae export wrote, a run, owner/name on the hub, or a "
            f"published checkpoint's file; model.init_from={SCRATCH} starts from scratch"
        )
    if model.size not in VARIANTS:
        yield f"unknown model.size={model.size!r}{did_you_mean(model.size, VARIANTS)}"
    names = model.in_domains
    if names is not None:
        if not names:
            yield "model.in_domains is empty: name at least one modality"
        for name in names:
            if name not in MODALITIES:
                yield f"model.in_domains: unknown modality {name!r}{did_you_mean(name, MODALITIES)}"
        if len(set(names)) != len(names):
            yield f"model.in_domains names a modality twice: {', '.join(names)}"
    elif model.init_from == SCRATCH:
        yield f"model.init_from={SCRATCH} knows no inputs: name them, such as model.in_domains=[rgb,ired]"
    yield from _bands(model)
    if model.head is not None and (model.head in _TILE_HEADS) == (task.kind in DENSE):
        wanted = "patch_linear, upernet, convnext or dpt" if task.kind in DENSE else "linear or attention"
        yield f"model.head={model.head} does not fit task.kind={task.kind}: use {wanted}"


def _bands(model: TuneModelConfig) -> Iterator[str]:
    for name, bands in model.bands_of.items():
        if name not in MODALITIES:
            yield f"model.bands: unknown modality {name!r}{did_you_mean(name, MODALITIES)}: write modality:band"
            return
        row = MODALITIES[name]
        if row.categorical:
            yield f"model.bands: {name} holds classes, and has one band: leave it out"
            return
        if model.in_domains is not None and name not in model.in_domains:
            yield f"model.bands names {name}, which model.in_domains lacks"
        if len(set(bands)) != len(bands):
            yield f"model.bands names a band of {name} twice: {', '.join(bands)}"
        numbers = with_bands({name: bands})[name].bands
        stored = DATASET_BANDS[row.dataset]
        if strange := [band for band, number in zip(bands, numbers, strict=True) if number >= stored]:
            known = S2_BANDS if row.dataset == "sentinel2" else row.band_names
            yield f"model.bands: {row.dataset} has no band {strange[0]!r}{did_you_mean(strange[0], known)}"


def _steps(train: TuneTrainConfig) -> Iterator[str]:
    if train.warmup_steps > train.max_steps:
        yield (
            f"train.warmup_steps={train.warmup_steps} is longer than the whole schedule "
            f"(train.max_steps={train.max_steps})"
        )
    if train.stop_at is not None and train.stop_at > train.max_steps:
        yield f"train.stop_at={train.stop_at} lies behind train.max_steps={train.max_steps}"


def _mixing(config: FinetuneConfig) -> Iterator[str]:
    train, kind = config.train, config.task.kind
    if train.mixup and kind not in {"classification", "multilabel"}:
        yield f"train.mixup mixes labels of tiles, task.kind={kind} has none that can be mixed: set it to 0"
    if train.cutmix and kind == "regression":
        yield "train.cutmix pastes a part of another tile, and the value of a tile is not in a part: set it to 0"
    if train.mixup and train.cutmix:
        yield "train.mixup and train.cutmix are both set: choose one, and set the other to 0"
    if train.stop_at is not None and (config.finetune.search or config.finetune.seeds > 1):
        yield "train.stop_at stops a single training: leave it out with finetune.search and finetune.seeds"


FINETUNING: Final = RecipeKind(FinetuneConfig, contradiction)
"""The recipes of `mmae finetune`."""
