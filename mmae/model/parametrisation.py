"""How initial weights and learning rates follow the encoder's width.

`standard` gives every matrix Xavier's bound and the same learning rate: the best rate then falls as an encoder grows.
`mup` is the maximal update parametrisation for Adam (Yang et al., "Tensor Programs V: Tuning Large Neural Networks via
Zero-Shot Hyperparameter Transfer", NeurIPS 2021, table 8): each layer's output moves by the same amount in a step
whatever the width, and the best rate stays where it is. Both are the same at the width of `base`.

Only initial weights and rates differ, never what the model computes, so that other tools load both. The paper also
scales attention by 1/e instead of e^-0.5; heads are 64 wide in most sizes, so that this would change little.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, Literal

from mmae.variants import VARIANTS, Variant

BASE: Final = VARIANTS["base"]

_OF_BLOCK: Final = re.compile(r"(.+\.)?encoder\.blocks\.\d+\.(attn|mlp)\.\w+")
_TO_DECODERS: Final = re.compile(r"(.+\.)?decoders\.proj_context")
_TO_TOKENS: Final = re.compile(r"(.+\.)?tokenizer\.adapters\.\w+\.proj")


@dataclass(frozen=True)
class Parametrisation:
    """What a matrix starts from and how fast it learns, by the name of its module.

    Attributes:
        kind: `model.parametrisation`.
        variant: the encoder's size.
    """

    kind: Literal["standard", "mup"]
    variant: Variant

    def bound(self, module: str, fan_in: int, fan_out: int) -> float:
        """Initial weights are uniform in +-bound: Glorot and Bengio (AISTATS 2010), eq. 16, or what mup makes of it."""
        if self.kind == "mup" and _TO_TOKENS.fullmatch(module):
            # It reads pixels: its scale must not know how wide the encoder is.
            return _xavier(fan_in, BASE.dim)
        if self.kind == "mup" and _TO_DECODERS.fullmatch(module):
            # It writes to a fixed width, as an output layer does: the scale falls as 1/width, not as width^-0.5.
            return _xavier(BASE.dim, fan_out) * BASE.dim / fan_in
        return _xavier(fan_in, fan_out)

    def rate(self, parameter: str) -> float:
        """The parameter's learning rate as a share of `train.lr`."""
        module, _, leaf = parameter.rpartition(".")
        if self.kind == "standard" or leaf != "weight":
            return 1.0
        if _OF_BLOCK.fullmatch(module):
            second = module.endswith(".fc2")
            return BASE.mlp_dim / self.variant.mlp_dim if second else BASE.dim / self.variant.dim
        return BASE.dim / self.variant.dim if _TO_DECODERS.fullmatch(module) else 1.0


def _xavier(fan_in: int, fan_out: int) -> float:
    return math.sqrt(6.0 / (fan_in + fan_out))
