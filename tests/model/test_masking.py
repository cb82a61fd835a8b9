from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmae.config.schema import ModelConfig
from mmae.draws import tile_keys
from mmae.modalities import MODALITIES
from mmae.model.dirichlet import dirichlet_shares
from mmae.model.masking import plan_from_ids, plan_masks

NAMES = tuple(MODALITIES)


def small(modalities: int, kept: int, **changes: object) -> ModelConfig:
    """3 x 4 tokens a modality."""
    fields = {"in_domains": NAMES[:modalities], "input_size": (24, 32), "num_encoded_tokens": kept, **changes}
    return ModelConfig(**fields)  # type: ignore[arg-type]


def keys(count: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(tile_keys(seed, 0, np.arange(count)))


def all_valid(batch: int, config: ModelConfig) -> Tensor:
    return torch.ones(batch, config.num_tokens, dtype=torch.bool)


def kept_by_modality(keep_BK: Tensor, config: ModelConfig) -> Tensor:
    seen = torch.zeros(len(keep_BK), config.num_tokens).scatter(1, keep_BK, 1.0)
    return seen.view(len(keep_BK), len(config.in_domains), -1).sum(2)


@st.composite
def cases(draw: st.DrawFn) -> tuple[ModelConfig, Tensor, Tensor]:
    modalities = draw(st.integers(1, 5))
    kept = draw(st.integers(1, 12 * modalities - 1))
    alphas = draw(st.sampled_from([1.0, 0.05, 0.5, 3.0]))
    config = small(modalities, kept, alphas=alphas, sample_tasks_uniformly=draw(st.booleans()))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    share = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    valid = torch.rand(4, config.num_tokens, generator=generator) < share
    valid[0] = False
    valid[1, :12] = False
    return config, valid, keys(4, seed=draw(st.integers(0, 1000)))


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(cases())
def test_a_plan_is_whole(case: tuple[ModelConfig, Tensor, Tensor]) -> None:
    config, valid_BN, key_B = case
    plan = plan_masks(valid_BN, key_B, config)
    assert plan.keep_BK.dtype == plan.filled_B.dtype == torch.int64
    assert plan.keep_BK.shape == (4, config.num_encoded_tokens)
    assert (plan.keep_BK.diff(dim=1) > 0).all()
    assert ((plan.keep_BK >= 0) & (plan.keep_BK < config.num_tokens)).all()
    assert torch.equal(plan.hidden_BN, torch.ones_like(valid_BN).scatter(1, plan.keep_BK, False))
    # Tokens without data are taken exactly where valid ones are too few.
    short = (config.num_encoded_tokens - valid_BN.sum(1)).clamp(min=0)
    assert torch.equal(plan.filled_B, short)
    assert torch.equal((~valid_BN).gather(1, plan.keep_BK).sum(1), short)
    for tile in range(4):
        alone = plan_masks(valid_BN[tile : tile + 1], key_B[tile : tile + 1], config)
        assert torch.equal(alone.keep_BK[0], plan.keep_BK[tile])


def test_a_tile_without_any_valid_token_is_filled_uniformly() -> None:
    config = small(2, 6)
    plan = plan_masks(torch.zeros(4000, 24, dtype=torch.bool), keys(4000), config)
    assert (plan.filled_B == 6).all()
    often = torch.bincount(plan.keep_BK.flatten(), minlength=24) / 4000
    assert (often - 0.25).abs().max() < 0.035


def test_one_modality_is_a_uniform_subset() -> None:
    config = small(1, 3)
    plan = plan_masks(all_valid(6000, config), keys(6000), config)
    pairs = torch.zeros(12, 12)
    for a, b in product(range(3), range(3)):
        pairs.index_put_((plan.keep_BK[:, a], plan.keep_BK[:, b]), torch.ones(()), accumulate=True)
    assert (pairs.diagonal() / 6000 - 3 / 12).abs().max() < 0.03
    off = pairs[~torch.eye(12, dtype=torch.bool)] / 6000
    assert (off - 6 / 132).abs().max() < 0.015


def test_an_absent_modality_is_never_seen() -> None:
    config = small(3, 8)
    valid = all_valid(500, config)
    valid[:, 12:24] = False
    plan = plan_masks(valid, keys(500), config)
    assert (kept_by_modality(plan.keep_BK, config)[:, 1] == 0).all()
    assert (plan.filled_B == 0).all()


def test_paper_exact_ignores_validity() -> None:
    config = small(3, 8)
    paper = replace(config, paper_exact=True)
    hidden = torch.zeros(50, config.num_tokens, dtype=torch.bool)
    plan = plan_masks(hidden, keys(50), paper)
    assert torch.equal(plan.keep_BK, plan_masks(all_valid(50, config), keys(50), config).keep_BK)
    assert (plan.filled_B == 0).all()


def test_counts_follow_the_shares_where_nothing_clamps() -> None:
    # Each count is rounded, then a cut or a filling of at most two tokens follows.
    config = small(4, 12)
    plan = plan_masks(all_valid(300, config), keys(300), config)
    shares = dirichlet_shares(keys(300), config.alphas_m, torch.ones(300, 4, dtype=torch.bool))
    assert (kept_by_modality(plan.keep_BK, config) - shares * 12).abs().max() < 3


def test_a_share_of_everything_takes_what_a_modality_has_and_fills_from_the_rest() -> None:
    # All weight on the first modality, which has 12 tokens of the 20 wanted.
    config = small(3, 20, alphas=(500.0, 0.001, 0.001))
    counts = kept_by_modality(plan_masks(all_valid(800, config), keys(800), config).keep_BK, config)
    assert (counts[:, 0] == 12).all()
    # The other 8 come uniformly from 24 tokens.
    assert abs(counts[:, 1].mean() - 4) < 0.2


def test_subsets_of_modalities_are_uniform() -> None:
    config = small(3, 4, sample_tasks_uniformly=True, alphas=50.0)
    counts = kept_by_modality(plan_masks(all_valid(7000, config), keys(7000), config).keep_BK, config)
    code = ((counts > 0).long() * torch.tensor([1, 2, 4])).sum(1)
    often = torch.bincount(code, minlength=8) / 7000
    assert often[0] == 0
    # With three chosen and only 4 tokens, none is left out: shares are all near a third.
    assert (often[1:] - 1 / 7).abs().max() < 0.02


def test_subsets_are_of_present_modalities() -> None:
    config = small(3, 4, sample_tasks_uniformly=True)
    valid = all_valid(300, config)
    valid[:, :12] = False
    counts = kept_by_modality(plan_masks(valid, keys(300), config).keep_BK, config)
    assert (counts[:, 0] == 0).all()
    assert ((counts[:, 1] == 4).sum() > 60) & ((counts[:, 2] == 4).sum() > 60)


@pytest.mark.long
@pytest.mark.parametrize("alphas", [(1.0,) * 4, (0.3, 1.0, 2.5, 0.05), (4.0, 4.0, 4.0, 4.0)])
def test_dirichlet_moments(alphas: tuple[float, ...]) -> None:
    count = 40_000
    shares = dirichlet_shares(keys(count), alphas, torch.ones(count, 4, dtype=torch.bool))
    alpha = torch.tensor(alphas, dtype=torch.float64)
    mean = alpha / alpha.sum()
    variance = mean * (1 - mean) / (alpha.sum() + 1)
    assert shares.dtype == torch.float64
    torch.testing.assert_close(shares.sum(1), torch.ones(count, dtype=torch.float64))
    assert ((shares.mean(0) - mean).abs() < 4.5 * (variance / count).sqrt()).all()
    torch.testing.assert_close(shares.var(0), variance, rtol=0.06, atol=0.0)
    covariance = -alpha[0] * alpha[1] / (alpha.sum() ** 2 * (alpha.sum() + 1))
    torch.testing.assert_close(torch.cov(shares.T)[0, 1], covariance, rtol=0.15, atol=2e-4)


def test_dirichlet_of_one_matches_general_sampler() -> None:
    count = 20_000
    every = torch.ones(count, 3, dtype=torch.bool)
    plain = dirichlet_shares(keys(count), (1.0, 1.0, 1.0), every)[:, 0].sort().values
    general = dirichlet_shares(keys(count), (1.0, 1.0, 1.0 + 1e-9), every)[:, 0].sort().values
    # Kolmogorov-Smirnov, two samples: 1.95 sqrt(2 / n) is passed once in a thousand.
    grid = torch.linspace(0, 1, 200, dtype=torch.float64)
    distance = (torch.searchsorted(plain, grid) - torch.searchsorted(general, grid)).abs().max() / count
    assert distance < 1.95 * (2 / count) ** 0.5


@pytest.mark.parametrize("alphas", [(1.0, 1.0, 1.0), (0.5, 2.0, 1.0), (6.0, 6.0, 6.0)])
def test_visible_tokens_follow_a_dirichlet(alphas: tuple[float, ...]) -> None:
    """Shares of the visible tokens against torch's own sampler, where no modality can run out of tokens."""
    count, kept = 2500, 60
    config = small(3, kept, input_size=(64, 64), alphas=alphas)
    plan = plan_masks(all_valid(count, config), keys(count), config)
    assert plan.keep_BK.shape == (count, kept)
    shares = kept_by_modality(plan.keep_BK, config).double() / kept
    torch.testing.assert_close(shares.sum(1), torch.ones(count, dtype=torch.float64))
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(0)
    reference = torch.distributions.Dirichlet(torch.tensor(alphas, dtype=torch.float64)).sample((100_000,))
    torch.random.set_rng_state(generator_state)
    error = 4.5 * (reference.var(0) / count).sqrt()
    assert ((shares.mean(0) - reference.mean(0)).abs() < error).all()
    # Rounding to whole tokens, and cutting or filling one, adds a variance below (1 / kept)^2.
    torch.testing.assert_close(torch.cov(shares.T), torch.cov(reference.T), rtol=0.12, atol=kept**-2)
    third = ((shares - shares.mean(0)) ** 3).mean(0) - ((reference - reference.mean(0)) ** 3).mean(0)
    assert (third.abs() < 0.25 * reference.var(0) ** 1.5).all()


def test_dirichlet_edges() -> None:
    chosen = torch.tensor([[False, False], [True, False], [True, True]])
    shares = dirichlet_shares(keys(3), (1e-4, 1e-4), chosen)
    assert torch.equal(shares[0], torch.zeros(2, dtype=torch.float64))
    assert torch.equal(shares[1], torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert shares.isfinite().all()


def test_plan_from_ids_keeps_the_order() -> None:
    keep = torch.tensor([[3, 0], [1, 2]])
    plan = plan_from_ids(keep, 4)
    assert torch.equal(plan.keep_BK, keep)
    assert plan.hidden_BN.tolist() == [[False, True, True, False], [True, False, False, True]]
    assert plan.filled_B.tolist() == [0, 0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_same_plan_on_a_gpu() -> None:
    config = small(5, 20, alphas=0.7, sample_tasks_uniformly=True)
    valid = torch.rand(2000, config.num_tokens, generator=torch.Generator().manual_seed(0)) < 0.7
    here, there = plan_masks(valid, keys(2000), config), plan_masks(valid.cuda(), keys(2000).cuda(), config)
    assert torch.equal(here.keep_BK, there.keep_BK.cpu())
    assert torch.equal(here.filled_B, there.filled_B.cpu())
