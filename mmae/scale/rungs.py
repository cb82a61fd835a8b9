"""The runs of a ladder: their sizes, tiles, recipes and costs. Nothing is started here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mmae.addresses import hide_in_words
from mmae.config.deepspeed import load_deepspeed_json
from mmae.config.recipe_file import TRAINING
from mmae.config.schema import Config, Flat, Resume, flatten, resume_policy
from mmae.data.sampling.shard_sets import has_split
from mmae.data.sampling.training_tiles import TrainingTiles
from mmae.errors import InputError, did_you_mean
from mmae.model.counts.flops import training_flops_per_tile
from mmae.model.counts.parameter_counts import parameter_counts
from mmae.plan.amounts import count_of
from mmae.run.folder import RunFolder, without_passwords
from mmae.run.spec import engine_settings, tiles_of
from mmae.variants import VARIANTS

RUNS: Final = "runs"
"""In a ladder's folder: a run folder for each size and budget."""
DECIDED: Final = (
    "run.dir", "model.size", "train.max_steps", "train.warmup_steps", "train.stop_at", "checkpoint.keep_last",
    "checkpoint.every", "val.every", "log.pictures",
)  # fmt: skip
"""Keys that a ladder sets for each of its runs. Probes (`eval.every`) are made at the end, or not at all."""
_SAVES: Final = 4
"""Checkpoints of a run, so that a killed one goes on."""
_UNITS: Final = (("M", 10**6), ("k", 10**3))


@dataclass(frozen=True)
class RungPlan:
    """One run of a ladder.

    Attributes:
        name: of its folder, such as `nano-2k`: the same for 2k, 2000 and 0.002M tiles.
        words: overrides of the recipe for this run.
        tiles: that it sees: whole steps.
        parameters: of the encoder.
        flops: of the whole training.
    """

    name: str
    words: tuple[str, ...]
    config: Config
    folder: RunFolder
    tiles: int
    parameters: int
    flops: float


@dataclass(frozen=True)
class LadderPlan:
    """All runs of a ladder, smallest cost first.

    Attributes:
        shared: what all runs have in common and must not change between them, by dotted key.
    """

    recipe: str
    overrides: tuple[str, ...]
    shared: Flat
    rungs: tuple[RungPlan, ...]


def plan_ladder(
    recipe: str,
    overrides: Sequence[str],
    sizes: str,
    budgets: str,
    out: Path,
    deepspeed_config: str = "zero1",
    trust: bool = False,
) -> LadderPlan:
    """The runs of a ladder.

    Args:
        sizes, budgets: lists with commas, such as `nano,tiny` and `2k,0.5M` (tiles).

    Raises:
        InputError: an unknown size, a budget below one step, or a recipe that cannot be used: whatever would end one
            of the runs before its first step, as far as that can be seen without torch.
    """
    said = TRAINING.parse_overrides(list(overrides))
    for key in DECIDED:
        if key in said:
            raise InputError(f"command line: {key} is set by mmae ladder for each of its runs: leave it out")
    config = TRAINING.overridden(recipe, said, trust)
    if not config.data.locations:
        raise InputError(f"{recipe}: data.shards is not set: give data.shards=FOLDER, written by mmae repack")
    tiles = _tiles(config)
    rungs = [
        _rung(recipe, overrides, config, size, budget, out.absolute(), trust)
        for size in _listed(sizes, "--sizes")
        for budget in _listed(budgets, "--budgets")
    ]
    engine = load_deepspeed_json(deepspeed_config)
    for rung in rungs:
        try:
            engine_settings(rung.config, *engine, world=1)
        except InputError as error:
            raise InputError(f"{rung.config.model.size}: {error}") from None
    if len({(rung.config.model.size, rung.tiles) for rung in rungs}) < len(rungs):
        raise InputError(f"--sizes {sizes} --budgets {budgets}: two runs would be the same")
    rungs.sort(key=lambda rung: rung.flops)
    return LadderPlan(recipe, tuple(overrides), _shared(config, tiles), tuple(rungs))


def _tiles(config: Config) -> TrainingTiles:
    """The tiles of all runs, which validation and probes can use."""
    tiles = tiles_of(config)
    tiles.order(config.train.global_batch)
    if not any(has_split(each.index, "val") for each in tiles.sets):
        raise InputError(
            "data.shards: no set has a val split, and a ladder is fitted to validation losses: mmae repack "
            "--val-fraction 0.01 makes one"
        )
    if config.eval.every:
        # It imports torch.
        from mmae.evaluate.in_loop.loop_tasks import find_tasks

        find_tasks(config.eval.tasks)
    return tiles


def _listed(text: str, option: str) -> list[str]:
    found = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch(r"[\w.]+", word, re.ASCII) for word in found):
        raise InputError(f"{option} {text}: give a list with commas, such as nano,micro,tiny or 2k,4k,8k")
    return found


def _rung(
    recipe: str, overrides: Sequence[str], config: Config, size: str, budget: str, out: Path, trust: bool
) -> RungPlan:
    if size not in VARIANTS:
        raise InputError(f"--sizes: unknown size {size!r}{did_you_mean(size, VARIANTS)}")
    train = config.train
    asked = count_of(budget, "--budgets")
    steps = round(asked / train.global_batch)
    if steps < 1:
        raise InputError(f"--budgets {budget}: less than one step (train.global_batch={train.global_batch})")
    name = f"{size}-{_short(asked)}"
    folder = RunFolder(out / RUNS / name)
    decided: dict[str, Any] = {
        "run.dir": folder.path,
        "model.size": size,
        "train.max_steps": steps,
        "train.warmup_steps": round(steps * train.warmup_steps / train.max_steps),
        "train.stop_at": "null",
        "checkpoint.every": max(1, steps // _SAVES),
        "checkpoint.keep_last": 1,
        "val.every": 0,
        "eval.every": steps if config.eval.every else 0,
        "log.pictures": 0,
    }
    words = tuple(f"{key}={value}" for key, value in decided.items())
    own = TRAINING.overridden(recipe, TRAINING.parse_overrides([*overrides, *words]), trust)
    tiles = steps * train.global_batch
    return RungPlan(
        name, words, own, folder, tiles, parameter_counts(own.model).encoder, training_flops_per_tile(own.model) * tiles
    )


def _short(count: int) -> str:
    """2000 -> `2k`."""
    return next((f"{count // unit}{letter}" for letter, unit in _UNITS if count % unit == 0), str(count))


def _shared(config: Config, tiles: TrainingTiles) -> Flat:
    """What decides the losses of all runs: fixed and explicit keys, and the identity of the shards."""
    policy, flat = resume_policy(), without_passwords(config)
    kept = {key: value for key, value in flat.items() if policy[key] is not Resume.FREE and key not in DECIDED}
    return {**kept, "shards": [each.index.fingerprint for each in tiles.sets]}


def check_same(plan: LadderPlan, before: Flat, out: Path) -> None:
    """Refuse to mix runs of different recipes in one ladder.

    Raises:
        InputError: a shared value differs from that of the ladder in the folder.
    """
    # A ladder of an earlier version lacks keys that came later. It trained with their defaults.
    before = {key: value for key, value in flatten(Config()).items() if key in plan.shared} | before
    for key in plan.shared.keys() | before.keys():
        if plan.shared.get(key) != before.get(key):
            was, now = hide_in_words([repr(before.get(key)), repr(plan.shared.get(key))])
            raise InputError(f"{out}: {key} is {was} in this ladder, and {now} now: choose another --out")
