"""Warnings of a start about its splits: no validation, validation tiles that are trained on, repeated tiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmae.data.sampling.leaks import Leak, leak, trained_ground
from mmae.data.sampling.shard_sets import has_split
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from mmae.data.sampling.training_tiles import TrainingTiles


@dataclass(frozen=True)
class SplitCheck:
    """The result of the check.

    Attributes:
        validates: any set has a tile in val.
        leaked: what val shares with the tiles that are trained on.
        repeated: tiles that are trained on though another tile of the run has the same id.
    """

    validates: bool
    leaked: Leak | None
    repeated: int

    def lines(self) -> Iterator[str]:
        """The messages, one line each."""
        if not self.validates:
            yield (
                "there is no validation: no set in data.shards has a tile in val "
                "(mmae repack --val-fraction 0.01, into another folder, takes 1 % out of train)"
            )
        if self.leaked is not None:
            yield (
                f"WARNING: {self.leaked}: validation losses look better than they are; leave such tiles out "
                "(data.keys), or repack with other splits"
            )
        if self.repeated:
            yield (
                f"WARNING: {counted(self.repeated, 'tile')} of train have the id of another tile of train: an epoch "
                "takes the same pixels twice; were two sets in data.shards packed from one source?"
            )


def check_splits(tiles: TrainingTiles) -> SplitCheck:
    """Check the splits of a run's sets. This takes seconds for a million tiles."""
    trained = trained_ground(tiles)
    different, _ = trained.ids
    return SplitCheck(
        validates=any(has_split(each.index, "val") for each in tiles.sets),
        leaked=leak(tiles.sets, trained),
        repeated=len(trained) - len(different),
    )
