"""What a ladder of sizes predicts for a recipe, as notes under a plan, and as facts for its JSON."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmae.config.schema import Config
from mmae.errors import InputError
from mmae.model.counts.flops import training_flops_per_tile
from mmae.model.counts.parameter_counts import parameter_counts
from mmae.plan.time_and_disk import Speed
from mmae.scaling_law.fit_checks import problems
from mmae.scaling_law.forecast import check_usable, choices, differences, far_away, point_of_no_return
from mmae.scaling_law.ladder_file import ALL, read_ladder
from mmae.scaling_law.law_file import fits_of
from mmae.terminal.plurals import counted
from mmae.variants import VARIANTS


def ladder_notes(
    folder: Path, config: Config, speed: Speed, gpu_hours: float | None
) -> tuple[list[str], dict[str, Any]]:
    """Predictions for a recipe: its losses, the best size for its cost, and when the next size is better.

    Args:
        speed: of a GPU, which turns GPU-hours into operations.
        gpu_hours: the budget; None: what the recipe costs.

    Raises:
        InputError: the folder holds no ladder, or one with too few runs.
    """
    ladder = read_ladder(folder)
    check_usable(ladder)
    fits = fits_of(folder, ladder)
    fit, train = fits[ALL], config.train
    (parameters, per_tile), tiles = cost(config), train.max_steps * train.global_batch
    pace = speed.mfu * speed.peak_flops * 3600
    flops = per_tile * tiles if gpu_hours is None else gpu_hours * pace
    predicted = {output: each.predict(parameters, tiles) for output, each in fits.items()}
    notes = [
        f"ladder {folder}: {counted(len(ladder.rungs), 'run')}; intervals hold nine of ten such runs",
        f"predicted validation loss of {config.model.size} after {tiles:,} tiles: {predicted[ALL]} in all",
        ", ".join(f"{output} {each}" for output, each in predicted.items() if output != ALL),
    ]
    best = choices(fit, config, flops, cost)
    if not best:
        raise InputError(f"--gpu-hours {gpu_hours:g}: no size could see a single tile in that time: give more")
    said = "; ".join(f"{each.size} with {each.tiles:,} tiles {each.predicted}" for each in best[:3])
    notes.append(f"for {flops / pace:,.2g} GPU-hours the best size is {best[0].size}: {said}")
    if len(best) > 1 and best[1].predicted.low <= best[0].predicted.loss:
        notes.append(
            f"the interval of {best[1].size} holds the prediction for {best[0].size}: the ladder cannot tell them apart"
        )
    turn = point_of_no_return(fit, config, cost)
    notes.append(_turn_note(config.model.size, turn, per_tile, pace))
    notes += [f"BAD FIT: {line}" for line in problems(fit)]
    notes += [f"ANOTHER RECIPE: {line}" for line in differences(ladder, config)]
    notes += [line for line in (far_away(ladder, parameters, tiles),) if line]
    facts = {
        "predicted": {output: asdict(each) for output, each in predicted.items()},
        "best": [{"size": each.size, "tiles": each.tiles, **asdict(each.predicted)} for each in best],
        "next_size_is_better_from": None if turn is None else {"size": turn[0], "tiles": turn[1]},
        "problems": problems(fit),
    }
    return notes, facts


def cost(config: Config) -> tuple[int, int]:
    """The parameters of a recipe's encoder, and the operations of a training on one tile."""
    return parameter_counts(config.model).encoder, training_flops_per_tile(config.model)


def _turn_note(size: str, turn: tuple[str, float] | None, per_tile: int, pace: float) -> str:
    if size == list(VARIANTS)[-1]:
        return f"point of no return: none, {size} is the largest size"
    if turn is None:
        return f"point of no return: none, {size} stays as good as the next size at the same cost"
    following, tiles = turn
    if not tiles:
        return f"point of no return: {following} is better than {size} at any cost"
    hours = tiles * per_tile / pace
    return (
        f"point of no return: beyond {tiles:,.0f} tiles ({hours:,.2g} GPU-hours) {following} reaches a lower loss than "
        f"{size} at the same cost"
    )
