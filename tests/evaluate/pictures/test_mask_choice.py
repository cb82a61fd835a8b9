"""Chosen masks."""

from __future__ import annotations

import pytest
import torch

from mmae.draws import VALIDATION_EPOCH
from mmae.errors import InputError
from mmae.evaluate.pictures.mask_choice import MaskChoice, parse_shares
from mmae.model.masking import plan_masks
from tests.support.tile_rows import CONFIG

TOKENS = CONFIG.model.tokens_per_modality
DOMAINS = CONFIG.model.in_domains


def valid_tokens() -> torch.Tensor:
    valid = torch.ones(1, TOKENS * len(DOMAINS), dtype=torch.bool)
    valid[0, :6] = False
    return valid


def seen(choice: MaskChoice) -> dict[str, int]:
    plan = choice.plan(valid_tokens(), torch.tensor([5]), CONFIG.model)
    shown_MN = ~plan.hidden_BN.view(len(DOMAINS), TOKENS)
    assert plan.keep_BK.shape[1] == int(shown_MN.sum())
    return dict(zip(DOMAINS, shown_MN.sum(1).tolist(), strict=True))


def test_the_first_mask_is_that_of_validation() -> None:
    key = torch.tensor([5])
    plan, expected = MaskChoice().plan(valid_tokens(), key, CONFIG.model), plan_masks(valid_tokens(), key, CONFIG.model)
    assert torch.equal(plan.hidden_BN, expected.hidden_BN)
    assert (MaskChoice().epoch, MaskChoice(3).epoch) == (VALIDATION_EPOCH, VALIDATION_EPOCH - 3)


def test_a_picture_says_which_patches_are_seen() -> None:
    assert MaskChoice().in_words == "the masks of validation"
    assert MaskChoice(2, hidden=("depth",)).in_words == "random mask 2, hidden: depth"
    assert MaskChoice(shares={"rgb": 0.5, "depth": 1.0}).in_words == "seen: 50% of rgb, 100% of depth"


def test_hidden_modalities_are_not_seen() -> None:
    counts = seen(MaskChoice(hidden=("rgb", "semseg")))
    assert counts["rgb"] == counts["semseg"] == 0
    assert sum(counts.values()) == CONFIG.model.num_encoded_tokens


def test_shares_are_of_the_patches_with_data() -> None:
    assert seen(MaskChoice(shares={"rgb": 0.5, "depth": 1.0})) == {
        "rgb": (TOKENS - 6) // 2, "depth": TOKENS, "semseg": 0, "sired": 0
    }  # fmt: skip
    with pytest.raises(InputError, match="no data in what is to be seen"):
        seen(MaskChoice(shares={"rgb": 0.0}))


def test_shares_are_read() -> None:
    assert parse_shares("rgb=0.5, depth", DOMAINS) == {"rgb": 0.5, "depth": 1.0}
    for said, message in (("rbg=1", "did you mean 'rgb'"), ("rgb=2", "not a share"), ("rgb=x", "not a share")):
        with pytest.raises(InputError, match=message):
            parse_shares(said, DOMAINS)
