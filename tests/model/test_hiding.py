"""Masks that hide whole modalities."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmae.config.schema import ModelConfig
from mmae.modalities import MODALITIES
from mmae.model.masking import plan_masks, plan_masks_without
from mmae.model.mmae import MultiMAE
from mmae.variants import Variant

CONFIG = ModelConfig(input_size=(16, 24), num_encoded_tokens=7, decoder_dim=16, decoder_depth=1, decoder_num_heads=2)
"""2 x 3 tokens a modality, 36 in all."""

INPUTS = CONFIG.in_domains
KEYS = torch.arange(5) * 7919


def places(*names: str) -> torch.Tensor:
    """Bool (N,): the tokens of some modalities."""
    of_token = [name for name in INPUTS for _ in range(CONFIG.tokens_per_modality)]
    return torch.tensor([name in names for name in of_token])


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(
    hidden=st.lists(st.sampled_from(INPUTS), max_size=4, unique=True),
    valid_share=st.sampled_from([0.0, 0.2, 1.0]),
    exact=st.booleans(),
    subset=st.booleans(),
    seed=st.integers(0, 99),
)
def test_no_hidden_token_is_ever_visible(
    hidden: list[str], valid_share: float, exact: bool, subset: bool, seed: int
) -> None:
    config = replace(CONFIG, paper_exact=exact, sample_tasks_uniformly=subset, alphas=(0.3, 1.0, 2.0, 1.0, 0.5, 1.0))
    valid_BN = torch.rand(5, config.num_tokens, generator=torch.Generator().manual_seed(seed)) < valid_share
    plan = plan_masks_without(hidden, valid_BN, KEYS, config)
    assert plan.keep_BK.shape == (5, config.num_encoded_tokens)
    assert plan.hidden_BN[:, places(*hidden)].all()
    assert ((~plan.hidden_BN).sum(1) == config.num_encoded_tokens).all()
    assert torch.equal(plan.keep_BK, plan.keep_BK.sort(dim=1).values)
    no_data_B = (~valid_BN).gather(1, plan.keep_BK).sum(1)
    assert torch.equal(plan.filled_B, torch.zeros_like(no_data_B) if exact else no_data_B)
    if not exact:
        # Filled up only where the others' data does not suffice.
        enough_B = valid_BN[:, ~places(*hidden)].sum(1) >= config.num_encoded_tokens
        assert (plan.filled_B[enough_B] == 0).all()


@pytest.mark.parametrize("alphas", [0.4, (0.3, 1.0, 2.0, 1.0, 0.5, 1.0)])
def test_nothing_hidden_is_validation_s_own_masks(alphas: float | tuple[float, ...]) -> None:
    config = replace(CONFIG, alphas=alphas)
    valid_BN = torch.rand(5, config.num_tokens, generator=torch.Generator().manual_seed(0)) < 0.7
    with_none, own = plan_masks_without((), valid_BN, KEYS, config), plan_masks(valid_BN, KEYS, config)
    assert torch.equal(with_none.keep_BK, own.keep_BK)
    assert torch.equal(with_none.hidden_BN, own.hidden_BN)
    assert torch.equal(with_none.filled_B, own.filled_B)


def test_every_token_of_the_others_is_visible_where_just_so_many_are_asked_for() -> None:
    config = replace(CONFIG, num_encoded_tokens=6)
    hidden = [name for name in INPUTS if name != "ired"]
    plan = plan_masks_without(hidden, torch.ones(2, 36, dtype=torch.bool), KEYS[:2], config)
    assert torch.equal(plan.hidden_BN, ~places("ired").expand(2, -1))


def values(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name in INPUTS:
        row = MODALITIES[name]
        size = [side // row.stride for side in CONFIG.image_hw]
        if row.categorical:
            made[name] = torch.randint(row.num_classes, (5, *size), generator=generator)
        else:
            made[name] = torch.randn(5, len(row.bands), *size, generator=generator)
    return made


@pytest.mark.parametrize("hidden", [("depth",), ("depth", "semseg"), ("rgb", "ired", "semseg")])
def test_hidden_pixels_do_not_reach_any_prediction(hidden: tuple[str, ...]) -> None:
    model = MultiMAE(CONFIG, Variant(dim=16, depth=2, num_heads=2, mlp_dim=32)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    plan = plan_masks_without(hidden, torch.ones(5, 36, dtype=torch.bool), KEYS, CONFIG)
    given, others = values(1), values(2)
    changed = given | {name: others[name] for name in hidden}
    with torch.no_grad():
        first, second = model(given, plan), model(changed, plan)
        shown = model(given | {"sired": others["sired"]}, plan)
    for name, patches in first.patches.items():
        assert torch.equal(patches, second.patches[name])
        assert not torch.equal(patches, shown.patches[name])
