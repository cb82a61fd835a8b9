"""A number with its noun, as English has it: `1 shard`, `2 shards`."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """`count` and the noun, in the plural unless the count is 1.

    Args:
        plural: where it is not the noun with an s.
    """
    return f"{count} {noun if count == 1 else plural or noun + 's'}"
