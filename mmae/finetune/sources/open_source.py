"""From the section `source` of a recipe to labelled data that is open."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from mmae.finetune.labelled.sample_labels import SampleLabels

if TYPE_CHECKING:
    from mmae.config.finetune_schema import FinetuneConfig
    from mmae.finetune.sources.labelled_data import LabelledData


def open_source(config: FinetuneConfig) -> LabelledData:
    """Open the source that a recipe names; not for shards.

    Raises:
        InputError: files or labels are missing, or do not fit the recipe.
    """
    places = config.data.val_fraction is not None or config.data.test_fraction is not None
    match config.source.kind:
        case "geobench1" | "mmearth-bench":
            from mmae.finetune.sources.suite_data import open_suite

            return open_suite(config.source, config.task.kind, places)
        case "geotiffs":
            from mmae.finetune.sources.geotiff_data import open_geotiffs

            return open_geotiffs(config.source, config.task)
        case "torchgeo":
            from mmae.finetune.sources.torchgeo_data import open_torchgeo

            return open_torchgeo(config.source, config.task.kind)
        case "shards":
            raise ValueError("shards are opened by themselves")
    assert_never(config.source.kind)


def labels_of(data: LabelledData) -> SampleLabels:
    """The source of its labels."""
    facts = data.facts
    return SampleLabels(facts.kind, facts.names, facts.codes, facts.units)
