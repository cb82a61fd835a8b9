"""The methods that predict from frozen features, each over a range of settings of which validation chooses one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from mmae.errors import InputError
from mmae.evaluate.frozen.logistic import DEFAULT_CS, fit_logistic, probabilities
from mmae.evaluate.frozen.nearest import knn
from mmae.evaluate.frozen.parts import Kind, Part, Task

DEFAULT_ALPHAS: Final = tuple(float(alpha) for alpha in np.logspace(-3, 6, 10))


class Method(Protocol):
    """Attributes:
    name: in tables.
    kinds: of targets that it can predict.
    settings: the range it is tried over, in the order in which a tie is decided.
    """

    @property
    def name(self) -> str: ...
    @property
    def kinds(self) -> tuple[Kind, ...]: ...
    @property
    def settings(self) -> tuple[float, ...]: ...

    def predictions(self, task: Task, train: Part, x_MD: Tensor, settings: Sequence[float]) -> Iterator[Tensor]:
        """Fit on `train`, predict the rows x: one float64 prediction a setting, in their order.

        A prediction is of shape (M, C) for classes and labels (between 0 and 1), (M, T) for values, and (M, Q, C)
        for pixels.

        Raises:
            InputError: the rows are too few.
        """
        ...


@dataclass(frozen=True)
class Knn:
    """Nearest neighbours; a setting is their number k."""

    settings: tuple[float, ...] = (20.0,)
    temperature: float = 0.07
    name: str = "kNN"
    kinds: tuple[Kind, ...] = ("classes", "labels", "values")

    def predictions(self, task: Task, train: Part, x_MD: Tensor, settings: Sequence[float]) -> Iterator[Tensor]:
        target_NT = one_hot(train.y, task.outputs) if task.kind == "classes" else train.y
        for k in settings:
            yield knn(train.x_ND, target_NT, x_MD, int(k), self.temperature)


@dataclass(frozen=True)
class Logistic:
    """Logistic regression; a setting is its strength C."""

    settings: tuple[float, ...] = DEFAULT_CS
    name: str = "linear"
    kinds: tuple[Kind, ...] = ("classes", "labels", "pixels")

    def predictions(self, task: Task, train: Part, x_MD: Tensor, settings: Sequence[float]) -> Iterator[Tensor]:
        fitted = None
        for c in settings:
            fitted = fit_logistic(task, train, c, fitted)
            yield probabilities(task, fitted(x_MD))


@dataclass(frozen=True)
class Ridge:
    """Ridge regression; a setting is its penalty alpha. Targets are standardised, so that one alpha suits them all."""

    settings: tuple[float, ...] = DEFAULT_ALPHAS
    name: str = "ridge"
    kinds: tuple[Kind, ...] = ("values",)

    def predictions(self, task: Task, train: Part, x_MD: Tensor, settings: Sequence[float]) -> Iterator[Tensor]:
        from sklearn.linear_model import Ridge as SklearnRidge

        y_NT = train.y.double().cpu().numpy()
        mean_T, deviation_T = y_NT.mean(0), y_NT.std(0)
        deviation_T = np.where(deviation_T > 0, deviation_T, 1)
        x_ND, asked_MD = train.x_ND.double().cpu().numpy(), x_MD.double().cpu().numpy()
        for alpha in settings:
            # A closed form: iterative solvers would stop at a tolerance.
            fitted = SklearnRidge(alpha, solver="svd").fit(x_ND, (y_NT - mean_T) / deviation_T)
            found_MT = fitted.predict(asked_MD).reshape(len(asked_MD), -1) * deviation_T + mean_T
            yield torch.from_numpy(found_MT)


def check_kind(method: Method, task: Task) -> None:
    """Raise InputError if a method cannot predict targets of this kind."""
    if task.kind not in method.kinds:
        raise InputError(f"{method.name} predicts {', '.join(method.kinds)}, and the targets are {task.kind}")
