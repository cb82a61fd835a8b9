"""Class codes to class ids, and label maps to their stride: by picking or by vote, never by interpolation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from mmae.modalities import Modality

Reduction = Literal["nearest", "majority"]


def class_table(modality: Modality, device: torch.device) -> Tensor:
    """Class id of every code from -1 to one above the largest, int64. A code without a class has the no-data id."""
    codes = modality.class_codes
    table = torch.full((max(codes) + 3,), modality.no_data_class, dtype=torch.int64)
    table[torch.tensor(codes) + 1] = torch.arange(len(codes))
    return table.to(device)


def class_ids(codes_BHW: Tensor, table: Tensor) -> Tensor:
    """Stored codes (integers, widened) to class ids, int64 (B, H, W). Codes beyond the table's ends are no data."""
    return table[codes_BHW.to(torch.int64).clamp(-1, len(table) - 2) + 1]


def reduce_labels(ids_BHW: Tensor, stride: int, reduction: Reduction, no_data_class: int) -> Tensor:
    """Class ids at `stride` times fewer pixels a side, int64 (B, H / stride, W / stride).

    `nearest` picks the pixel at index stride // 2 of each block. `majority` picks the most frequent class
    among the block's pixels with data: the lowest id of equals, the no-data class where no pixel has data.
    """
    if reduction == "nearest":
        return ids_BHW[:, stride // 2 :: stride, stride // 2 :: stride]
    size, height, width = ids_BHW.shape
    blocks = ids_BHW.view(size, height // stride, stride, width // stride, stride)
    votes_Bhwv = blocks.transpose(2, 3).flatten(3)
    class_c = torch.arange(no_data_class, device=ids_BHW.device)
    count_Bhwc = (votes_Bhwv[..., None] == class_c).sum(3)
    # The score includes the class id, so that there are no ties, for which argmax guarantees no winner.
    winner_Bhw = (count_Bhwc * no_data_class - class_c).argmax(-1)
    return torch.where(count_Bhwc.sum(-1) > 0, winner_Bhw, no_data_class)
