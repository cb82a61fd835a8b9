"""Fits the law to points, by robust least squares on the logarithm of losses, with bootstrap draws.

A short ladder does not determine five numbers. So the two exponents are drawn weakly towards what such exponents are
elsewhere (0.4 +- 0.3), and each bootstrap draw is drawn towards another centre of that distribution: where the points
say nothing of an exponent, its interval is as wide as the distribution, and predictions have wide intervals, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from mmae.errors import InputError
from mmae.scaling_law.law import Law, Point, Predicted, quantiles
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from mmae.scaling_law.law import Floats

DRAWS: Final = 200
EXPONENT: Final = 0.4
EXPONENT_SPREAD: Final = 0.3
FEWEST_POINTS: Final = 4
_NUMBERS: Final = 5
SMALLEST_EXPONENT: Final = 0.01
LARGEST_EXPONENT: Final = 3.0
_LEAST_NOISE: Final = 1e-3
"""Runs that differ in the seed alone differ by more, as a share of the loss."""
_FIRST_NOISE: Final = 0.01
_STARTS: Final = ((0.5, 0.3, 0.3), (0.9, 0.3, 0.3), (0.1, 0.3, 0.3), (0.7, 0.8, 0.3), (0.7, 0.3, 0.8), (0.7, 1.2, 1.2))
"""Where a fit starts: E as a share of the smallest loss, and the two exponents."""


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted law and its uncertainty.

    Attributes:
        points: what it was fitted to.
        noise: spread of the points around the law, as a share of the loss.
        draws: laws of bootstrap samples.
        shifts: for each draw, what a new run may lie above the law, in the logarithm of the loss.
    """

    points: tuple[Point, ...]
    law: Law
    noise: float
    draws: tuple[Law, ...] = field(repr=False)
    shifts: Floats = field(repr=False)

    def predict(self, parameters: float, tiles: float) -> Predicted:
        """The loss of a run, with the interval of a new run."""
        drawn = (law.loss(parameters, tiles) for law in self.draws)
        low, high = quantiles(loss * np.exp(shift) for loss, shift in zip(drawn, self.shifts, strict=True))
        loss = self.law.loss(parameters, tiles)
        return Predicted(loss, min(low, loss), max(high, loss))


def fit_law(points: Sequence[Point], draws: int = DRAWS, seed: int = 0) -> Fit:
    """Fit the law.

    Raises:
        InputError: fewer than four points, or of one size or one number of tiles only, or a loss that is not above 0.
    """
    _check(points)
    problem = _Problem(points)
    rng = np.random.default_rng(seed)
    noise, centre_2 = _FIRST_NOISE, np.full(2, EXPONENT)
    found_T = problem.solve(problem.log_loss_P, noise, centre_2, problem.starts())
    for _ in range(2):
        noise = problem.noise(found_T)
        found_T = problem.solve(problem.log_loss_P, noise, centre_2, [found_T, problem.starts()[0]])
    errors_P = problem.log_loss_P - problem.log_law(found_T)
    # A robust fit goes through some of the points, and so their errors are too small.
    errors_P = errors_P * max(1.0, noise / float(np.sqrt((errors_P**2).mean()) + 1e-12))
    # How large the errors are is itself known from a few points only: their spread is drawn, too.
    certain = max(2, len(points) - _NUMBERS)
    spread_K = np.sqrt(certain / rng.chisquare(certain, draws))
    laws = []
    for spread in spread_K:
        signs_P = rng.choice((-1.0, 1.0), len(points))
        drawn_P = problem.log_law(found_T) + spread * rng.choice(errors_P, len(points)) * signs_P
        around_2 = np.maximum(rng.normal(EXPONENT, EXPONENT_SPREAD, 2), 2 * SMALLEST_EXPONENT)
        start_T = found_T.copy()
        start_T[[2, 4]] = (start_T[[2, 4]] + around_2) / 2
        laws.append(problem.law(problem.solve(drawn_P, noise, around_2, [start_T])))
    shifts = spread_K * rng.choice(errors_P, draws) * rng.choice((-1.0, 1.0), draws)
    return Fit(tuple(points), problem.law(found_T), noise, tuple(laws), shifts)


def too_few(runs: Sequence[tuple[int, int]]) -> str:
    """Why runs of these parameters and tiles determine no law, in one line; empty where they may."""
    sizes, budgets = (len({run[of] for run in runs}) for of in (0, 1))
    if len(runs) >= FEWEST_POINTS and min(sizes, budgets) > 1:
        return ""
    return (
        f"too few points for a law: {counted(len(runs), 'run')} of {counted(sizes, 'size')} and "
        f"{counted(budgets, 'budget')}; at least {FEWEST_POINTS} runs of 2 sizes and 2 budgets are needed, and 9 of 3 "
        "and 3 are better"
    )


def _check(points: Sequence[Point]) -> None:
    if few := too_few([(point.parameters, point.tiles) for point in points]):
        raise InputError(few)
    if not all(0 < point.loss < np.inf for point in points):
        raise InputError("a law needs losses above 0")


class _Problem:
    """Numbers of a law as they are fitted: ln E, ln of the size's part at the middle of the points, a, and so on."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.log_loss_P = np.log([point.loss for point in points])
        size_P, data_P = (np.log([getattr(point, name) for point in points]) for name in ("parameters", "tiles"))
        self._middle_size, self._middle_data = float(size_P.mean()), float(data_P.mean())
        self._size_P, self._data_P = size_P - self._middle_size, data_P - self._middle_data

    def starts(self) -> list[Floats]:
        least = float(self.log_loss_P.min())
        rest = np.log(max(np.exp(self.log_loss_P.mean()) - np.exp(least) / 2, 1e-3 * np.exp(least)) / 2)
        return [np.array([least + np.log(share), rest, a, rest, b]) for share, a, b in _STARTS]

    def log_law(self, law_T: Floats) -> Floats:
        """ln L of the points (P,)."""
        log_law_P: Floats = np.logaddexp.reduce(self._parts(law_T), axis=0)
        return log_law_P

    def noise(self, law_T: Floats) -> float:
        """A robust spread of the points around a law.

        A robust fit goes through as many points as it has numbers: the spread is that of the others.
        """
        errors_P = np.sort(np.abs(self.log_loss_P - self.log_law(law_T)))
        return max(_LEAST_NOISE, 1.4826 * float(np.median(errors_P[-max(2, len(errors_P) - _NUMBERS) :])))

    def solve(self, log_loss_P: Floats, noise: float, centre_2: Floats, starts: Sequence[Floats]) -> Floats:
        """The best of the fits from several starts."""
        from scipy.optimize import least_squares

        least, most = float(self.log_loss_P.min()), float(self.log_loss_P.max())
        low_T = np.array([least - 9, least - 12, SMALLEST_EXPONENT, least - 12, SMALLEST_EXPONENT])
        high_T = np.array([least, most + 3, LARGEST_EXPONENT, most + 3, LARGEST_EXPONENT])

        def errors(law_T: Floats) -> Floats:
            pulls_2 = (law_T[[2, 4]] - centre_2) / EXPONENT_SPREAD
            return np.concatenate([(self.log_law(law_T) - log_loss_P) / noise, pulls_2])

        def slopes(law_T: Floats) -> Floats:
            parts = self._parts(law_T)
            share_3P = np.exp(parts - np.logaddexp.reduce(parts, axis=0))
            columns = [share_3P[0], share_3P[1], -share_3P[1] * self._size_P, share_3P[2], -share_3P[2] * self._data_P]
            pulls = np.zeros((2, _NUMBERS))
            pulls[0, 2] = pulls[1, 4] = 1 / EXPONENT_SPREAD
            return np.concatenate([np.stack(columns, axis=1) / noise, pulls])

        inside = [np.clip(start_T, low_T + 1e-6, high_T - 1e-6) for start_T in starts]
        fits = [
            least_squares(errors, start_T, slopes, bounds=(low_T, high_T), x_scale="jac", loss="soft_l1", max_nfev=100)
            for start_T in inside
        ]
        best: Floats = min(fits, key=lambda fit: float(fit.cost)).x
        return best

    def law(self, law_T: Floats) -> Law:
        e, size, a, data, b = (float(number) for number in law_T)
        return Law(
            float(np.exp(e)),
            float(np.exp(size + a * self._middle_size)),
            a,
            float(np.exp(data + b * self._middle_data)),
            b,
        )

    def _parts(self, law_T: Floats) -> Floats:
        """ln of the three parts of the formula (3, P)."""
        e, size, a, data, b = law_T
        return np.stack([np.full_like(self._size_P, e), size - a * self._size_P, data - b * self._data_P])
