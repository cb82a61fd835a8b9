"""Memory of one rank over a training step, on its device and in the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from mmae.config.schema import Config
from mmae.modalities import MODALITIES
from mmae.model.counts.flops import Recomputation
from mmae.model.counts.named_parts import frozen_parts
from mmae.plan.activations import FLOAT, INT, Activations, activations
from mmae.plan.states import StateBytes

TILE_SIDE: Final = 64
STORED_BYTES: Final = MappingProxyType(
    {
        "sentinel2": 13 * 2,
        "aster": 2 * 2,
        "sentinel1": 8 * 4,
        "canopy_height_eth": 2,
        "esa_worldcover": 1,
        "dynamic_world": 1,
    }
)
"""Bytes of a pixel of MMEarth's datasets, with all bands."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one rank.

    Attributes:
        states: weights and optimiser.
        buffers: for communication.
        activations: the most of a micro-batch.
        tiles: the most of stored tiles, of this step and later ones, and of the inputs made of them.
        gradients: when most of them exist.
        forward: the most that is in use when the backward pass begins.
        backward: when it ends.
        optimiser: while weights are updated.
        host: in the host's memory, without loader processes.
    """

    states: int
    buffers: int
    activations: int
    tiles: int
    gradients: int
    forward: int
    backward: int
    optimiser: int
    host: int

    @property
    def peak(self) -> int:
        """The most that is in use on the device."""
        return max(self.forward, self.backward, self.optimiser)


def memory(
    config: Config, states: StateBytes, recomputation: Recomputation, number_bytes: int, micro: int, accumulation: int
) -> Memory:
    """Memory of one rank that runs `accumulation` micro-batches of `micro` tiles a step."""
    activation: Activations = activations(config.model, recomputation, number_bytes, frozen_parts(config))
    # While a step runs, the tiles of the next one are on their way.
    tiles = micro * accumulation * (2 * stored_bytes(config) + input_bytes(config))
    # Where those are prepared after the backward pass, the tiles of the step behind them are.
    ahead = micro * accumulation * (stored_bytes(config) + input_bytes(config)) if config.train.prepare_ahead else 0
    held = states.steady + tiles
    # CUDA graphs read copies of a micro-batch's inputs, and nothing else can use the memory of their activations.
    forward = micro * activation.peak
    later = forward + micro * input_bytes(config) if config.train.cuda_graphs else 0
    return Memory(
        states=states.steady,
        buffers=states.buffers,
        activations=forward,
        tiles=tiles + ahead,
        gradients=max(states.first_gradients, states.last_gradients),
        forward=held + states.buffers + states.first_gradients + max(forward, later),
        backward=held + ahead + states.buffers + states.last_gradients + later,
        optimiser=held + ahead + states.optimiser_moment + later,
        host=states.host,
    )


def stored_bytes(config: Config, pixel_bytes: Mapping[str, int] = STORED_BYTES) -> int:
    """Bytes of a tile on its way to the device, in stored integers."""
    datasets = {MODALITIES[name].dataset for name in config.model.domains}
    return TILE_SIDE * TILE_SIDE * sum(pixel_bytes[dataset] for dataset in datasets)


def input_bytes(config: Config) -> int:
    """Bytes of a tile as the model sees it: values, validity, and which tokens are visible."""
    model, total = config.model, 0
    height, width = model.image_hw
    for name in model.domains:
        modality = MODALITIES[name]
        pixels = (height // modality.stride) * (width // modality.stride)
        total += pixels * ((INT + 1) if modality.categorical else len(modality.bands) * (FLOAT + 1))
        total += model.tokens_per_modality
    return total + model.num_encoded_tokens * INT + model.num_tokens
