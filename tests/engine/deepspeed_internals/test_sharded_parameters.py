"""Parameters at every stage: which are divided, and how they are gathered."""

from __future__ import annotations

import pytest
import torch

from mmae.engine.deepspeed_internals.sharded_parameters import gathered, is_sharded, whole_shape
from tests.support.dots_engine import ON_ENGINES, SHAPES, STAGES, engine_of

pytestmark = ON_ENGINES


@pytest.mark.parametrize("stage", STAGES)
def test_a_parameter_is_whole_while_it_is_gathered(stage: int) -> None:
    engine = engine_of(stage, "fp32")
    for parameter, shape in zip(engine.module.parameters(), SHAPES, strict=True):
        assert is_sharded(parameter) is (stage == 3)
        assert whole_shape(parameter) == shape
        with gathered(parameter, modifier_rank=0), torch.no_grad():
            assert parameter.shape == shape
            parameter.fill_(3)
        with gathered(parameter):
            assert bool((parameter == 3).all())
        assert (parameter.numel() == 0) is (stage == 3)
    with gathered(torch.ones(2)):
        pass
    engine.destroy()
