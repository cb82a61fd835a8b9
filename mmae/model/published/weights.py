"""Converts parameter names and shapes between the published model and ours.

Ours differ because decoders are stacked: one of our tensors holds a published tensor of every output. Published
position embeddings are computed, not learned. On import they are checked and dropped, and on export they are computed.
A model with learned positions starts from the positions in the file, whatever they are, resampled to its own grid. It
cannot be exported, because the published model has only the fixed positions of its base grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Size, Tensor

from mmae.config.schema import ModelConfig
from mmae.errors import InputError
from mmae.model.mmae import MultiMAE
from mmae.model.posembed import base_positions, resample
from mmae.variants import Variant

POSITION_TOLERANCE: Final = 1e-5
"""The largest allowed difference of positions. Sines differ between machines by a unit in the last place."""

_LEARNED_POSITIONS: Final = ".positions.table"

_STACKED: Final = {"cross_attention": "decoder", "blocks": "decoder_transformer"}


@dataclass(frozen=True)
class Place:
    """Where a published tensor of shape `shape` lies in our state dict: at `index` in the tensor named `ours`."""

    ours: str
    index: tuple[int, ...]
    shape: Size


def from_published(
    weights: Mapping[str, Tensor],
    config: ModelConfig,
    variant: Variant | None = None,
    origin: str = "published weights",
) -> dict[str, Tensor]:
    """Our state dict from published weights. Dtypes are kept, except that the tensors of a stack get a common one.

    Learned positions are float32.

    Args:
        weights: the `model` entry of a published checkpoint.
        config: the model that they are for.
        variant: the encoder's size; that of `config.size` if None.
        origin: where the weights come from, for messages.

    Raises:
        InputError: a name is missing or unexpected, a shape differs, or positions differ from this model's.
    """
    variant = variant or config.variant
    model = _our_model(config, variant)
    shapes = _shapes(model)
    places = _places(shapes, config)
    positions = _positions(config, variant)
    expected = {name: place.shape for name, place in places.items()}
    _check(weights, expected | {name: position.shape for name, position in positions.items()}, origin)
    if config.positions == "fixed":
        _check_positions(weights, positions, origin)
    # If the tensors of a stack differ in dtype, none of them may be rounded.
    dtypes: dict[str, torch.dtype] = {}
    for name, place in places.items():
        dtypes[place.ours] = torch.promote_types(dtypes.get(place.ours, weights[name].dtype), weights[name].dtype)
    state: dict[str, Tensor] = {}
    for name, place in places.items():
        blank = weights[name].new_empty(shapes[place.ours], dtype=dtypes[place.ours])
        target = state.setdefault(place.ours, blank)
        target[place.index] = weights[name].reshape(target[place.index].shape)
    return state | (_learned_positions(model, weights) if config.positions == "learned" else {})


def to_published(state: Mapping[str, Tensor], config: ModelConfig, variant: Variant | None = None) -> dict[str, Tensor]:
    """Published weights from our state dict, including position embeddings. The tensors are copies.

    Raises:
        InputError: positions are learned.
    """
    if config.positions == "learned":
        raise InputError(
            "learned positions (model.positions=learned) cannot be stored in the published model, which has the fixed "
            "positions of a 224 px image: export a model folder instead"
        )
    variant = variant or config.variant
    places = _places({name: tensor.shape for name, tensor in state.items()}, config)
    weights = {name: state[place.ours][place.index].reshape(place.shape).clone() for name, place in places.items()}
    return weights | _positions(config, variant)


def _our_model(config: ModelConfig, variant: Variant) -> MultiMAE:
    """A model that has names and shapes, but no numbers."""
    with torch.device("meta"):
        return MultiMAE(config, variant)


def _shapes(model: MultiMAE) -> dict[str, Size]:
    """The shape of each of our tensors that published tensors are written into."""
    state = model.state_dict()
    return {name: tensor.shape for name, tensor in state.items() if not name.endswith(_LEARNED_POSITIONS)}


def _learned_positions(model: MultiMAE, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The file's positions, resampled to this model's grid."""

    def table(adapter: str, positions: Any) -> Tensor:
        return resample(weights[f"{adapter}.pos_emb"][0].float(), model.config.grid_hw, positions.mode)

    decoders = model.decoders.positions
    return {
        **{
            f"tokenizer.adapters.{name}{_LEARNED_POSITIONS}": table(f"input_adapters.{name}", adapter.positions)
            for name, adapter in model.tokenizer.adapters.items()
        },
        f"decoders{_LEARNED_POSITIONS}": torch.stack(
            [table(f"output_adapters.{name}", decoders) for name in model.config.outputs]
        ),
    }


def _places(shapes: Mapping[str, Size], config: ModelConfig) -> dict[str, Place]:
    """The place of every published tensor, by its published name."""
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


def _check(weights: Mapping[str, Tensor], expected: Mapping[str, Size], origin: str) -> None:
    """Refuse weights that do not fit. The message names the first, in the model's order, and counts all."""
    if missing := [name for name in expected if name not in weights]:
        raise InputError(f"{origin}: {missing[0]} is missing{_in_all(missing)}")
    if unexpected := [name for name in weights if name not in expected]:
        raise InputError(f"{origin}: unexpected name {unexpected[0]}{_in_all(unexpected)}")
    if wrong := [name for name, shape in expected.items() if weights[name].shape != shape]:
        theirs, ours = tuple(weights[wrong[0]].shape), tuple(expected[wrong[0]])
        raise InputError(f"{origin}: {wrong[0]} has shape {theirs}, this model needs {ours}{_in_all(wrong)}")


def _check_positions(weights: Mapping[str, Tensor], positions: Mapping[str, Tensor], origin: str) -> None:
    other = [name for name, position in positions.items() if not _is_position(weights[name], position)]
    if other:
        raise InputError(
            f"{origin}: {other[0]} is not the fixed sine-cosine position embedding of this model{_in_all(other)}: "
            "only a run with model.positions=learned can start from learned positions"
        )


def _is_position(tensor: Tensor, position: Tensor) -> bool:
    rounding = torch.finfo(tensor.dtype).eps if tensor.dtype.itemsize < position.dtype.itemsize else 0.0
    return torch.allclose(tensor.float().cpu(), position, rtol=0.0, atol=max(POSITION_TOLERANCE, rounding))


def _in_all(names: list[str]) -> str:
    return f" ({len(names)} in all)"
