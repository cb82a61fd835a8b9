"""The labels of tiles: from the stored arrays, class ids at the modality's resolution and means over a tile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from mmae.data.transforms.labels import class_ids, class_table, reduce_labels
from mmae.data.transforms.validity import is_data, widen
from mmae.evaluate.frozen.parts import NO_LABEL
from mmae.modalities import MODALITIES, Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEAST_SHARE: Final = 0.5
"""Of a tile's pixels that must hold data, for their mean to be the tile's label."""


def labels_of(name: str, pixels: Mapping[str, Tensor], patch_size: int) -> NDArray[np.generic]:
    """The labels of a batch of stored arrays.

    Args:
        name: a modality whose dataset is among `pixels`, (B, C, H, W) as stored.
        patch_size: of the encoder, in image pixels.

    Returns:
        Of a categorical modality, class ids int16 (B, h, w, Q): the Q label pixels of each patch, `NO_LABEL` where
        there is no data. Of another, the mean over a tile's valid pixels, float32 (B,), NaN where less than half of
        them hold data.
    """
    modality = MODALITIES[name]
    stored = pixels[modality.dataset]
    stored = widen(stored[:, list(modality.bands)], stored.dtype == torch.uint16)
    return _ids(modality, stored, patch_size) if modality.categorical else _means(modality, stored)


def _ids(modality: Modality, stored_B1HW: Tensor, patch_size: int) -> NDArray[np.generic]:
    ids = class_ids(stored_B1HW[:, 0], class_table(modality, stored_B1HW.device))
    # A patch that is smaller than a label pixel cannot be probed at the modality's own resolution.
    stride = modality.stride if patch_size % modality.stride == 0 else 1
    ids = reduce_labels(ids, stride, "majority", modality.no_data_class)
    ids = torch.where(ids == modality.no_data_class, NO_LABEL, ids)
    side = patch_size // stride
    batch, height, width = ids.shape
    cut = ids.view(batch, height // side, side, width // side, side).transpose(2, 3)
    return cut.reshape(batch, height // side, width // side, side * side).to(torch.int16).numpy()


def _means(modality: Modality, stored_BCHW: Tensor) -> NDArray[np.generic]:
    values, valid = stored_BCHW.flatten(1).double(), is_data(stored_BCHW, modality.no_data).flatten(1)
    mean_B = torch.where(valid, values, 0).sum(1) / valid.sum(1)
    return torch.where(valid.double().mean(1) >= _LEAST_SHARE, mean_B, torch.nan).float().numpy()


def month_of(date_N: NDArray[np.int32]) -> NDArray[np.float32]:
    """Sine and cosine of the month of dates yyyymmdd, float32 (N, 2), NaN where the date is unknown."""
    month_N = (date_N // 100 % 100).astype(np.float64)
    angle_N = np.where(date_N > 0, (month_N - 1) / 12 * 2 * np.pi, np.nan)
    return np.stack([np.sin(angle_N), np.cos(angle_N)], axis=1).astype(np.float32)
