"""Month and latitude, each without what the other says: months are partly latitude where images were taken by season.

The other is brought to a few terms (powers of latitude, two harmonics of the month), and a linear fit of them on the
training rows predicts the target. What it leaves over is what features can still say.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from mmae.evaluate.frozen.methods import Ridge
from mmae.evaluate.frozen.parts import Part
from mmae.evaluate.probe.task_rows import TaskRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ALPHA: Final = 1.0
"""The penalty of the fit, on standardised terms: a few places must not be fitted by a wild cubic."""


def terms(name: str, values_NT: NDArray[np.float32]) -> Tensor:
    """What a linear fit is given: of `latitude` (N, 1) its powers, of `month` (N, 2) two harmonics, float64."""
    values = torch.from_numpy(values_NT).double()
    if name == "latitude":
        scaled_N = values[:, 0] / 90
        return torch.stack([scaled_N, scaled_N.abs(), scaled_N**2, scaled_N**3], dim=1)
    sine_N, cosine_N = values.unbind(1)
    return torch.stack([sine_N, cosine_N, 2 * sine_N * cosine_N, cosine_N**2 - sine_N**2], dim=1)


def predicted_by(rows: TaskRows, terms_NK: Tensor) -> Tensor:
    """The targets of all rows as a fit of the terms on the training rows predicts them, float64 (R, T).

    Args:
        terms_NK: of all tiles; those of the rows are finite.
    """
    terms_RK = terms_NK[torch.from_numpy(rows.tile_R)]
    train_R = torch.from_numpy(rows.part_R == 0)
    train = Part(terms_RK[train_R], rows.y_R[train_R])
    (found_RT,) = Ridge().predictions(rows.task, train, terms_RK, [_ALPHA])
    return found_RT


def left_over(rows: TaskRows, predicted_RT: Tensor) -> TaskRows:
    """The same rows with what the prediction leaves over as targets."""
    return replace(rows, y_R=rows.y_R.double() - predicted_RT)
