"""The model that a fine-tuning starts with, and the checks that need it: inputs, sizes, units of the tiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmae.config.finetune_checks import DENSE, SCRATCH
from mmae.data.checks.sample_check import check_sample
from mmae.data.checks.stats_cover import check_levels, check_set
from mmae.data.checks.units import before_packing
from mmae.data.transforms.band_stats import read_band_stats
from mmae.data.transforms.shapes import check_counts
from mmae.distributed.collectives import on_rank_0
from mmae.errors import InputError
from mmae.finetune.labelled.target_choice import held_back
from mmae.finetune.model.build_finetuned import Built, build_finetuned
from mmae.finetune.model.lora import LoraOptions
from mmae.finetune.model.start_point import read_start
from mmae.finetune.sources.source_remedies import source_remedy
from mmae.finetune.start.input_bands import bands_there, usable
from mmae.modalities import DATASET_BANDS, MODALITIES, Modality
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
        notes: on inputs that the data does not hold, or not whole.
    """

    built: Built
    band_stats: Mapping[str, Any]
    stats_from: str
    notes: tuple[str, ...] = ()

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
        yield from self.notes
        yield from self.built.differences


def start_model(config: FinetuneConfig, labelled: Labelled, trust: bool) -> StartModel:
    """Build the model. Every rank calls it: rank 0 also looks at a sample of the tiles.

    Raises:
        InputError: model, inputs and tiles do not fit together.
    """
    model, index = config.model, labelled.each.index
    assert model.init_from is not None
    scratch = model.init_from == SCRATCH
    before = None if scratch else read_start(model.init_from, trust=trust).model
    table = {} if before is None else before.tokenizer.table
    inputs, left_out = _inputs(config, labelled, None if before is None else before.config.in_domains, table)
    bands, notes = bands_there(labelled.each, inputs, table, model.bands_of)
    patch = model.patch_size or (8 if before is None else before.config.patch_size)
    whole = _whole_tiles(labelled, inputs, patch)
    built = build_finetuned(
        model.init_from,
        labelled.task,
        in_domains=inputs,
        bands=bands,
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
    if labelled.each.bands is None:
        check_set(index, inputs, stats)
    else:
        check_counts(str(index.folder), {name: (count,) for name, count in DATASET_BANDS.items()}, inputs, stats)
    splits = {"train": labelled.splits.train, "val": labelled.splits.val, "test": labelled.splits.test}
    for name, positions in splits.items():
        check_levels(index, positions, name, inputs, stats)

    def sample() -> None:
        for name, positions in splits.items():
            check_sample(
                labelled.each, positions, name, inputs, stats, 1, config.data.check_units,
                before_packing if labelled.each.bands is None else source_remedy,
                {**MODALITIES, **built.model.tokenizer.table},
            )  # fmt: skip

    on_rank_0(sample)
    return StartModel(built, stats, stats_from, (*left_out, *notes))


def _inputs(
    config: FinetuneConfig, labelled: Labelled, pretrained: tuple[str, ...] | None, table: Mapping[str, Modality]
) -> tuple[tuple[str, ...], list[str]]:
    """The inputs, and sentences on those of the pretrained model that the data does not hold."""
    index, held = labelled.each.index, held_back(labelled.source)
    asked = config.model.in_domains
    free: tuple[str, ...] = ()
    if asked is not None:
        if never := [name for name in asked if name in held]:
            raise InputError(
                f"model.in_domains names {', '.join(never)}, which holds the labels (task.target={config.task.target}"
                "): leave it out"
            )
        chosen = asked
    else:
        assert pretrained is not None
        free = tuple(name for name in pretrained if name not in held)
        chosen = usable(labelled.each, free, table)
        if not chosen:
            raise InputError(
                f"{index.folder}: holds none of the model's inputs ({', '.join(pretrained)}) beside the labels: name "
                "others with model.in_domains"
            )
    there = usable(labelled.each, chosen, table)
    if missing := [name for name in chosen if name not in there]:
        raise InputError(
            f"{index.folder}: no dataset for the inputs {', '.join(missing)}: leave them out of model.in_domains"
            if labelled.each.bands is None
            else f"{index.folder}: no band of the inputs {', '.join(missing)} is there: leave them out of "
            "model.in_domains"
        )
    absent = [name for name in free if name not in chosen] if asked is None else []
    return chosen, [f"the data has no band of the model's inputs {', '.join(absent)}: left out"] if absent else []


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
    how, own = config.data.normalise, labelled.each.index
    if config.data.band_stats is not None:
        return read_band_stats(Path(config.data.band_stats)), config.data.band_stats
    if how == "model" and not built.band_stats:
        raise InputError("data.normalise=model needs a pretrained model with band statistics: use data.normalise=data")
    if how == "model" and labelled.pictures:
        raise InputError(
            f"{own.folder}: holds pictures, whose numbers have no units in which the model's statistics are: use "
            "data.normalise=data"
        )
    if built.band_stats and how != "data" and not labelled.pictures:
        return built.band_stats, "those of the pretrained model"
    return {**built.band_stats, **own.band_stats}, f"those of {own.folder}"
