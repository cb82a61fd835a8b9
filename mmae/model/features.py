"""The encoder for users: token maps of any of the model's modalities, at any image size; no decoder is needed.

model = mmae.load_model("model")
maps, global_tokens = features(model, {"rgb": rgb_BCHW, "semseg": ids_Bhw})
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmae.modalities import Modality
from mmae.model.encoder import EncoderModel
from mmae.terminal.plurals import counted

Grid = tuple[int, int]


class Features(NamedTuple):
    """The encoder's output for a batch.

    Attributes:
        maps: modality -> (B, h, w, D) over the grid of patches, in the model's order; 0 where a token was not visible.
        global_tokens: (B, G, D); G may be 0.
    """

    maps: dict[str, Tensor]
    global_tokens: Tensor


def features(
    model: EncoderModel,
    values: Mapping[str, Tensor],
    mask: Mapping[str, Tensor] | None = None,
    block: int | None = None,
) -> Features:
    """Encode a batch. Gradients flow; `torch.no_grad`, `model.eval` and autocast are the caller's.

    Args:
        model: only its tokenizer and encoder are used.
        values: any subset of the model's input modalities: normalised floats (B, C, H, W), or class ids (B, h, w) of
            an integer dtype at the modality's stride (H / 4 for `semseg`). H and W are any multiples of the patch
            size, the same for all; positions are those of that grid.
        mask: modality -> bool (B, h, w) or (B, n) over the grid of patches, True where the token is visible to the
            encoder; a modality that is not in it is visible. Hidden tokens are left out as in training, so tiles are
            encoded in groups of equal length, which waits for the device.
        block: the encoder block whose output is returned, counted from 0, or from the end if it is negative; None:
            the last.

    Returns:
        Token maps and global tokens, in the weights' dtype.

    Raises:
        ValueError: there is no modality or block, one is not of the model, or a shape or dtype does not fit.
    """
    number = block_number(model, block)
    return features_of_blocks(model, values, mask, (number,))[number]


def features_of_blocks(
    model: EncoderModel,
    values: Mapping[str, Tensor],
    mask: Mapping[str, Tensor] | None = None,
    blocks: Sequence[int | None] = (None,),
    draws_B2: Tensor | None = None,
) -> dict[int, Features]:
    """The output of several encoder blocks in one pass: block, counted from 0 -> its features, in ascending order.

    Args:
        model, values, mask: as in `features`.
        blocks: counted from 0, or from the end if they are negative; None: the last. At least one.
        draws_B2: see `Encoder.encode_blocks`; for training.

    Raises:
        ValueError: as `features`.
    """
    numbers = sorted({block_number(model, block) for block in blocks})
    names = _names(model, values)
    batch, grid_hw = _common_grid(model, names, values)
    tokens_BND = torch.cat([_tokens(model, name, values[name], grid_hw) for name in names], dim=1)
    if mask is None:
        outputs = model.encoder.encode_blocks(tokens_BND, numbers, draws_B2)
    else:
        visible_BN = torch.cat(_visible(names, mask, batch, grid_hw, tokens_BND.device), dim=1)
        outputs = _encode_visible(model, tokens_BND, visible_BN, numbers, draws_B2)
    found = [_features(encoded_BLD, names, grid_hw) for encoded_BLD in outputs]
    return dict(zip(numbers, found, strict=True))


def _features(encoded_BLD: Tensor, names: list[str], grid_hw: Grid) -> Features:
    maps_BND, global_BGD = encoded_BLD.tensor_split([len(names) * grid_hw[0] * grid_hw[1]], dim=1)
    maps = maps_BND.reshape(encoded_BLD.shape[0], len(names), *grid_hw, -1).unbind(1)
    return Features(dict(zip(names, maps, strict=True)), global_BGD)


def _encode_visible(
    model: EncoderModel, tokens_BND: Tensor, visible_BN: Tensor, numbers: Sequence[int], draws_B2: Tensor | None
) -> list[Tensor]:
    """All N places and the global tokens, (B, N + G, D), of each block: hidden places hold 0."""
    count = tokens_BND.shape[1]
    global_tokens = model.encoder.global_tokens
    length = count + (0 if global_tokens is None else len(global_tokens))
    outputs = [tokens_BND.new_zeros(tokens_BND.shape[0], length, tokens_BND.shape[2]) for _ in numbers]
    for tiles_b, keep_bK in groups_of_equal_length(visible_BN):
        if not keep_bK.shape[1] and length == count:
            continue
        visible_bKD = tokens_BND[tiles_b].gather(1, keep_bK[:, :, None].expand(-1, -1, tokens_BND.shape[-1]))
        draws_b2 = None if draws_B2 is None else draws_B2[tiles_b]
        places_G = torch.arange(count, length, device=keep_bK.device).expand(len(tiles_b), -1)
        places_bL = torch.cat([keep_bK, places_G], dim=1)
        for encoded_BLD, encoded_bLD in zip(
            outputs, model.encoder.encode_blocks(visible_bKD, numbers, draws_b2), strict=True
        ):
            encoded_BLD[tiles_b[:, None], places_bL] = encoded_bLD.to(encoded_BLD.dtype)
    return outputs


def groups_of_equal_length(visible_BN: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Tiles with equally many visible tokens: their places b in the batch, and the ids (b, K) of these tokens.

    Groups come by K, which may be 0. Waits for the device.
    """
    # Visible ones first, each kind in its order.
    order_BN = (~visible_BN).to(torch.uint8).argsort(dim=1, stable=True)
    kept_B = visible_BN.sum(dim=1)
    for kept in sorted(set(kept_B.tolist())):
        tiles_b = (kept_B == kept).nonzero()[:, 0]
        yield tiles_b, order_BN[tiles_b, :kept]


def block_number(model: EncoderModel, block: int | None) -> int:
    """A block's number from 0.

    Args:
        block: counted from 0, or from the end if it is negative; None: the last.

    Raises:
        ValueError: there is no such block.
    """
    depth = len(model.encoder.blocks)
    if block is None:
        return depth - 1
    if not -depth <= block < depth:
        raise ValueError(f"block {block} does not exist: this encoder has {depth}, 0 to {depth - 1}")
    return block % depth


def _names(model: EncoderModel, values: Mapping[str, Tensor]) -> list[str]:
    """The modalities given, in the model's order."""
    inputs = model.config.in_domains
    if not values:
        raise ValueError(f"no modality is given; this model's inputs are {', '.join(inputs)}")
    for name in values:
        if name not in inputs:
            raise ValueError(f"{name!r} is not an input of this model; its inputs are {', '.join(inputs)}")
    return [name for name in inputs if name in values]


def _common_grid(model: EncoderModel, names: list[str], values: Mapping[str, Tensor]) -> tuple[int, Grid]:
    """Batch size and grid of patches, which all modalities share."""
    batch, first, grid_hw = -1, "", (0, 0)
    for name in names:
        value = values[name]
        grid = _grid(model.tokenizer.table[name], value, model.config.patch_size)
        if not first:
            batch, first, grid_hw = value.shape[0], name, grid
        elif value.shape[0] != batch:
            raise ValueError(f"{name} holds {counted(value.shape[0], 'tile')}, {first} {batch}")
        elif grid != grid_hw:
            raise ValueError(f"{name} has {grid[0]}x{grid[1]} patches, {first} {grid_hw[0]}x{grid_hw[1]}: same places?")
    return batch, grid_hw


def _grid(modality: Modality, value: Tensor, patch_size: int) -> Grid:
    name, shape = modality.name, tuple(value.shape)
    if modality.categorical:
        if len(shape) != 3 or value.is_floating_point() or value.dtype == torch.bool:
            raise ValueError(f"{name} holds class ids, integers of shape (B, h, w); got {value.dtype} of {shape}")
    elif len(shape) != 4 or shape[1] != len(modality.bands) or not value.is_floating_point():
        bands = ", ".join(modality.band_names)
        raise ValueError(
            f"{name} holds normalised floats of shape (B, {len(modality.bands)}, H, W), bands {bands}; "
            f"got {value.dtype} of {shape}"
        )
    side = modality.patch(patch_size)
    height, width = shape[-2:]
    if not shape[0] or not height or not width or height % side or width % side:
        raise ValueError(f"{name} of shape {shape} does not divide into patches of {side}x{side} of its pixels")
    return height // side, width // side


def _tokens(model: EncoderModel, name: str, value: Tensor, grid_hw: Grid) -> Tensor:
    value = value.long() if model.tokenizer.table[name].categorical else value
    tokens_BnD: Tensor = model.tokenizer.adapters[name](value, grid_hw)
    return tokens_BnD


def _visible(
    names: list[str], mask: Mapping[str, Tensor], batch: int, grid_hw: Grid, device: torch.device
) -> list[Tensor]:
    """Which tokens are visible, bool (B, n) a modality."""
    for name in mask:
        if name not in names:
            raise ValueError(f"the mask names {name!r}, but values hold {', '.join(names)}")
    places = grid_hw[0] * grid_hw[1]
    visible = []
    for name in names:
        part = mask.get(name)
        if part is None:
            part = torch.ones(batch, places, dtype=torch.bool, device=device)
        elif part.dtype != torch.bool or tuple(part.shape) not in {(batch, *grid_hw), (batch, places)}:
            raise ValueError(
                f"the mask of {name} is bool of shape {(batch, *grid_hw)} or {(batch, places)}, True where visible; "
                f"got {part.dtype} of {tuple(part.shape)}"
            )
        visible.append(part.to(device).view(batch, places))
    return visible
