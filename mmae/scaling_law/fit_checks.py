"""How far a fitted law can be trusted: what it says of points that it has not seen, and what speaks against it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from mmae.errors import InputError
from mmae.scaling_law.law import Point, Predicted, quantiles
from mmae.scaling_law.law_fit import DRAWS, EXPONENT_SPREAD, Fit, fit_law

ENOUGH: Final = 3
"""Sizes, and budgets, of a ladder that shows a curve."""
_OF_PRIOR: Final = 0.75
"""An exponent whose interval is this share of what was assumed before is not known from the points."""
_WIDTH_OF_PRIOR: Final = 2 * 1.645 * EXPONENT_SPREAD


@dataclass(frozen=True)
class HeldOut:
    """What a law says of a point that was left out of its fit.

    Attributes:
        group: what was left out with the point, such as `size tiny`.
    """

    group: str
    point: Point
    predicted: Predicted

    @property
    def off(self) -> float:
        """How far the prediction is off, as a share of the loss."""
        return self.predicted.loss / self.point.loss - 1

    @property
    def inside(self) -> bool:
        return self.predicted.low <= self.point.loss <= self.predicted.high


def held_out(points: Sequence[Point], draws: int = DRAWS) -> tuple[list[HeldOut], list[str]]:
    """The largest size left out, and the most tiles left out: what the other points say of them.

    Returns:
        the points that were left out, and a sentence for each group that could not be.
    """
    found: list[HeldOut] = []
    missing: list[str] = []
    largest, most = max(point.parameters for point in points), max(point.tiles for point in points)
    name = next(point.size for point in points if point.parameters == largest)
    for group, kept in (
        (f"size {name}", [point for point in points if point.parameters != largest]),
        (f"{most:,} tiles", [point for point in points if point.tiles != most]),
    ):
        left = [point for point in points if point not in kept]
        try:
            fit = fit_law(kept, draws)
        except InputError as error:
            missing.append(f"{group} cannot be left out: {error}")
            continue
        found += [HeldOut(group, point, fit.predict(point.parameters, point.tiles)) for point in left]
    return found, missing


def problems(fit: Fit) -> list[str]:
    """Sentences on what makes a fit bad; none where nothing does."""
    return [*_few(fit), *_rising(fit), *_flat(fit), *_unknown(fit), *_wide(fit)]


def _few(fit: Fit) -> Iterator[str]:
    for what, count in (("sizes", len(_sizes(fit))), ("budgets", len(_budgets(fit)))):
        if count < ENOUGH:
            yield f"too few points: {count} {what} show no curve, at least {ENOUGH} do"


def _rising(fit: Fit) -> Iterator[str]:
    """Losses that rise where the law falls: other tiles, another learning rate, or training tiles learned by heart."""
    for axis, other in (("tiles", "parameters"), ("parameters", "tiles")):
        pairs = [
            (before, after)
            for value in sorted({getattr(point, other) for point in fit.points})
            for before, after in pairwise(
                sorted(
                    (point for point in fit.points if getattr(point, other) == value),
                    key=lambda point: getattr(point, axis),
                )
            )
        ]
        worse = [(before, after) for before, after in pairs if after.loss > before.loss * (1 + 2 * fit.noise)]
        if worse:
            before, after = worse[0]
            yield (
                f"the loss rises with more {axis} in {len(worse)} of {len(pairs)} steps (the first: {before.size} at "
                f"{before.tiles:,} tiles {before.loss:.4g}, {after.size} at {after.tiles:,} tiles {after.loss:.4g}): "
                "a law cannot say that"
            )


def _flat(fit: Fit) -> Iterator[str]:
    for what, share in (("size", _effect(fit, "size")), ("tiles", _effect(fit, "data"))):
        if share < 2 * fit.noise:
            yield (
                f"no effect of {what}: over the whole ladder it changes the loss by {share:.1%}, and points scatter by "
                f"{fit.noise:.1%}"
            )


def _unknown(fit: Fit) -> Iterator[str]:
    for what, name in (("size", "size_exponent"), ("data", "data_exponent")):
        low, high = quantiles(getattr(law, name) for law in fit.draws)
        if high - low > _OF_PRIOR * _WIDTH_OF_PRIOR:
            yield f"no curvature over {what}: its exponent may be anything from {low:.2f} to {high:.2f}"
    low, high = quantiles(law.irreducible for law in fit.draws)
    least = min(point.loss for point in fit.points)
    if high - low > least / 2:
        yield f"no curvature: the loss that nothing removes may be anything from {low:.3g} to {high:.3g}"


def _wide(fit: Fit) -> Iterator[str]:
    """The next size, as much larger as the last one was, with the most tiles."""
    sizes, tiles = _sizes(fit), _budgets(fit)[-1]
    following = fit.predict(sizes[-1] ** 2 / sizes[-2], tiles)
    effect = fit.law.loss(sizes[-1], tiles) / following.loss - 1
    if following.width > effect:
        yield (
            f"an interval wider than the effect: the next size changes the loss by {effect:.1%} at {tiles:,} tiles, "
            f"and the interval is {following.width:.1%} wide"
        )


def _effect(fit: Fit, of: str) -> float:
    """How much the law falls from the ladder's first size (or budget) to its last, at the last of the other."""
    sizes, tiles = _sizes(fit), _budgets(fit)
    last = fit.law.loss(sizes[-1], tiles[-1])
    return (fit.law.loss(sizes[0], tiles[-1]) if of == "size" else fit.law.loss(sizes[-1], tiles[0])) / last - 1


def _sizes(fit: Fit) -> list[int]:
    return sorted({point.parameters for point in fit.points})


def _budgets(fit: Fit) -> list[int]:
    return sorted({point.tiles for point in fit.points})
