"""Several trainings with one command: a search on the validation tiles, then one training a seed.

Each is a run folder of its own, `RUN/search/...` and `RUN/seeds/...`, which resumes by itself: a command that is
started again skips what has ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from mmae.config.finetune_schema import FinetuneConfig, RepeatConfig
from mmae.config.score_names import LOWER
from mmae.disk.files import write_whole, writing
from mmae.disk.json_text import standard_json
from mmae.distributed.collectives import on_rank_0
from mmae.errors import InputError
from mmae.finetune.scoring.task_scores import MAIN
from mmae.finetune.tuning_results import Results
from mmae.run.folder import RunFolder
from mmae.run.layout import RESULTS, SEARCH, SEEDS
from mmae.run.training_parts import shown_spread, spread
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from mmae.finetune.start.tuning_spec import TuningSpec

RATES: Final = (1.0, 0.3, 3.0, 0.1, 10.0)
"""Factors of `train.blr` that a search tries."""
DECAYS: Final = (0.75, 0.9, 0.6, 1.0)
"""Layer decays that it tries."""


def pairs(count: int, blr: float, layer_decay: float) -> list[tuple[float, float]]:
    """Learning rates and layer decays to try, the recipe's own pair first, near ones before far ones; each once."""
    decays = [layer_decay, *(each for each in DECAYS if each != layer_decay)]
    grid = sorted(
        ((rate, decay) for rate in range(len(RATES)) for decay in range(len(decays))),
        key=lambda pair: (sum(pair), pair),
    )
    return [(blr * RATES[rate], decays[decay]) for rate, decay in grid[:count]]


def search_specs(spec: TuningSpec) -> Iterator[TuningSpec]:
    """The trials of `finetune.search`."""
    config = spec.config
    for number, (blr, decay) in enumerate(pairs(config.finetune.search, config.train.blr, config.train.layer_decay)):
        train = replace(config.train, blr=blr, layer_decay=decay)
        yield _part(spec, replace(config, train=train), f"{SEARCH}/trial_{number}")


def seed_specs(spec: TuningSpec) -> Iterator[TuningSpec]:
    """The trainings of `finetune.seeds`."""
    first = spec.config.train.seed
    for seed in range(first, first + spec.config.finetune.seeds):
        yield _part(spec, replace(spec.config, train=replace(spec.config.train, seed=seed)), f"{SEEDS}/seed_{seed}")


def best_of(trials: Sequence[Results]) -> Results:
    """The trial with the best validation; the first of equals.

    Raises:
        InputError: no trial has a score.
    """
    scored = [each for each in trials if _val(each) is not None]
    if not scored:
        raise InputError("no trial of the search has a validation score: lower train.blr, and look at the trials' logs")
    sign = 1 if scored[0]["main"] in LOWER else -1
    return min(scored, key=lambda each: sign * float(_val(each) or 0.0))


def without_score(spec: TuningSpec) -> Results:
    """The results of a trial that lost its numbers."""
    main = MAIN[spec.labelled.task.kind]
    train = spec.config.train
    return {"main": main, "blr": train.blr, "layer_decay": train.layer_decay, "val": {"scores": {main: None}}}


def with_choice(spec: TuningSpec, best: Results) -> TuningSpec:
    """The fine-tuning with the learning rate and layer decay of the best trial."""
    train = replace(spec.config.train, blr=best["blr"], layer_decay=best["layer_decay"])
    return replace(spec, config=replace(spec.config, train=train))


def summary(seeds: Sequence[Results], trials: Sequence[Results]) -> Results:
    """The results of all seeds: mean, deviation and 95 % interval of each score; and the trials of the search."""
    first = seeds[0]
    joined: Results = {
        key: first[key] for key in ("task", "kind", "main", "step", "training_tiles", "blr", "layer_decay")
    }
    joined["seeds"] = [each["seed"] for each in seeds]
    for part in ("val", "test"):
        if all(part in each for each in seeds):
            names = first[part]["scores"]
            joined[part] = {
                "split": first[part]["split"],
                "tiles": first[part]["tiles"],
                "scores": {name: spread([each[part]["scores"][name] for each in seeds]) for name in names},
            }
    if trials:
        joined["search"] = [
            {"blr": each["blr"], "layer_decay": each["layer_decay"], each["main"]: _val(each)} for each in trials
        ]
    return joined


def summary_lines(joined: Results) -> list[str]:
    """The summary, for people."""
    seeds, blr, decay = counted(len(joined["seeds"]), "seed"), joined["blr"], joined["layer_decay"]
    lines = [f"{seeds}, train.blr={blr:g}, train.layer_decay={decay:g}"]
    for part in ("val", "test"):
        if part in joined:
            scores = "  ".join(f"{name} {shown_spread(each)}" for name, each in joined[part]["scores"].items())
            lines.append(f"{part} ({joined[part]['split']}, {joined[part]['tiles']} tiles): {scores}")
    return lines


def write_summary(folder: RunFolder, joined: Results) -> None:
    """Write the summary into the run's folder. Collective.

    Raises:
        InputError: it cannot be written.
    """
    path = folder.path / RESULTS
    with writing(path, "make room, then start the same command again: training is not repeated"):
        on_rank_0(lambda: write_whole(path, json.dumps(standard_json(joined), indent=1) + "\n"))


def _part(spec: TuningSpec, config: FinetuneConfig, name: str) -> TuningSpec:
    path = spec.folder.path / name
    config = replace(config, run=replace(config.run, dir=str(path)), finetune=RepeatConfig())
    # What the whole command's folder held was archived with --fresh, its parts too.
    return replace(spec, config=config, folder=RunFolder(path), fresh=False)


def _val(results: Results) -> float | None:
    value: Any = results["val"]["scores"][results["main"]]
    return None if value is None else float(value)
