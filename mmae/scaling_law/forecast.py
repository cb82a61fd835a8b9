"""What a ladder says of runs that nobody has made: losses, the best size for a budget, when the next size is better.

Costs are floating-point operations, so "at the same cost" does not depend on a machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from mmae.config.schema import Config, Flat, flatten
from mmae.errors import InputError
from mmae.scaling_law.ladder_file import Ladder
from mmae.scaling_law.law import Predicted
from mmae.scaling_law.law_fit import Fit
from mmae.variants import VARIANTS

Cost = Callable[[Config], tuple[int, int]]
"""Of a recipe: the encoder's parameters, and the floating-point operations of a tile."""

FAR: Final = 10.0
"""Beyond this number of times the ladder's largest run a prediction is far away from anything that was seen."""
_MOST_TILES: Final = 1e13
_OF_THE_MODEL: Final = "model."
_LEFT_OUT: Final = frozenset({"model.size", "model.init_from"})


@dataclass(frozen=True)
class Choice:
    """One size for a budget of operations: how many tiles that pays for, and the loss."""

    size: str
    tiles: int
    predicted: Predicted


def differences(ladder: Ladder, config: Config) -> list[str]:
    """Keys of the model and the learning rate in which a recipe differs from the ladder's: its laws are of another."""
    flat: Flat = flatten(config)
    keys = (key for key in ladder.recipe if key.startswith(_OF_THE_MODEL) or key in {"train.blr", "train.global_batch"})
    return [
        f"{key} is {ladder.recipe[key]} in the ladder, and {flat[key]} here"
        for key in keys
        if key in flat and key not in _LEFT_OUT and ladder.recipe[key] != flat[key]
    ]


def of_size(config: Config, size: str) -> Config:
    """The same recipe for another size of the encoder."""
    return replace(config, model=replace(config.model, size=size))


def choices(fit: Fit, config: Config, flops: float, cost: Cost, sizes: Iterable[str] = tuple(VARIANTS)) -> list[Choice]:
    """Every size with as many tiles as a budget pays for, the lowest loss first; none for less than a tile."""
    found = []
    for size in sizes:
        parameters, per_tile = cost(of_size(config, size))
        if (tiles := int(min(flops / per_tile, _MOST_TILES))) >= 1:
            found.append(Choice(size, tiles, fit.predict(parameters, tiles)))
    return sorted(found, key=lambda choice: choice.predicted.loss)


def point_of_no_return(fit: Fit, config: Config, cost: Cost) -> tuple[str, float] | None:
    """The next size, and the number of tiles from which on it is predicted to be better at the same cost.

    None: this one stays better for ever, or is the largest. 0 tiles: the next one is better from the beginning.
    """
    names = list(VARIANTS)
    place = names.index(config.model.size)
    if place + 1 == len(names):
        return None
    following = names[place + 1]
    (own, own_flops), (other, other_flops) = cost(config), cost(of_size(config, following))

    def gain(log_tiles: float) -> float:
        tiles = math.exp(log_tiles)
        return fit.law.loss(own, tiles) - fit.law.loss(other, tiles * own_flops / other_flops)

    low, high = math.log(1.0), math.log(_MOST_TILES)
    if gain(high) <= 0:
        return None
    if gain(low) >= 0:
        return following, 0.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if gain(middle) > 0 else (middle, high)
    return following, math.exp(high)


def far_away(ladder: Ladder, parameters: float, tiles: float) -> str | None:
    """A sentence where a prediction lies far beyond the ladder."""
    most_parameters = max(rung.parameters for rung in ladder.rungs)
    most_tiles = max(rung.tiles for rung in ladder.rungs)
    beyond = max(parameters / most_parameters, tiles / most_tiles)
    if beyond <= FAR:
        return None
    return (
        f"this is far beyond the ladder: {parameters / most_parameters:,.0f} times its parameters and "
        f"{tiles / most_tiles:,.0f} times its tiles; its own intervals do not know that"
    )


def check_usable(ladder: Ladder) -> None:
    """Refuse a ladder without runs.

    Raises:
        InputError: no run has ended.
    """
    if not ladder.rungs:
        raise InputError("the ladder holds no run that has ended: let mmae ladder train its runs first")
