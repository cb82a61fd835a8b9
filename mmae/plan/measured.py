"""Measured figures, each with its conditions. They stand in mmae/bench/README.md too."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from mmae.config.schema import TrainConfig
from mmae.model.counts.peak_flops import DENSE_BF16, MEMORY_BANDWIDTH

PEAK_TFLOPS: Final = DENSE_BF16["H100"] / 1e12
"""Peak of an H100 SXM in bf16 and fp16, dense, by its datasheet. The utilisations below are shares of it."""

PEAK_MEMORY_TB: Final = MEMORY_BANDWIDTH["H100"] / 1e12
"""TB/s of its memory."""


@dataclass(frozen=True)
class Utilisation:
    """Model FLOPs utilisation of whole training steps on one H100 80GB, bf16, ZeRO-1, without recomputation.

    Attributes:
        size: the encoder's size.
        micro_batch: the measured one.
        eager: a share of `PEAK_TFLOPS`.
        compiled: with `train.compile`.
    """

    size: str
    micro_batch: int
    eager: float
    compiled: float


_BASE = Utilisation("base", 2048, 0.216, 0.277)
_LARGE = Utilisation("large", 1024, 0.300, 0.376)
_HUGE = Utilisation("huge", 512, 0.311, 0.379)

UTILISATIONS: Final = MappingProxyType({
    "nano": _BASE, "micro": _BASE, "tiny": _BASE, "small": _BASE, "base": _BASE,
    "large": _LARGE, "huge": _HUGE, "giant": _HUGE, "gigantic": _HUGE,
})  # fmt: skip
"""The nearest measured size for each size."""

HOST_SECONDS_A_BLOCK: Final = MappingProxyType({False: 512 / 5494 / 12, True: 512 / 6470 / 12})
"""Of the host, for each encoder block of a micro-batch, eager and compiled: below a micro-batch of about 512 it sets
the pace. From vit_b (12 blocks) at micro-batch 512: 5 494 and 6 470 tiles/s."""

RECOMPUTED_TIME: Final = MappingProxyType({False: 3187 / 2630, True: 1952 / 1520})
"""Time of a step that recomputes all blocks, divided by one that does not: vit_l eager, and vit_h compiled."""

SELECTIVE_TIME: Final = 1.10
"""The same for selective recomputation: assumed, not measured."""

TILE_BYTES: Final = MappingProxyType({"small": 20.4e6 / 360, "fast": 29.7e6 / 360, "none": 97.5e6 / 360})
"""Bytes of a tile in shards by codec: 360 real tiles of 64 px with all 15 datasets."""

LOADER_TILES_PER_CORE: Final = MappingProxyType({"small": 5613.0, "fast": 11849.0})
"""Tiles/s of one loader process by codec: Sentinel-2, ASTER and WorldCover, files in the page cache."""


def utilisation(size: str, compiled: bool) -> float:
    """The measured utilisation of the nearest size."""
    known = UTILISATIONS[size]
    return known.compiled if compiled else known.eager


def slowdown(how: Literal["none", "selective", "full"], train: TrainConfig) -> float:
    """Time of a step with recomputation, divided by the time without."""
    match how:
        case "none":
            more = 0.0
        case "selective":
            more = SELECTIVE_TIME - 1
        case "full":
            more = RECOMPUTED_TIME[train.compile] - 1
    return 1 + more / train.checkpoint_blocks_every
