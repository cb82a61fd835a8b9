"""What heads read: token maps of one or several encoder blocks, all modalities of a patch as one token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmae.model.encoder import EncoderModel
from mmae.model.features import Features, block_number, features_of_blocks


class BlockOutputs(NamedTuple):
    """The encoder's output as heads take it.

    Attributes:
        maps: of each block (B, D, h, w): the mean of the tokens that modalities have in a patch, 0 where none has.
        global_tokens: of each block (B, G, D); G may be 0.
        weight_Bhw: how many modalities have data in each patch, any real dtype or bool; None: all patches count the
            same.
    """

    maps: tuple[Tensor, ...]
    global_tokens: tuple[Tensor, ...]
    weight_Bhw: Tensor | None = None

    def pooled(self) -> Tensor:
        """The mean of all tokens with data, (B, D), of the last block given; 0 for a tile without any."""
        map_BDhw = self.maps[-1]
        # Sums of many tokens lose digits in bfloat16.
        if self.weight_Bhw is None:
            return map_BDhw.mean((2, 3), dtype=torch.float32).to(map_BDhw.dtype)
        weight_B1hw = self.weight_Bhw[:, None].float()
        sum_BD = (map_BDhw * weight_B1hw).sum((2, 3), dtype=torch.float32)
        return (sum_BD / weight_B1hw.sum((2, 3)).clamp(min=1)).to(map_BDhw.dtype)


def block_outputs(
    model: EncoderModel,
    values: Mapping[str, Tensor],
    mask: Mapping[str, Tensor] | None = None,
    blocks: Sequence[int | None] = (None,),
    draws_B2: Tensor | None = None,
) -> BlockOutputs:
    """Encode a batch, in one pass for all blocks. Gradients flow.

    Args:
        model, values, mask: as in `mmae.features`; a patch that the mask hides of a modality counts as without data.
        blocks: numbers of blocks, from 0 or from the end; None: the last. A block may be named twice.
        draws_B2: see `Encoder.encode_blocks`; for training.

    Raises:
        ValueError: as `mmae.features`.
    """
    numbers = [block_number(model, block) for block in blocks]
    found = features_of_blocks(model, values, mask, numbers, draws_B2)
    weight_Bhw = None if mask is None else _weight(found[numbers[0]], mask)
    maps = {number: _mean_map(each, weight_Bhw) for number, each in found.items()}
    return BlockOutputs(
        tuple(maps[number] for number in numbers), tuple(found[number].global_tokens for number in numbers), weight_Bhw
    )


def _weight(found: Features, mask: Mapping[str, Tensor]) -> Tensor:
    """(B, h, w) int64."""
    first_BhwD = next(iter(found.maps.values()))
    shape, everywhere = first_BhwD.shape[:3], torch.ones((), dtype=torch.bool, device=first_BhwD.device)
    shown = [mask[name].to(first_BhwD.device).view(shape) if name in mask else everywhere for name in found.maps]
    return torch.stack([each.expand(shape) for each in shown]).sum(0)


def _mean_map(found: Features, weight_Bhw: Tensor | None) -> Tensor:
    """(B, D, h, w)."""
    maps_MBhwD = torch.stack(tuple(found.maps.values()))
    # A hidden token's place holds 0.
    map_BhwD = (
        maps_MBhwD.mean(0)
        if weight_Bhw is None
        else maps_MBhwD.sum(0) / weight_Bhw.clamp(min=1)[..., None].to(maps_MBhwD.dtype)
    )
    return map_BhwD.permute(0, 3, 1, 2)
