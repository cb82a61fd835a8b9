"""Numbers with their nouns in singular or plural: `1 shard`, `2 shards`."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """The number and its noun.

    Args:
        plural: given if it is not the noun with an s.
    """
    return f"{count} {noun_of(count, noun, plural)}"


def noun_of(count: int, noun: str, plural: str | None = None) -> str:
    """The noun alone, for a number that is formatted elsewhere: in the plural unless the count is 1."""
    return noun if count == 1 else plural or f"{noun}s"
