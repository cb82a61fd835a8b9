"""The weights that are scored: those of the last step, or their exponential average; and the best so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from mmae.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    State = Mapping[str, Tensor]


class AveragedWeights:
    """An exponential average of a model's parameters. With a decay of 0 there is none: the parameters are scored.

    In the first steps the average forgets faster, so that it does not hold the weights of the start for long.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay = model, decay
        self._average = {name: each.detach().clone() for name, each in self._trained()} if decay else {}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Count in the weights after a step, counted from 1."""
        if not self._decay:
            return
        decay = min(self._decay, step / (step + 9))
        names, own = zip(*self._trained(), strict=True)
        torch._foreach_lerp_([self._average[name] for name in names], list(own), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """A context in which the model has the averaged weights."""
        if not self._decay:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state(self) -> dict[str, Tensor]:
        """The average; empty without one."""
        return dict(self._average)

    def load(self, state: State) -> None:
        """Restore `state`."""
        for name, each in self._average.items():
            each.copy_(state[name])

    @torch.no_grad()
    def _swap(self) -> None:
        for name, each in self._trained():
            held = each.clone()
            each.copy_(self._average[name])
            self._average[name].copy_(held)

    def _trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, each) for name, each in self._model.named_parameters() if each.requires_grad)


@dataclass
class Best:
    """The weights with the best validation.

    Attributes:
        step: after which they were scored; 0: none were.
        score: their score; higher is better where `higher`.
        without: validations since then.
        weights: all of the model's state, on the CPU.
    """

    higher: bool
    step: int = 0
    score: float | None = None
    without: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, step: int, score: float | None, model: nn.Module) -> bool:
        """Take the model's weights if their score is better than any before. Returns whether they were taken."""
        if score is None or (self.score is not None and not self._better(score)):
            self.without += 1
            return False
        self.step, self.score, self.without = step, score, 0
        self.weights = {name: each.detach().to("cpu", copy=True) for name, each in model.state_dict().items()}
        return True

    def apply(self, model: nn.Module) -> None:
        """Give the model the best weights.

        Raises:
            InputError: no validation gave a score.
        """
        if not self.weights:
            raise InputError("no validation gave a score: no label of the validation tiles is known")
        model.load_state_dict(self.weights)

    def _better(self, score: float) -> bool:
        assert self.score is not None
        return score > self.score if self.higher else score < self.score
