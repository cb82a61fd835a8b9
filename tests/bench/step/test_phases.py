"""The parts of a step that are timed alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mmae.bench.step.phases import part_runs
from mmae.data.transforms.preprocess import Preprocess
from mmae.engine.module import PretrainModule
from mmae.engine.step import prepare
from mmae.losses import scored
from tests.support.step_case import STATS, VARIANT, config, tiles


@pytest.mark.parametrize("lean", [True, False])
def test_the_encoder_s_part_makes_the_tokens_that_a_step_makes(lean: bool) -> None:
    cfg = config(model__lean=lean)
    inputs, plan = prepare(tiles(4), Preprocess(cfg.data, cfg.model, STATS, torch.device("cpu")), cfg, train=True)
    module = PretrainModule(cfg.model, VARIANT)
    made: list[Any] = []
    module.model.tokenizer.register_forward_hook(lambda _module, _inputs, tokens: made.append(tokens.shape))
    count_O = scored(inputs, plan, cfg.model).sum(1).float()
    module(inputs, plan, count_O, 1.0)
    part_runs(module, inputs, plan, count_O)["encoder"]()
    assert set(made) == {(4, 9 if lean else cfg.model.num_tokens, VARIANT.dim)}
