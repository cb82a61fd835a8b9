"""Samples mixed with a partner, and rectangles erased. Every draw depends on the sample's own key only.

Zhang et al., "mixup" (ICLR 2018); Yun et al., "CutMix" (ICCV 2019); Zhong et al., "Random Erasing" (AAAI 2020).
Rectangles consist of whole patches, so that modalities of every resolution are cut at the same places.
Shape suffixes: g patches of a side of the grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch

from mmae.data.transforms.validity import token_valid
from mmae.draws import Stream, uniform
from mmae.errors import InputError
from mmae.finetune.labelled.tuning_samples import Samples
from mmae.modalities import MODALITIES
from mmae.model.dirichlet import beta_shares

if TYPE_CHECKING:
    from torch import Tensor

    from mmae.config.finetune_schema import TuneTrainConfig
    from mmae.types import Inputs

_ERASED: Final = (0.02, 1 / 3)
"""Least and largest share of the image that is erased."""
_BETA_DRAWS: Final = 128
"""Draws of a key's stream that the share of mixing may take: those of places come after them."""


@dataclass(frozen=True)
class Mixed:
    """Samples after mixing.

    Attributes:
        samples: inputs, and the labels that count with the share `share_B`.
        others: the partners' labels, which count with the rest; None: nothing was mixed.
        share_B: float32; 1 throughout where nothing was mixed.
    """

    samples: Samples
    others: Tensor | None
    share_B: Tensor


def check_mixing(config: TuneTrainConfig, inputs: Sequence[str]) -> None:
    """Refuse mixup of inputs that cannot be mixed.

    Raises:
        InputError: an input holds classes.
    """
    classes = [name for name in inputs if MODALITIES[name].categorical]
    if config.mixup and classes:
        raise InputError(
            f"train.mixup mixes numbers, and the inputs {', '.join(classes)} hold classes: leave them out of "
            "model.in_domains, or use train.cutmix"
        )


def augmented(samples: Samples, config: TuneTrainConfig, patch_size: int, mixes: bool) -> Mixed:
    """Samples of a training step, mixed and erased as the recipe says.

    Args:
        mixes: the second half of the samples are the partners of the first.
    """
    if not mixes:
        mixed = Mixed(samples, None, torch.ones(len(samples.labels), device=samples.labels.device))
    else:
        half = len(samples.labels) // 2
        own, partners = _part(samples, slice(0, half)), _part(samples, slice(half, None))
        mixed = (
            _mixup(own, partners, config.mixup) if config.mixup else _cutmix(own, partners, config.cutmix, patch_size)
        )
    if config.random_erase:
        erased = _erase(mixed.samples.inputs, config.random_erase, patch_size)
        mixed = replace(mixed, samples=replace(mixed.samples, inputs=erased))
    return mixed


def _part(samples: Samples, some: slice) -> Samples:
    inputs = samples.inputs
    return Samples(
        replace(
            inputs,
            values={name: each[some] for name, each in inputs.values.items()},
            valid={name: each[some] for name, each in inputs.valid.items()},
            token_valid={name: each[some] for name, each in inputs.token_valid.items()},
            key_B=inputs.key_B[some],
            real_B=inputs.real_B[some],
        ),
        samples.labels[some],
    )


def _mixup(own: Samples, partners: Samples, alpha: float) -> Mixed:
    share_B = beta_shares(own.inputs.key_B, alpha, Stream.MIX).to(torch.float32)
    share_B111 = share_B[:, None, None, None]
    values = {
        name: torch.lerp(partners.inputs.values[name], each, share_B111) for name, each in own.inputs.values.items()
    }
    valid = {name: each | partners.inputs.valid[name] for name, each in own.inputs.valid.items()}
    tokens = {name: each | partners.inputs.token_valid[name] for name, each in own.inputs.token_valid.items()}
    inputs = replace(own.inputs, values=values, valid=valid, token_valid=tokens)
    return Mixed(Samples(inputs, own.labels), partners.labels, share_B)


def _cutmix(own: Samples, partners: Samples, alpha: float, patch_size: int) -> Mixed:
    key_B = own.inputs.key_B
    area_B = 1 - beta_shares(key_B, alpha, Stream.MIX).to(torch.float32)
    place_B2 = uniform(key_B, Stream.MIX, _BETA_DRAWS + 2)[:, -2:]
    cut_Bgg = _rectangles(area_B, torch.ones_like(area_B), place_B2, _grid(own.inputs, patch_size))
    inputs = _pasted(own.inputs, partners.inputs, cut_Bgg, patch_size)
    share_B = 1 - cut_Bgg.to(torch.float32).mean((1, 2))
    if own.labels.dim() < 3:
        return Mixed(Samples(inputs, own.labels), partners.labels, share_B)
    cut_BHW = _at_pixels(cut_Bgg, patch_size)
    cut = cut_BHW if own.labels.dim() == 3 else cut_BHW[:, None]
    return Mixed(Samples(inputs, torch.where(cut, partners.labels, own.labels)), None, torch.ones_like(share_B))


def _pasted(own: Inputs, other: Inputs, cut_Bgg: Tensor, patch_size: int) -> Inputs:
    values, valid = {}, {}
    for name in own.values:
        cut_Bhw = _at_pixels(cut_Bgg, MODALITIES[name].patch(patch_size))
        cut = cut_Bhw if MODALITIES[name].categorical else cut_Bhw[:, None]
        values[name] = torch.where(cut, other.values[name], own.values[name])
        valid[name] = torch.where(cut, other.valid[name], own.valid[name])
    tokens = {name: token_valid(each, MODALITIES[name].patch(patch_size)) for name, each in valid.items()}
    return replace(own, values=values, valid=valid, token_valid=tokens)


def _erase(inputs: Inputs, chance: float, patch_size: int) -> Inputs:
    """Erased patches hold 0, or no class. The encoder still sees their tokens."""
    draw_B5 = uniform(inputs.key_B, Stream.ERASE, 5)
    area_B = _ERASED[0] + (_ERASED[1] - _ERASED[0]) * draw_B5[:, 1]
    # Ratio of the sides from 0.3 to 1 / 0.3, as often below 1 as above it.
    ratio_B = torch.exp((2 * draw_B5[:, 2] - 1) * 1.2)
    cut_Bgg = _rectangles(area_B, ratio_B, draw_B5[:, 3:], _grid(inputs, patch_size))
    cut_Bgg &= (draw_B5[:, 0] < chance)[:, None, None]
    values = {}
    for name, each in inputs.values.items():
        row = MODALITIES[name]
        cut_Bhw = _at_pixels(cut_Bgg, row.patch(patch_size))
        cut, nothing = (cut_Bhw, row.no_data_class) if row.categorical else (cut_Bhw[:, None], 0)
        values[name] = torch.where(cut, nothing, each)
    return replace(inputs, values=values)


def _grid(inputs: Inputs, patch_size: int) -> tuple[int, int]:
    name, values = next(iter(inputs.values.items()))
    side = MODALITIES[name].patch(patch_size)
    return values.shape[-2] // side, values.shape[-1] // side


def _rectangles(area_B: Tensor, ratio_B: Tensor, place_B2: Tensor, grid_gg: tuple[int, int]) -> Tensor:
    """Rectangles of whole patches, bool (B, g, g).

    Args:
        area_B: their shares of the image, which whole patches meet as nearly as they can.
        ratio_B: height over width.
        place_B2: where they lie, from 0 to 1 in each direction.
    """
    inside: list[Tensor] = []
    for axis, (side, stretch_B) in enumerate(zip(grid_gg, (ratio_B, 1 / ratio_B), strict=True)):
        length_B = (side * (area_B * stretch_B).sqrt()).round().clamp(max=side)
        first_B = (place_B2[:, axis] * (side - length_B + 1)).floor()
        place_g = torch.arange(side, device=area_B.device)
        inside.append((place_g >= first_B[:, None]) & (place_g < (first_B + length_B)[:, None]))
    return inside[0][:, :, None] & inside[1][:, None, :]


def _at_pixels(cut_Bgg: Tensor, side: int) -> Tensor:
    return cut_Bgg.repeat_interleave(side, 1).repeat_interleave(side, 2)
