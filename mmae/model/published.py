"""The published model's parameter names and shapes, to and from ours.

Ours differ where decoders are stacked: one of our tensors holds a published tensor of every output. Published position
embeddings are derived, not learned: they are checked and dropped on the way in, computed on the way out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Size, Tensor

from mmae.config import ModelConfig
from mmae.errors import InputError
from mmae.model.mmae import MultiMAE
from mmae.model.posembed import base_positions
from mmae.variants import Variant

POSITION_TOLERANCE: Final = 1e-5
"""Largest difference of a published position from ours: sines differ between machines by a unit in the last place."""

_STACKED: Final = {"cross_attention": "decoder", "blocks": "decoder_transformer"}


@dataclass(frozen=True)
class Place:
    """Where a published tensor lies in our state dict: tensor `ours`, slice `index`; `shape` is the published one."""

    ours: str
    index: tuple[int, ...]
    shape: Size


def from_published(
    weights: Mapping[str, Tensor], config: ModelConfig, variant: Variant | None = None
) -> dict[str, Tensor]:
    """Our state dict from published weights; dtypes are kept.

    Args:
        weights: the `model` entry of a published checkpoint.
        config: the model that they are for.
        variant: encoder size; that of `config.size` if None.

    Raises:
        InputError: a name is missing or unexpected, a shape differs, or positions are not those of this model.
    """
    variant = variant or config.variant
    shapes = _our_shapes(config, variant)
    places = _places(shapes, config)
    positions = _positions(config, variant)
    _check_names(weights, [*places, *positions])
    for name, place in places.items():
        _check_shape(name, weights[name], place.shape)
    for name, position in positions.items():
        _check_shape(name, weights[name], position.shape)
        if not torch.allclose(weights[name].float().cpu(), position, rtol=0.0, atol=POSITION_TOLERANCE):
            raise InputError(f"published weights: {name} is not the fixed sine-cosine position embedding of this model")
    state: dict[str, Tensor] = {}
    for name, place in places.items():
        target = state.setdefault(place.ours, weights[name].new_empty(shapes[place.ours]))
        target[place.index] = weights[name].reshape(target[place.index].shape)
    return state


def to_published(state: Mapping[str, Tensor], config: ModelConfig, variant: Variant | None = None) -> dict[str, Tensor]:
    """Published names and shapes from our state dict, position embeddings included; tensors are copies."""
    variant = variant or config.variant
    places = _places({name: tensor.shape for name, tensor in state.items()}, config)
    weights = {name: state[place.ours][place.index].reshape(place.shape).clone() for name, place in places.items()}
    return weights | _positions(config, variant)


def _our_shapes(config: ModelConfig, variant: Variant) -> dict[str, Size]:
    with torch.device("meta"):
        model = MultiMAE(config, variant)
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def _places(shapes: Mapping[str, Size], config: ModelConfig) -> dict[str, Place]:
    """Published name -> place, of every tensor of ours."""
    places: dict[str, Place] = {}
    for ours, shape in shapes.items():
        part, rest = ours.split(".", 1)
        if part == "tokenizer":
            places[ours.replace("tokenizer.adapters", "input_adapters", 1)] = Place(ours, (), shape)
        elif rest == "global_tokens":
            places[rest] = Place(ours, (), Size((1, *shape)))
        elif part == "encoder":
            places[ours.replace("encoder.blocks", "encoder", 1)] = Place(ours, (), shape)
        else:
            places.update(_decoder_places(ours, rest, shape, config))
    return places


def _decoder_places(ours: str, rest: str, shape: Size, config: ModelConfig) -> Iterator[tuple[str, Place]]:
    part, _, tail = rest.partition(".")
    if part == "out_proj":
        output, leaf = tail.split(".")
        yield f"output_adapters.{output}.out_proj.{leaf}", Place(ours, (), shape)
        return
    for o, output in enumerate(config.outputs):
        if part == "mask_token":
            yield f"output_adapters.{output}.mask_token", Place(ours, (o,), Size((1, 1, shape[-1])))
        elif part == "task_embeddings":
            for m, name in enumerate(config.in_domains):
                yield f"output_adapters.{output}.task_embeddings.{name}", Place(ours, (o, m), Size((1, 1, shape[-1])))
        else:
            yield f"output_adapters.{output}.{_STACKED.get(part, part)}.{tail}", Place(ours, (o,), shape[1:])


def _positions(config: ModelConfig, variant: Variant) -> dict[str, Tensor]:
    inputs = base_positions(variant.dim, config.patch_size)[None]
    outputs = base_positions(config.decoder_dim, config.patch_size)[None]
    return {
        **{f"input_adapters.{name}.pos_emb": inputs.clone() for name in config.in_domains},
        **{f"output_adapters.{name}.pos_emb": outputs.clone() for name in config.outputs},
    }


def _check_names(weights: Mapping[str, Tensor], expected: list[str]) -> None:
    if missing := [name for name in expected if name not in weights]:
        raise InputError(f"published weights: {missing[0]} is missing ({len(missing)} names in all)")
    known = set(expected)
    if unexpected := [name for name in weights if name not in known]:
        raise InputError(f"published weights: unexpected name {unexpected[0]} ({len(unexpected)} in all)")


def _check_shape(name: str, tensor: Tensor, shape: Size) -> None:
    if tensor.shape != shape:
        raise InputError(f"published weights: {name} has shape {tuple(tensor.shape)}, this model needs {tuple(shape)}")
