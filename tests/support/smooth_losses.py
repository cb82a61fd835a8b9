"""Losses without a kink, for trainings of which the numbers are compared.

The gradient of an absolute error is its sign. Where a prediction meets its target, another order of additions turns it
round, and from that step on two right trainings differ by a thousand times their rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final
from unittest.mock import patch

from mmae import losses
from mmae.modalities import Modality, output_source

SMOOTH: Final = "tests.support.smooth_losses:smooth"
"""For `Job.around`."""


@contextmanager
def smooth(_: Path | None = None) -> Iterator[None]:
    """Outputs of absolute errors are scored by squared ones."""
    with patch.object(losses, "output_source", _squared):
        yield


def _squared(output: str) -> Modality:
    source = output_source(output)
    return replace(source, loss="mse") if source.loss == "l1" else source
