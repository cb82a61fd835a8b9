"""Supplies training with steps: micro-batches on the device, with their floats and masks.

The next step's are prepared while the device still works on the backward pass of the present one. The optimiser waits
for the device once a step; with nothing prepared, the device would then stand still until some hundred small kernels
are started.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mmae.config.schema import Config
from mmae.data.transforms.preprocess import Preprocess
from mmae.distributed.watchdog import Watchdog
from mmae.engine import step
from mmae.engine.step import Prepared
from mmae.types import Batch


@dataclass(frozen=True)
class Supplied:
    """One step's data of this rank."""

    batches: list[Batch]
    prepared: Prepared


class StepSupply:
    """Steps in order, of which at most one is prepared in advance.

    Args:
        fetch: gives the micro-batches of the next step, on the device.
        watchdog: is told when this rank may wait for them.
    """

    def __init__(
        self,
        fetch: Callable[[], list[Batch]],
        preprocess: Preprocess,
        config: Config,
        watchdog: Watchdog,
    ) -> None:
        self._fetch, self._watchdog = fetch, watchdog
        self._preprocess, self._config = preprocess, config
        self._ahead: Supplied | Exception | None = None

    def take(self) -> Supplied:
        """The next step's data. What went wrong while they were prepared in advance is raised here."""
        supplied, self._ahead = self._ahead, None
        if isinstance(supplied, Exception):
            raise supplied
        return supplied or self._next()

    def prepare_next(self, number: int) -> None:
        """Prepare the step after step `number`, which runs now and whose result must not suffer if that fails."""
        with self._watchdog.during(number, "data", then="step"):
            try:
                self._ahead = self._next()
            except Exception as error:
                self._ahead = error

    def _next(self) -> Supplied:
        batches = self._fetch()
        return Supplied(batches, step.prepare_step(batches, self._preprocess, self._config))
