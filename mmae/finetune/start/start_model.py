"""The model that a fine-tuning starts with, and the checks that need it: inputs, sizes, units of the tiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmae.config.finetune_checks import DENSE, SCRATCH
from mmae.data.checks.sample_check import check_sample
from mmae.data.checks.stats_cover import check_levels, check_set
from mmae.data.transforms.band_stats import read_band_stats
from mmae.distributed.collectives import on_rank_0
from mmae.errors import InputError
from mmae.finetune.labelled.target_choice import held_back
from mmae.finetune.model.build_finetuned import Built, build_finetuned
from mmae.finetune.model.lora import LoraOptions
from mmae.finetune.model.start_point import read_start
from mmae.modalities import MODALITIES
from mmae.model.heads.head_options import HeadOptions
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from mmae.config.finetune_schema import FinetuneConfig
    from mmae.config.schema import ModelConfig
    from mmae.finetune.start.tuning_spec import Labelled


@dataclass(frozen=True)
class StartModel:
    """A model, and the statistics that normalise its inputs.

    Attributes:
        stats_from: where the statistics come from, in words.
    """

    built: Built
    band_stats: Mapping[str, Any]
    stats_from: str

    @property
    def config(self) -> ModelConfig:
        return self.built.model.config

    def lines(self, labelled: Labelled) -> Iterator[str]:
        """What the model sees, in words."""
        config = self.config
        for name in config.in_domains:
            row = self.built.model.tokenizer.table[name]
            new = ", a new input" if name in self.built.fresh else ""
            bands = (
                f"{counted(len(row.class_codes), 'class', 'classes')}" if row.categorical else ", ".join(row.band_names)
            )
            yield f"input {name}: {bands} ({row.units}){new}"
        height, width = config.image_hw
        tile_hw = labelled.each.index.datasets[MODALITIES[config.in_domains[0]].dataset].shape[-2:]
        yield f"tiles of {tile_hw[0]}x{tile_hw[1]} pixels, images of {height}x{width}, patches of {config.patch_size}"
        yield f"band statistics: {self.stats_from}"
        yield from self.built.differences


def start_model(config: FinetuneConfig, labelled: Labelled, trust: bool) -> StartModel:
    """Build the model. Every rank calls it: rank 0 also looks at a sample of the tiles.

    Raises:
        InputError: model, inputs and tiles do not fit together.
    """
    model, index = config.model, labelled.each.index
    assert model.init_from is not None
    scratch = model.init_from == SCRATCH
    before = None if scratch else read_start(model.init_from, trust=trust).model.config
    inputs = _inputs(config, labelled, None if before is None else before.in_domains)
    patch = model.patch_size or (8 if before is None else before.patch_size)
    whole = _whole_tiles(labelled, inputs, patch)
    built = build_finetuned(
        model.init_from,
        labelled.task,
        in_domains=inputs,
        bands=model.bands_of,
        image_size=model.input_size or whole,
        patch_size=patch,
        head=HeadOptions(
            model.head or ("patch_linear" if config.task.kind in DENSE else "linear"),
            model.pooling,
            model.blocks,
            model.head_width,
        ),
        tuning=model.tuning,
        lora=LoraOptions(model.lora_rank, model.lora_alpha),
        drop_path=model.drop_path,
        size=model.size,
        seed=config.train.seed,
        trust=trust,
    )
    stats, stats_from = _statistics(config, labelled, built)
    check_set(index, inputs, stats)
    splits = {"train": labelled.splits.train, "val": labelled.splits.val, "test": labelled.splits.test}
    for name, positions in splits.items():
        check_levels(index, positions, name, inputs, stats)

    def sample() -> None:
        for name, positions in splits.items():
            check_sample(labelled.each, positions, name, inputs, stats, 1, config.data.check_units)

    on_rank_0(sample)
    return StartModel(built, stats, stats_from)


def _inputs(config: FinetuneConfig, labelled: Labelled, pretrained: tuple[str, ...] | None) -> tuple[str, ...]:
    index, held = labelled.each.index, held_back(labelled.source)
    asked = config.model.in_domains
    if asked is not None:
        if never := [name for name in asked if name in held]:
            raise InputError(
                f"model.in_domains names {', '.join(never)}, which holds the labels (task.target={config.task.target}"
                "): leave it out"
            )
        chosen = asked
    else:
        assert pretrained is not None
        chosen = tuple(name for name in pretrained if name not in held and MODALITIES[name].dataset in index.datasets)
        if not chosen:
            raise InputError(
                f"{index.folder}: holds none of the model's inputs ({', '.join(pretrained)}) beside the labels: name "
                "others with model.in_domains"
            )
    missing = [name for name in chosen if MODALITIES[name].dataset not in index.datasets]
    if missing:
        raise InputError(
            f"{index.folder}: no dataset for the inputs {', '.join(missing)}: leave them out of model.in_domains"
        )
    return chosen


def _whole_tiles(labelled: Labelled, inputs: tuple[str, ...], patch: int) -> tuple[int, int]:
    """The size of the tiles, less what is not a whole patch."""
    datasets = labelled.each.index.datasets
    names = [MODALITIES[name].dataset for name in inputs]
    height, width = datasets[names[0]].shape[-2:]
    for name in (*names, *(each for each in labelled.source.datasets if len(datasets[each].shape) == 3)):
        other = datasets[name].shape[-2:]
        if other != (height, width):
            raise InputError(
                f"{labelled.each.index.folder}: {name} is {other[0]}x{other[1]} pixels, {names[0]} {height}x{width}: "
                "labels and inputs must lie on one grid"
            )
    if min(height, width) < patch:
        raise InputError(f"tiles of {height}x{width} pixels are smaller than a patch of {patch}: set model.patch_size")
    return height // patch * patch, width // patch * patch


def _statistics(config: FinetuneConfig, labelled: Labelled, built: Built) -> tuple[Mapping[str, Any], str]:
    if config.data.band_stats is not None:
        return read_band_stats(Path(config.data.band_stats)), config.data.band_stats
    if built.band_stats:
        return built.band_stats, "those of the pretrained model"
    return labelled.each.index.band_stats, f"those of {labelled.each.index.folder}"
