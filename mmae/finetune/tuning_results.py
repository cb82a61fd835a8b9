"""The end of a fine-tuning: the best weights are saved, scored on the test once, and all of it is written down."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmae.config.schema import flatten
from mmae.disk.files import write_whole, writing
from mmae.disk.json_text import parse_json, standard_json
from mmae.disk.regular_file import read_regular_text
from mmae.distributed.collectives import on_rank_0
from mmae.finetune.scoring.confusion_picture import confusion_table, write_confusion_picture
from mmae.finetune.scoring.prediction_table import PredictionTable
from mmae.finetune.scoring.task_scores import MAIN, TaskScores
from mmae.modalities import MODALITIES
from mmae.run.layout import MODEL, PREDICTIONS, RESULTS

if TYPE_CHECKING:
    from mmae.finetune.training.tuning_loop import Outcome, TuningRun
    from mmae.run.folder import RunFolder

_REMEDY: Final = "make room, then start the same command again: training is not repeated"
_OLD: Final = ".replaced-"
Results = dict[str, Any]


def stored_results(folder: RunFolder, step: int) -> Results | None:
    """The results of a run that has ended at this step; None where it has not, or they are damaged."""
    try:
        found = parse_json(read_regular_text(folder.path / RESULTS))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("step") == step else None


def finish(run: TuningRun, outcome: Outcome, test: bool) -> Results:
    """Save and score the best weights, which the model has. Collective.

    Args:
        test: score the test tiles, once. A trial of a search never does.

    Raises:
        InputError: a file cannot be written.
    """
    spec, task = run.spec, run.spec.labelled.task
    splits, folder, model = spec.labelled.splits, spec.folder, run.start.built.model
    _, val = run.score(model, splits.val)
    results: Results = {
        "task": task.name,
        "kind": task.kind,
        "main": MAIN[task.kind],
        "step": outcome.step,
        "best_step": outcome.best[0],
        "training_tiles": len(splits.train),
        "seed": spec.config.train.seed,
        "blr": spec.config.train.blr,
        "layer_decay": spec.config.train.layer_decay,
        "val": _as_json(val, splits.val_name),
    }
    if test:
        if len(splits.test):
            results["test"] = _test(run)
        # Notes are published with the model: no path of this machine is among them.
        recipe = {key: value for key, value in flatten(spec.config).items() if not _is_place(key)}
        scores = {key: results[key] for key in ("val", "test") if key in results}
        notes: Results = {"finetuning": {"recipe": recipe, **scores}}
        _save_model(run, folder.path / MODEL, standard_json(notes))
    with writing(folder.path / RESULTS, _REMEDY):
        text = json.dumps(standard_json(results), indent=1) + "\n"
        on_rank_0(lambda: write_whole(folder.path / RESULTS, text))
    return results


def _test(run: TuningRun) -> Results:
    spec, task = run.spec, run.spec.labelled.task
    labelled, folder = spec.labelled, spec.folder.path
    if task.dense:
        from mmae.finetune.scoring.prediction_maps import PredictionMaps
        from mmae.finetune.sources.source_set import SourceSet

        each = labelled.each
        facts = each.source.facts if isinstance(each, SourceSet) else None
        grounds, tile_hw = (facts.grounds, facts.size) if facts is not None else ({}, (0, 0))
        maps = PredictionMaps(folder / PREDICTIONS, each.index, task, _covers_hw(run), grounds, tile_hw)
        _, found = run.score(run.start.built.model, labelled.splits.test, maps.take)
    else:
        table = PredictionTable()
        _, found = run.score(run.start.built.model, labelled.splits.test, table.take)
        table.write(folder / PREDICTIONS / "test.parquet", labelled.each.index, labelled.splits.test_name, task)
    if found.confusion_KK is not None:
        confusion = found.confusion_KK
        with writing(folder / PREDICTIONS / "confusion.png", _REMEDY):
            on_rank_0(lambda: write_confusion_picture(folder / PREDICTIONS / "confusion.png", confusion, task.classes))
    return _as_json(found, labelled.splits.test_name)


def _covers_hw(run: TuningRun) -> tuple[float, float]:
    """Height and width of an image's pixel in pixels of the tiles."""
    if run.spec.config.data.crop != "resize":
        return 1.0, 1.0
    config, datasets = run.start.config, run.spec.labelled.each.index.datasets
    tall, wide = datasets[MODALITIES[config.in_domains[0]].dataset].shape[-2:]
    height, width = config.image_hw
    return tall / height, wide / width


def result_lines(results: Results, classes: tuple[str, ...]) -> list[str]:
    """The scores of a run, for people."""
    lines = []
    for part in ("val", "test"):
        if part in results:
            scores = "  ".join(f"{name} {_shown(value)}" for name, value in results[part]["scores"].items())
            lines.append(f"{part} ({results[part]['split']}, {results[part]['tiles']} tiles): {scores}")
    if results.get("test", {}).get("confusion"):
        lines += confusion_table(results["test"]["confusion"], classes).text().splitlines()
    return lines


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _as_json(found: TaskScores, split: str) -> Results:
    return {
        "split": split,
        "tiles": found.tiles,
        "known_labels": found.known,
        "scores": found.scores,
        "by_class": found.by_class,
        **({} if found.confusion_KK is None else {"confusion": found.confusion_KK}),
    }


def _is_place(key: str) -> bool:
    return key.startswith(("run.", "log.")) or key in {
        "data.shards", "source.folder", "source.masks", "data.band_stats", "data.cache_dir", "task.labels",
        "model.init_from",
    }  # fmt: skip


def _save_model(run: TuningRun, folder: Path, notes: Results) -> None:
    """Write the model; one of an earlier end of this run is replaced."""
    old = folder.with_name(f"{_OLD}{folder.name}")

    def make_way() -> None:
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            os.rename(folder, old)

    with writing(folder, _REMEDY):
        on_rank_0(make_way)
    run.save_model(folder, notes)
    on_rank_0(lambda: shutil.rmtree(old, ignore_errors=True))
