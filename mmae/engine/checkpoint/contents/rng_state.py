"""The random number generators of a process (torch's, numpy's and Python's) as tensors."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


def generator_state() -> dict[str, Tensor]:
    """Every generator's state. A process that restores it draws the same numbers."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    version, words, gauss = random.getstate()
    state["python"] = torch.tensor([version, *words], dtype=torch.int64)
    if gauss is not None:
        state["python_gauss"] = torch.tensor([gauss], dtype=torch.float64)
    legacy: Any = np.random.get_state(legacy=False)
    inner = legacy["state"]
    state["numpy"] = torch.from_numpy(inner["key"].astype(np.int64))
    state["numpy_place"] = torch.tensor([inner["pos"], legacy["has_gauss"], legacy["gauss"]], dtype=torch.float64)
    return state


def restore_generators(state: dict[str, Tensor]) -> None:
    """Restore `generator_state`. Generators that the state lacks stay as they are."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    if "python" in state:
        version, *words = state["python"].tolist()
        gauss = state["python_gauss"].item() if "python_gauss" in state else None
        random.setstate((version, tuple(words), gauss))
    if "numpy" in state:
        position, has_gauss, gauss = state["numpy_place"].tolist()
        key = state["numpy"].numpy().astype(np.uint32)
        np.random.set_state(("MT19937", key, int(position), int(has_gauss), gauss))


@contextmanager
def generators_kept() -> Iterator[None]:
    """After the context every generator is as it was before, whatever was drawn within it."""
    state = generator_state()
    try:
        yield
    finally:
        restore_generators(state)
