"""Collectives on small Python values: rank 0 decides, or all report, and every rank learns the result or the error.

Every rank must call each function. A process that has joined no group counts as a group of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

from mmae.errors import InputError
from mmae.terminal.error_line import first_line

T = TypeVar("T")


def rank() -> int:
    """This process's rank."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Number of ranks in the group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def on_rank_0(work: Callable[[], T]) -> T:
    """Run `work` on rank 0; every rank returns its result or raises its error, so that none waits for the others.

    Raises:
        InputError: rank 0 raised it.
        RuntimeError: rank 0 failed with another error, which rank 0 itself raises.
    """
    if not dist.is_initialized():
        return work()
    box: list[Any] = [None, None]
    own: Exception | None = None
    if rank() == 0:
        try:
            box[0] = work()
        except Exception as error:  # raised below, on every rank
            own = error
            box[1] = error if isinstance(error, InputError) else RuntimeError(f"rank 0: {error!r}")
    dist.broadcast_object_list(box)
    if own is not None:
        raise own
    if box[1] is not None:
        raise box[1]
    result: T = box[0]
    return result


class RankFailedError(Exception):
    """Work failed on a rank; the message names it and says why."""


def on_every_rank(work: Callable[[], T]) -> T:
    """Run `work`, which waits for no other rank, on every rank. Collective: if it fails on one, no rank waits for it.

    Raises:
        RankFailedError: on every rank, because it failed on one or several.
    """
    own: Exception | None = None
    try:
        result = work()
    except Exception as error:  # raised below, on every rank
        own = error
    reasons = gather(None if own is None else f"rank {rank()}: {first_line(own)}")
    if failed := [reason for reason in reasons if reason is not None]:
        raise RankFailedError(failed[0]) from own
    return result


def gather(value: T) -> list[T]:
    """Every rank's value, in the order of the ranks."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, value)
    return values


def is_of_communication(error: BaseException) -> bool:
    """Whether an error comes from the end of another rank, and not from a fault of this rank."""
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and any(word in f"{error}".lower() for word in ("gloo", "nccl"))
