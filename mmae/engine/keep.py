"""Which checkpoints stay."""

from __future__ import annotations

from collections.abc import Collection


def superfluous(steps: Collection[int], keep_last: int, keep_every: int, needed: Collection[int]) -> list[int]:
    """Steps whose checkpoints may go, oldest first.

    Args:
        steps: of all checkpoints.
        keep_last: so many of the newest stay; the newest always does.
        keep_every: multiples of it stay for ever; 0 keeps none for that.
        needed: steps that stay whatever the rules say.
    """
    newest = sorted(steps, reverse=True)[: max(1, keep_last)]
    stay = {*newest, *needed, *(step for step in steps if keep_every and step % keep_every == 0)}
    return sorted(set(steps) - stay)
