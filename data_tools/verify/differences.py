"""The differences that `mmae verify` finds. A shard counts all, and lists the first ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

LISTED: Final = 8
"""Differences that are listed for one shard: a shifted shard has one for each member."""


@dataclass(frozen=True)
class Difference:
    """One difference; `shard` is empty if it concerns the whole set."""

    shard: str
    row: int | None
    dataset: str | None
    what: str

    def __str__(self) -> str:
        where = [self.shard or "index"]
        where += [f"row {self.row}"] if self.row is not None else []
        where += [self.dataset] if self.dataset is not None else []
        return f"{', '.join(where)}: {self.what}"


@dataclass
class Findings:
    """Differences of one shard, or of the whole set."""

    listed: list[Difference] = field(default_factory=list)
    count: int = 0

    def add(self, differences: Iterable[Difference]) -> None:
        for difference in differences:
            self.count += 1
            if len(self.listed) < LISTED:
                self.listed.append(difference)

    def put_first(self, differences: Sequence[Difference]) -> None:
        self.count += len(differences)
        self.listed = [*differences, *self.listed][:LISTED]

    def lines(self) -> Iterator[str]:
        yield from map(str, self.listed)
        if self.count > len(self.listed):
            yield f"{self.listed[0].shard or 'index'}: ... and {self.count - len(self.listed)} more"


@dataclass
class ShardReport:
    """The result of the check of one shard.

    Attributes:
        number: number of the shard in the index.
        tiles: number of tiles that were checked.
        whole: the file is byte for byte the packed one.
    """

    number: int
    tiles: int = 0
    whole: bool = False
    findings: Findings = field(default_factory=Findings)
