"""Scores of predictions over many tiles."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from mmae.config.schema import ModelConfig
from mmae.evaluate.scores import Predict, score
from mmae.losses import patchify, sample_losses, scored
from mmae.modalities import output_source
from mmae.model.masking import plan_from_ids
from mmae.types import Inputs, MaskPlan, ModelOutput

CONFIG = ModelConfig(
    in_domains=("rgb", "semseg"), out_domains=("rgb", "semseg"), input_size=16, num_encoded_tokens=3,
    extra_norm_pix_loss=False,
)  # fmt: skip
"""2 x 2 tokens a modality, 8 in all; 2 x 2 labels a token."""


def tiles(count: int, seed: int = 0) -> tuple[Inputs, MaskPlan]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(12, (count, 4, 4), generator=generator)
    values = {"rgb": torch.randn(count, 3, 16, 16, generator=generator), "semseg": ids}
    valid = {"rgb": torch.rand(count, 3, 16, 16, generator=generator) < 0.8, "semseg": ids != 11}
    token_valid = {name: patchify(each, output_source(name).patch(8)).flatten(2).any(2) for name, each in valid.items()}
    inputs = Inputs(values, valid, token_valid, torch.arange(count), torch.ones(count, dtype=torch.bool))
    keep_BK = torch.stack([torch.randperm(8, generator=generator)[:3] for _ in range(count)]) if count else None
    return inputs, plan_from_ids(torch.empty(0, 3, dtype=torch.int64) if keep_BK is None else keep_BK, 8)


def noise(inputs: Inputs, plan: MaskPlan) -> ModelOutput:
    """The same for a tile in whatever batch it stands."""
    patches = {}
    for name in CONFIG.outputs:
        source = output_source(name)
        shape = (4, source.channels, source.patch(8), source.patch(8))
        drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(key)) for key in inputs.key_B.tolist()]
        patches[name] = torch.stack(drawn)
    return ModelOutput(patches, torch.empty(0))


def truth(inputs: Inputs, plan: MaskPlan) -> ModelOutput:
    one_hot = torch.nn.functional.one_hot(patchify(inputs.values["semseg"], 2), 12).movedim(-1, 2)
    return ModelOutput({"rgb": patchify(inputs.values["rgb"], 8), "semseg": one_hot * 50.0}, torch.empty(0))


def part(inputs: Inputs, plan: MaskPlan, some: slice) -> tuple[Inputs, MaskPlan]:
    cut = replace(
        inputs,
        **{key: {name: each[some] for name, each in getattr(inputs, key).items()}
           for key in ("values", "valid", "token_valid")},
        key_B=inputs.key_B[some],
        real_B=inputs.real_B[some],
    )  # fmt: skip
    return cut, plan_from_ids(plan.keep_BK[some], 8)


def test_batches_are_of_no_importance() -> None:
    whole = tiles(7)
    predictors: dict[str, Predict] = {"noise": noise}
    at_once = score(predictors, [whole], CONFIG)["noise"]
    in_parts = score(predictors, [part(*whole, slice(0, 1)), part(*whole, slice(1, 7))], CONFIG)["noise"]
    for name, each in at_once.items():
        assert each.loss == pytest.approx(in_parts[name].loss)
        assert each.accuracy == pytest.approx(in_parts[name].accuracy, nan_ok=True)


def test_losses_are_those_of_training() -> None:
    inputs, plan = tiles(6)
    found = score({"noise": noise}, [(inputs, plan)], CONFIG)["noise"]
    loss_OB = sample_losses(noise(inputs, plan), inputs, plan, CONFIG)
    expected_O = loss_OB.sum(1) / scored(inputs, plan, CONFIG).sum(1)
    for name, expected in zip(CONFIG.outputs, expected_O.tolist(), strict=True):
        assert found[name].loss == pytest.approx(expected)


def test_predictors_do_not_mix() -> None:
    found = score({"truth": truth, "noise": noise}, [tiles(5), tiles(3, seed=1)], CONFIG)
    assert found["truth"]["semseg"].accuracy == 1
    assert found["truth"]["rgb"].loss == 0
    alone = score({"noise": noise}, [tiles(5), tiles(3, seed=1)], CONFIG)
    assert [each.loss for each in found["noise"].values()] == [each.loss for each in alone["noise"].values()]
    assert found["noise"]["semseg"] == alone["noise"]["semseg"]
    assert 0 < found["noise"]["semseg"].accuracy < 0.5
    assert math.isnan(found["noise"]["rgb"].accuracy)


def test_accuracy_counts_hidden_pixels_with_data_of_real_tiles() -> None:
    inputs, plan = tiles(6, seed=3)
    inputs = replace(inputs, real_B=torch.tensor([True, True, False, True, True, True]))

    def spoilt(inputs: Inputs, plan: MaskPlan) -> ModelOutput:
        """Wrong wherever it does not count, and in one pixel that does."""
        patches = dict(truth(inputs, plan).patches)
        hidden_Bn = plan.hidden_BN[:, 4:] & inputs.real_B[:, None]
        counts = patchify(inputs.valid["semseg"], 2) & hidden_Bn[:, :, None, None]
        right = counts.clone()
        right.view(-1)[int(counts.flatten().nonzero()[0])] = False
        patches["semseg"] = torch.where(right[:, :, None], patches["semseg"], patches["semseg"].flip(2))
        counted.append(int(counts.sum()))
        return ModelOutput(patches, torch.empty(0))

    counted: list[int] = []
    accuracy = score({"spoilt": spoilt}, [(inputs, plan)], CONFIG)["spoilt"]["semseg"].accuracy
    assert accuracy == pytest.approx(1 - 1 / counted[0])


def test_no_tile() -> None:
    found = score({"noise": noise}, [], CONFIG)["noise"]
    assert all(math.isnan(each.loss) and math.isnan(each.accuracy) for each in found.values())
