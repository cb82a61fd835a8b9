"""All that one `mmae finetune` does: one training, or a search and several seeds; and its last line."""

from __future__ import annotations

import json
import os
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from mmae.disk.json_text import standard_json
from mmae.distributed.collectives import on_rank_0
from mmae.engine.checkpoint.archive import archive_run
from mmae.engine.telemetry.oom_advice import next_smaller
from mmae.engine.telemetry.run_exit import RunEnd
from mmae.errors import EXIT_LOST_NUMBERS, DoesNotFitError
from mmae.finetune import repeats
from mmae.finetune.training.tuning_loop import Outcome, TuningRun
from mmae.finetune.training.tuning_resume import own_recipe
from mmae.finetune.tuning_results import Results, finish, result_lines, stored_results
from mmae.run import restart
from mmae.terminal.error_line import first_line
from mmae.terminal.message import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmae.distributed.watchdog import Watchdog
    from mmae.engine.stop_signals import Stop
    from mmae.finetune.start.tuning_spec import TuningSpec
    from mmae.run.locking.lock import RunLock

    One = Callable[..., tuple["Results | None", "Outcome"]]


def finetune(spec: TuningSpec, lock: RunLock, stop: Stop, watchdog: Watchdog) -> int:
    """Do what the recipe says. Every rank of the process group calls this.

    Returns:
        the exit status.
    """
    if spec.followed_before:
        _say("resume: started again: --resume and --fresh were for the first start")
    if spec.fresh or spec.resume is not None:
        on_rank_0(lambda: restart.note_followed(spec.folder.path, os.environ))
    one = partial(_one, lock=lock, stop=stop, watchdog=watchdog)
    if not spec.config.finetune.search and spec.config.finetune.seeds == 1:
        results, outcome = one(spec, test=True)
        stop.obeyed(outcome.asked)
        _last_line(spec, outcome, results)
        return outcome.status
    return _several(spec, stop, one)


def _several(spec: TuningSpec, stop: Stop, one: One) -> int:
    if spec.fresh:
        on_rank_0(lambda: archive_run(spec.folder))
    recipe = own_recipe(spec.config)
    on_rank_0(lambda: spec.folder.write_recipe(recipe, dict(spec.labelled.each.index.band_stats)))
    found: dict[str, list[Results]] = {"trial": [], "seed": []}
    chosen = spec
    for kind, specs, test in (("trial", repeats.search_specs, False), ("seed", repeats.seed_specs, True)):
        if kind == "seed" and found["trial"]:
            best = repeats.best_of(found["trial"])
            chosen = repeats.with_choice(spec, best)
            words = f"train.blr={best['blr']:g} train.layer_decay={best['layer_decay']:g}"
            _say(f"search: {words} is best on the validation tiles")
        for part in specs(chosen):
            _say(f"{part.folder.path}: train.seed={part.config.train.seed} train.blr={part.config.train.blr:g} "
                 f"train.layer_decay={part.config.train.layer_decay:g}")  # fmt: skip
            results, outcome = one(part, test=test)
            if kind == "trial" and outcome.status == EXIT_LOST_NUMBERS:
                _say(f"{part.folder.path}: counts as a trial without a score; the search goes on")
                results = repeats.without_score(part)
            if results is None:
                stop.obeyed(outcome.asked)
                _last_line(spec, outcome, None)
                return outcome.status
            found[kind].append(results)
    joined = repeats.summary(found["seed"], found["trial"])
    repeats.write_summary(spec.folder, joined)
    for line in repeats.summary_lines(joined):
        _say(line)
    _last_line(spec, outcome, joined)
    return 0


def _one(
    spec: TuningSpec, *, test: bool, lock: RunLock, stop: Stop, watchdog: Watchdog
) -> tuple[Results | None, Outcome]:
    """One training and its results; None where it has not ended."""
    with RunEnd(spec, watched=watchdog.watches, explain=partial(_explained, spec)) as end:
        run = TuningRun(spec, lock, stop, watchdog)
        outcome = run.train(end)
        if not outcome.ended:
            return None, outcome
        stored = on_rank_0(lambda: None if outcome.loss is not None else stored_results(spec.folder, outcome.step))
        if stored is not None:
            _say(f"{spec.folder.path}: has ended before, and its scores are known; --fresh begins anew")
            run.conclude(outcome.step, "finished")
            return stored, outcome
        with watchdog.during(outcome.step, "validate"):
            results = finish(run, outcome, test)
        run.conclude(outcome.step, "finished", test=results.get("test"))
        for line in result_lines(results, spec.labelled.task.classes):
            _say(line)
        return results, outcome


def _explained(spec: TuningSpec, error: BaseException, in_a_step: bool) -> DoesNotFitError:
    """The message after out-of-memory: what to try next."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "the host"
    smaller = next_smaller(spec.split) if in_a_step else None
    options = [] if smaller is None else [f"train.micro_batch={smaller}"]
    options += [
        f"model.tuning={each}" for each in ("lora", "frozen") if spec.config.model.tuning not in {each, "frozen"}
    ]
    options += ["a smaller model.input_size", "a smaller model"]
    return DoesNotFitError(
        f"rank {dist.get_rank()} is out of memory on {device} (micro-batch {spec.split.micro}): try in this order: "
        f"{', '.join(options)} [{first_line(error)[:200]}]"
    )


def _last_line(spec: TuningSpec, outcome: Outcome, results: Results | None) -> None:
    """Print the line of JSON that a fine-tuning ends with."""
    if dist.get_rank():
        return
    line = {
        "run_dir": str(spec.folder.path),
        "step": outcome.step,
        "loss": outcome.loss,
        "best_step": outcome.best[0],
        "val": None if results is None else results["val"]["scores"],
        "test": None if results is None or "test" not in results else results["test"]["scores"],
        "checkpoint": None if outcome.checkpoint is None else str(outcome.checkpoint),
    }
    print(json.dumps(standard_json(line)), flush=True)


def _say(line: str) -> None:
    if dist.get_rank() == 0:
        say(line)
