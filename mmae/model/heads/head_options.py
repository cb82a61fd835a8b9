"""Which head a model has, as `config.json` and recipes say it; torch is not needed."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mmae.config.finetune_schema import HeadKind
from mmae.errors import InputError

TILE_HEADS: Final = ("linear", "attention")
"""Heads with one vector of outputs a tile. The others have one a pixel."""
PYRAMID_HEADS: Final = ("upernet", "dpt")
"""Heads that read four blocks."""
PYRAMID_BLOCKS: Final = 4

_WIDTHS: Final = {"upernet": 512, "convnext": 6144, "dpt": 256}


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class HeadOptions:
    """A head.

    Attributes:
        kind: `linear` (one linear layer on a vector of the tile) and `attention` (a learned query reads all tokens)
            say something about a tile; `patch_linear` (one linear layer a patch), `upernet`, `convnext` and `dpt`
            about each pixel.
        pooling: the vector that `linear` reads: the mean of tokens with data, or of the global tokens.
        blocks: the encoder blocks that are read, from 0, rising: four for `upernet` and `dpt`, one for the others.
            None: the last, or four at equal distances.
        width: channels inside `upernet`, `dpt` and `convnext` (there: shared by the parts of a patch). None: 512, 256
            and 6144.
    """

    kind: HeadKind = "linear"
    pooling: Literal["mean", "global"] = "mean"
    blocks: tuple[Annotated[int, Field(ge=0, lt=1024)], ...] | None = None
    width: Annotated[int, Field(ge=1, le=65536)] | None = None

    @property
    def dense(self) -> bool:
        """Whether outputs are those of pixels."""
        return self.kind not in TILE_HEADS

    @property
    def channels(self) -> int:
        """Channels inside the head; 0 for heads that have no width of their own."""
        return self.width or _WIDTHS.get(self.kind, 0)

    def blocks_of(self, depth: int) -> tuple[int, ...]:
        """The blocks that are read of an encoder with `depth` blocks.

        Raises:
            InputError: there are no such blocks, or their number is not the head's.
        """
        count = PYRAMID_BLOCKS if self.kind in PYRAMID_HEADS else 1
        if self.blocks is None:
            # An encoder with fewer blocks gives some of them twice.
            return tuple(max(0, (number + 1) * depth // count - 1) for number in range(count))
        if len(self.blocks) != count:
            raise InputError(f"head.blocks={list(self.blocks)}: the head {self.kind} reads {count} of them")
        if list(self.blocks) != sorted(set(self.blocks)) or self.blocks[-1] >= depth:
            raise InputError(
                f"head.blocks={list(self.blocks)}: give numbers from 0 to {depth - 1}, each larger than the one before"
            )
        return self.blocks

    def check(self) -> None:
        """Refuse options that the kind does not have.

        Raises:
            InputError: as said.
        """
        if self.pooling != "mean" and self.kind != "linear":
            raise InputError(f"head.pooling={self.pooling}: only the head linear pools: leave it out")
        if self.width is not None and self.kind not in _WIDTHS:
            raise InputError(f"head.width={self.width}: the head {self.kind} has no width of its own: leave it out")
