from __future__ import annotations

import pytest
import torch

from mmae.errors import InputError
from mmae.evaluate.frozen.token_vectors import (
    default_blocks,
    encoder_vectors,
    patch_vectors,
    pool,
    poolings_of,
    untrained,
)
from mmae.inference.raw_encoder import RawEncoder
from mmae.model.mmae import MultiMAE
from mmae.model.saved.saved_config import SavedModel
from mmae.types import Inputs
from mmae.variants import VARIANTS
from tests.support.raw_encoder_case import CONFIG, STATS


@pytest.fixture(scope="module")
def encoder() -> RawEncoder:
    return RawEncoder(MultiMAE(CONFIG, seed=0).eval(), SavedModel(CONFIG, VARIANTS["nano"], STATS, {}, ""))


@pytest.fixture(scope="module")
def given(encoder: RawEncoder) -> Inputs:
    dn = torch.randint(300, 4000, (3, 2, 56, 56), generator=torch.Generator().manual_seed(0))
    dn[1, :, :16] = 0
    return encoder.inputs(dn, bands=["B11", "B12"], level="l2a")


def test_vectors_are_those_of_the_encoder_itself(encoder: RawEncoder, given: Inputs) -> None:
    depth = encoder.saved.variant.depth
    found = encoder_vectors(encoder, given, (0, depth - 1), ("mean", "global"))
    assert set(found) == {(block, pooling) for block in (0, depth - 1) for pooling in ("mean", "global")}
    for (block, pooling), vector in found.items():
        alone = encoder.encode(given, pooling, block).vector  # type: ignore[arg-type]
        torch.testing.assert_close(vector, alone)


def test_a_patch_is_the_mean_of_its_tokens(encoder: RawEncoder, given: Inputs) -> None:
    encoded = encoder.encode(given, "mean", 1)
    found = patch_vectors(encoder, given, (1,))[1]
    torch.testing.assert_close(found, encoded.maps["sired"])
    assert torch.equal(found[1, :2], torch.zeros_like(found[1, :2]))


def test_pooling_counts_valid_tokens_only() -> None:
    tokens_BND = torch.tensor([[[1.0], [3.0], [100.0]], [[1.0], [1.0], [1.0]]])
    valid_BN = torch.tensor([[True, True, False], [False, False, False]])
    global_BGD = torch.tensor([[[4.0], [6.0]], [[0.0], [0.0]]])
    for pooling, wanted in (("mean", 2.0), ("max", 3.0), ("global", 5.0)):
        found = pool(tokens_BND, valid_BN, global_BGD, pooling)  # type: ignore[arg-type]
        assert found[0].item() == wanted
        assert found[1].isnan().all()


def test_the_blocks_that_are_tried() -> None:
    assert default_blocks(12) == (2, 5, 8, 11)
    assert default_blocks(2) == (0, 1)
    assert default_blocks(1) == (0,)
    assert poolings_of(0) == ("mean", "max")


def test_an_untrained_encoder_has_the_recipe_and_other_weights(encoder: RawEncoder, given: Inputs) -> None:
    fresh, again, other = (untrained(encoder, seed) for seed in (5, 5, 6))
    vectors = [encoder_vectors(each, given, (1,), ("mean",))[1, "mean"] for each in (encoder, fresh, again, other)]
    assert torch.equal(vectors[1], vectors[2])
    assert not torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[1], vectors[3])
    assert fresh.saved is encoder.saved
    for (name, drawn), kept in zip(fresh.model.named_parameters(), MultiMAE(CONFIG, seed=5).parameters(), strict=True):
        assert torch.equal(drawn, kept), name


def test_a_block_that_is_none_is_refused(encoder: RawEncoder, given: Inputs) -> None:
    with pytest.raises(InputError, match="block 99"):
        encoder_vectors(encoder, given, (99,), ("mean",))
