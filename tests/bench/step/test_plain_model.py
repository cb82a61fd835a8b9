"""The plain model that the bench compares with computes the same as the fast one."""

from __future__ import annotations

import torch

from mmae.bench.step.plain_model import PlainMultiMAE
from mmae.config.schema import ModelConfig
from mmae.modalities import MODALITIES
from mmae.model.masking import plan_masks
from mmae.model.mmae import MultiMAE
from mmae.model.published.weights import to_published
from mmae.variants import Variant

VARIANT = Variant(dim=32, depth=2, num_heads=4, mlp_dim=80)
CONFIG = ModelConfig(input_size=(16, 32), num_encoded_tokens=10, decoder_dim=16, decoder_depth=1, decoder_num_heads=2)


def values(batch: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    made = {}
    for name in CONFIG.domains:
        row = MODALITIES[name]
        size = [side // row.stride for side in CONFIG.image_hw]
        if row.categorical:
            made[name] = torch.randint(row.num_classes, (batch, *size), generator=generator)
        else:
            made[name] = torch.randn(batch, len(row.bands), *size, generator=generator)
    return made


def test_it_predicts_the_same_as_the_fast_model() -> None:
    fast, plain = MultiMAE(CONFIG, VARIANT), PlainMultiMAE(CONFIG, VARIANT)
    with torch.no_grad():
        for parameter in fast.parameters():
            parameter.normal_(std=0.2)
    published = to_published(fast.state_dict(), CONFIG, VARIANT)
    plain.load_state_dict({name: tensor for name, tensor in published.items() if not name.endswith("pos_emb")})
    plan = plan_masks(torch.ones(3, CONFIG.num_tokens, dtype=torch.bool), torch.arange(3), CONFIG)
    ours, theirs = fast(values(3), plan), plain(values(3), plan)
    torch.testing.assert_close(ours.encoded_BLD, theirs.encoded_BLD, rtol=1e-4, atol=1e-5)
    assert ours.patches.keys() == theirs.patches.keys()
    for name, patches in ours.patches.items():
        torch.testing.assert_close(patches, theirs.patches[name], rtol=1e-4, atol=1e-4)
