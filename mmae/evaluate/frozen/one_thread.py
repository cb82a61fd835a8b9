"""Processes that share a CPU: how sums are shared among threads would change their last digits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread(device: str) -> Iterator[None]:
    """In this block torch computes on one core, if the device is the CPU; so any number of processes gives the same.

    Args:
        device: `cpu`, or any other.
    """
    before = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
