"""From options to a head with initial weights."""

from __future__ import annotations

import torch

from mmae.model.heads.attention_head import AttentionHead
from mmae.model.heads.convnext_head import ConvNextHead
from mmae.model.heads.dpt import DptHead
from mmae.model.heads.head import EncoderShape, Head
from mmae.model.heads.head_options import HeadOptions
from mmae.model.heads.linear_heads import LinearHead, PatchLinearHead
from mmae.model.heads.upernet import UPerNetHead


def build_head(options: HeadOptions, encoder: EncoderShape, outputs: int, seed: int = 0) -> Head:
    """A head on the CPU, or on the device of a surrounding `torch.device`.

    Args:
        outputs: classes, or numbers that are predicted.
        seed: of the initial weights; the surrounding generators are left alone.

    Raises:
        InputError: an option is not the kind's, or does not fit the encoder.
    """
    options.check()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _head(options, encoder, outputs)


def _head(options: HeadOptions, encoder: EncoderShape, outputs: int) -> Head:
    blocks, width = options.blocks_of(encoder.depth), options.channels
    match options.kind:
        case "linear":
            return LinearHead(blocks, encoder, outputs, options.pooling)
        case "attention":
            return AttentionHead(blocks, encoder, outputs)
        case "patch_linear":
            return PatchLinearHead(blocks, encoder, outputs)
        case "upernet":
            return UPerNetHead(blocks, encoder, outputs, width)
        case "convnext":
            return ConvNextHead(blocks, encoder, outputs, width)
        case "dpt":
            return DptHead(blocks, encoder, outputs, width)
