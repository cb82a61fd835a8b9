"""Which patches the model sees in a picture: validation's masks, other draws, and chosen shares of each modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmae.config.schema import ModelConfig
from mmae.draws import VALIDATION_EPOCH, Stream, bits
from mmae.errors import InputError, did_you_mean
from mmae.model.masking import plan_from_ids, plan_masks_without
from mmae.types import MaskPlan


@dataclass(frozen=True)
class MaskChoice:
    """How the patches are chosen that a model sees.

    Attributes:
        draw: 0 are validation's own masks, other numbers other random ones.
        hidden: input modalities of which no patch is seen.
        shares: input modality -> share of its patches with data that is seen, the others none; empty: the model's own
            number of patches, drawn as in training.
    """

    draw: int = 0
    hidden: tuple[str, ...] = ()
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        """The epoch from which tiles get the keys of their draws."""
        return VALIDATION_EPOCH - self.draw

    @property
    def name(self) -> str:
        """For names of files: `hide-depth-semseg`, `visible-rgb0.5`, `mask2`; empty for validation's masks."""
        hidden = ["hide", *self.hidden] if self.hidden else []
        shares = ["visible", *(f"{name}{share:g}" for name, share in self.shares.items())] if self.shares else []
        return "-".join([*hidden, *shares, *([f"mask{self.draw}"] if self.draw else [])])

    @property
    def in_words(self) -> str:
        """For a picture's head: which patches are seen."""
        said = f"random mask {self.draw}" if self.draw else "the masks of validation"
        if self.shares:
            of_each = (f"{share:.0%} of {name}" for name, share in self.shares.items())
            return f"seen: {', '.join(of_each)}" + (f" (random mask {self.draw})" if self.draw else "")
        return f"{said}, hidden: {', '.join(self.hidden)}" if self.hidden else said

    def plan(self, token_valid_BN: Tensor, key_B: Tensor, config: ModelConfig) -> MaskPlan:
        """The plan of one tile, B = 1 (tiles differ in the number of chosen patches).

        Raises:
            InputError: the tile has no data in what is to be seen.
        """
        if not self.shares:
            return plan_masks_without(self.hidden, token_valid_BN, key_B, config)
        tokens = config.tokens_per_modality
        random_BN = bits(key_B, Stream.MASK_WITHIN, token_valid_BN.shape[1])
        chosen: list[Tensor] = []
        for name, share in self.shares.items():
            first = config.in_domains.index(name) * tokens
            with_data = token_valid_BN[0, first : first + tokens].nonzero()[:, 0] + first
            order = random_BN[0, with_data].argsort(stable=True)
            chosen.append(with_data[order[: round(share * len(with_data))]])
        keep_K = torch.cat(chosen).sort().values
        if not len(keep_K):
            raise InputError("--visible: this tile has no data in what is to be seen: name another modality or tile")
        return plan_from_ids(keep_K[None], token_valid_BN.shape[1])


def parse_shares(said: str, in_domains: Sequence[str]) -> dict[str, float]:
    """The shares of `--visible rgb=0.5,depth=1`.

    Raises:
        InputError: not NAME=SHARE, no input of the model, or not between 0 and 1.
    """
    shares = {}
    for word in said.split(","):
        name, _, number = (part.strip() for part in word.partition("="))
        if name not in in_domains:
            raise InputError(f"--visible {said}: {name!r} is not an input of this run{did_you_mean(name, in_domains)}")
        try:
            share = float(number or "1")
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise InputError(f"--visible {said}: {number!r} is not a share: write {name}=0.5 for half of its patches")
        shares[name] = share
    return shares
