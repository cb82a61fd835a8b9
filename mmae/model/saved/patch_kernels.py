"""Kernels of patch projections for other bands and other patch sizes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def for_bands(kernel_DCpp: Tensor, old: Sequence[str], new: Sequence[str]) -> Tensor:
    """A kernel for the bands `new`, from one for the bands `old`.

    A band that was there keeps its part, another gets the mean of all parts; all are scaled by old / new count, so that
    tokens keep their magnitude. With the same bands in any order nothing is scaled.
    """
    mean_D1pp = kernel_DCpp.mean(dim=1, keepdim=True)
    parts = [kernel_DCpp[:, old.index(name)][:, None] if name in old else mean_D1pp for name in new]
    joined_DCpp = torch.cat(parts, dim=1)
    return joined_DCpp if len(old) == len(new) else joined_DCpp * (len(old) / len(new))


def for_patch(kernel_DCpp: Tensor, side: int) -> Tensor:
    """A kernel for patches of another side, whose tokens of an enlarged patch are those of the patch.

    Beyer et al., "FlexiViT: One Model for All Patch Sizes" (CVPR 2023), section 3.4: the pseudo-inverse of bilinear
    resizing. For smaller patches it is the best in the mean.
    """
    from timm.layers.patch_embed import resample_patch_embed

    if kernel_DCpp.shape[-1] == side:
        return kernel_DCpp
    resized_DCpp: Tensor = resample_patch_embed(kernel_DCpp, [side, side], interpolation="bilinear", antialias=True)
    return resized_DCpp
