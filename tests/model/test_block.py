"""Our block and timm's, with the same weights."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from timm.models.vision_transformer import Block
from torch import nn

from mmae.model.block import EncoderBlock
from mmae.model.layers import NORM_EPS
from mmae.variants import VARIANTS, Variant


@pytest.mark.long
@pytest.mark.parametrize("variant", [VARIANTS["nano"], Variant(44, 1, 4, mlp_dim=192)])
def test_the_block_is_timm_s(variant: Variant) -> None:
    torch.manual_seed(0)
    ours = EncoderBlock(variant)
    ratio = (variant.mlp_dim + 0.5) / variant.dim
    norm = partial(nn.LayerNorm, eps=NORM_EPS)
    theirs = Block(variant.dim, variant.num_heads, mlp_ratio=ratio, qkv_bias=True, norm_layer=norm)
    for weight in theirs.parameters():
        nn.init.normal_(weight, std=0.3)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    # Optimisers and checkpoints number parameters in this order.
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    x_BLD = torch.randn(3, 11, variant.dim, requires_grad=True)
    expected = theirs(x_BLD)
    (theirs_gradient,) = torch.autograd.grad(expected.square().sum(), x_BLD)
    found = ours(x_BLD)
    (gradient,) = torch.autograd.grad(found.square().sum(), x_BLD)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, theirs_gradient, rtol=1e-4, atol=1e-3)
