"""A model small enough for tests, and inputs for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mmae.config.schema import ModelConfig
from mmae.modalities import MODALITIES
from mmae.variants import Variant

MakeValues = Callable[[ModelConfig, int], dict[str, Tensor]]


@pytest.fixture
def variant() -> Variant:
    return Variant(dim=32, depth=2, num_heads=4, mlp_dim=80)


@pytest.fixture
def config() -> ModelConfig:
    return ModelConfig(input_size=(16, 32), num_encoded_tokens=10, decoder_dim=16, decoder_depth=1, decoder_num_heads=2)


@pytest.fixture
def make_values() -> MakeValues:
    """Random inputs of a config's modalities for a number of tiles."""

    def make(config: ModelConfig, batch: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(1)
        values: dict[str, Tensor] = {}
        for name in config.domains:
            modality = MODALITIES[name]
            height, width = (side // modality.stride for side in config.image_hw)
            if modality.categorical:
                shape = (batch, height, width)
                values[name] = torch.randint(modality.num_classes, shape, generator=generator)
            else:
                values[name] = torch.randn(batch, len(modality.bands), height, width, generator=generator)
        return values

    return make
