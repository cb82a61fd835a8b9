"""The one table of encoder sizes.

It stands beside `config` rather than in `model`, so that a recipe's size is checked and a run is
planned without importing torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True)
class Variant:
    """Width, depth and heads of a ViT encoder; `mlp_dim` is the hidden width of its MLPs."""

    dim: int
    depth: int
    num_heads: int
    mlp_dim: int

    def __post_init__(self) -> None:
        if self.dim % self.num_heads:
            raise ValueError(f"width {self.dim} is not divisible by {self.num_heads} heads")
        if self.dim % 4:
            raise ValueError(f"width {self.dim} is not divisible by 4, which sine-cosine positions need")


def _plain(dim: int, depth: int, num_heads: int) -> Variant:
    return Variant(dim, depth, num_heads, mlp_dim=4 * dim)


VARIANTS: Final = MappingProxyType(
    {
        # For tests, first trials and ladders of sizes; no published model has these two.
        "nano": _plain(64, 2, 2),
        "micro": _plain(128, 4, 2),
        "tiny": _plain(192, 12, 3),
        "small": _plain(384, 12, 6),
        "base": _plain(768, 12, 12),
        "large": _plain(1024, 24, 16),
        "huge": _plain(1280, 32, 16),
        # Zhai et al., "Scaling Vision Transformers" (CVPR 2022), table 2: MLP ratios 48/11 and 64/13 (below 5).
        "giant": Variant(1408, 40, 16, mlp_dim=6144),
        "gigantic": Variant(1664, 48, 16, mlp_dim=8192),
    }
)
