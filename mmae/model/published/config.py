"""Which model a published checkpoint holds: names and shapes of its weights decide, and its options decide the rest."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import Size, Tensor

from mmae.config.recipe_file import build_config
from mmae.config.schema import ModelConfig
from mmae.errors import InputError, did_you_mean
from mmae.modalities import MODALITIES, NORM_RGB
from mmae.model.published.file import PublishedFile, read_published
from mmae.model.published.options import TAKEN, check_options, listed
from mmae.model.published.options import notes as option_notes
from mmae.model.published.weights import from_published
from mmae.variants import VARIANTS, Variant

_GLOBAL_TOKENS: Final = "global_tokens"
_PUBLISHED_GRID: Final = 7
_PUBLISHED_SHARE: Final = 6


@dataclass(frozen=True)
class PublishedModel:
    """The model that a checkpoint's weights belong to.

    Attributes:
        config: its `size` is the row of the table of sizes with these numbers, or the default if there is no such row.
        variant: the encoder's width, depth, heads and MLP width.
        notes: what was assumed because neither weights nor options decide it, one line each.
    """

    config: ModelConfig
    variant: Variant
    notes: tuple[str, ...]


def infer_model(
    published: PublishedFile,
    num_heads: int | None = None,
    decoder_num_heads: int | None = None,
    ignored: Collection[str] = (),
) -> PublishedModel:
    """The model that a published checkpoint holds.

    Args:
        num_heads: the encoder's heads. They are needed if its size is not in the table of sizes and no option has them.
        decoder_num_heads: the decoders' heads, for options that do not have them.
        ignored: unknown options of which the user says that they change no number.

    Raises:
        InputError: a weight that shows the model's size is missing or has a wrong shape, a modality is unknown, or an
            option is unknown, contradicts the weights or asks for something that this model does not compute.
    """
    shapes = _Shapes(published.path, published.weights)
    size, variant = _variant(shapes, _heads(published, num_heads))
    shown, balancer = _shown(shapes, published.args), _balancer(published)
    check_options(published.path, published.args, shown, balancer, ignored)
    options, notes = _options(published.args), option_notes(published.args, balancer)
    if decoder_num_heads is not None:
        options["decoder_num_heads"] = decoder_num_heads
    elif "decoder_num_heads" not in options:
        notes.append(f"the file does not have the decoders' heads: assumed {ModelConfig().decoder_num_heads}")
    _check_name(published, size, variant, num_heads)
    flat = {**_default_grid(shown), **options, **shown, "size": size}
    flat["task_balancer"] = published.args.get("task_balancer") or balancer
    origin = f"{published.path}: its options"
    config = build_config({f"model.{key}": value for key, value in flat.items()}, origin).model
    return PublishedModel(config, variant, tuple(notes))


def published_weights(
    path: str | Path, config: ModelConfig, variant: Variant, trust: bool = False
) -> dict[str, Tensor]:
    """Our state dict from a published checkpoint's file, for a model whose settings are already known.

    Args:
        trust: read a file that other users wrote or can write.

    Raises:
        InputError: the file cannot be read, an option is refused, or names, shapes or heads differ from the model's.
    """
    published = read_published(path, trust)
    shown = _shown(_Shapes(published.path, published.weights), published.args)
    check_options(published.path, published.args, shown, _balancer(published))
    # The number of heads changes the meaning of weights, and no shape shows it.
    ours = {"num_heads": variant.num_heads, "decoder_num_heads": config.decoder_num_heads}
    for name, number in ours.items():
        if published.args.get(name) not in {None, number}:
            raise InputError(f"{path}: its {name} is {published.args[name]}, but this model's is {number}")
    return from_published(published.weights, config, variant, str(path))


@dataclass(frozen=True)
class _Shapes:
    """The shapes of the weights by name. Its errors name the file."""

    path: Path
    weights: Mapping[str, Tensor]

    def of(self, name: str, axes: int) -> Size:
        if name not in self.weights:
            raise InputError(f"{self.path}: {name}, which shows the model's size, is missing: is the file complete?")
        shape = self.weights[name].shape
        if len(shape) != axes or 0 in shape:
            raise InputError(f"{self.path}: {name} has shape {tuple(shape)}, but {axes} axes were expected")
        return shape

    def children(self, prefix: str) -> list[str]:
        """What follows `prefix.` in the names, up to the next dot, in the file's order."""
        found = (re.match(rf"{re.escape(prefix)}\.([^.]+)\.", name) for name in self.weights)
        return list(dict.fromkeys(match[1] for match in found if match))


def _variant(shapes: _Shapes, num_heads: Any) -> tuple[str, Variant]:
    mlp_dim, dim = shapes.of("encoder.0.mlp.fc1.weight", 2)
    depth = len(shapes.children("encoder"))
    for size, row in VARIANTS.items():
        if (row.dim, row.depth, row.mlp_dim) == (dim, depth, mlp_dim) and num_heads in {None, row.num_heads}:
            return size, row
    if type(num_heads) is not int or num_heads < 1:
        raise InputError(
            f"{shapes.path}: no size in the table has width {dim}, depth {depth} and MLP width {mlp_dim}: "
            "give the number of the encoder's heads (--heads)"
        )
    try:
        return ModelConfig().size, Variant(dim, depth, num_heads, mlp_dim)
    except ValueError as error:
        raise InputError(f"{shapes.path}: {error}") from None


def _heads(published: PublishedFile, said: int | None) -> Any:
    return said if said is not None else published.args.get("num_heads")


def _check_name(published: PublishedFile, size: str, variant: Variant, num_heads: int | None) -> None:
    """Refuse a model if its name could mean another number of heads than the table of sizes has for its shapes."""
    name = published.args.get("model")
    if name is None or _heads(published, num_heads) is not None:
        return
    named = VARIANTS.get(str(name).split("_")[-1])
    if named != variant:
        raise InputError(
            f"{published.path}: its option model={name!r:.80} is not {size}, the size that its shapes belong to: give "
            f"the number of the encoder's heads (--heads {variant.num_heads}, if they are those of {size})"
        )


def _balancer(published: PublishedFile) -> str:
    return "none" if published.log_vars is None else "uncertainty"


def _shown(shapes: _Shapes, args: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that names and shapes of the weights decide."""
    inputs = _known(shapes, "input_adapters", shapes.children("input_adapters"))
    outputs = shapes.children("output_adapters")
    out_domains = _known(shapes, "output_adapters", [name for name in outputs if name != NORM_RGB])
    first = f"output_adapters.{outputs[0]}"
    return {
        "in_domains": _in_order(inputs, args.get("in_domains")),
        "out_domains": _in_order(out_domains, args.get("out_domains")),
        "extra_norm_pix_loss": NORM_RGB in outputs,
        "patch_size": _patch_size(shapes, inputs[0]),
        "num_global_tokens": _num_global_tokens(shapes),
        "decoder_dim": shapes.of(f"{first}.out_norm.weight", 1)[0],
        "decoder_depth": len(shapes.children(f"{first}.decoder_transformer")),
    }


def _num_global_tokens(shapes: _Shapes) -> int:
    if _GLOBAL_TOKENS not in shapes.weights:
        return 0
    shape = tuple(shapes.weights[_GLOBAL_TOKENS].shape)
    if len(shape) == 3 and shape[1] == 0:
        raise InputError(
            f"{shapes.path}: the model has no global token (num_global_tokens=0, {_GLOBAL_TOKENS} has shape {shape}): "
            "mmae does not know what the published decoders compute without one, so it does not read such a file"
        )
    return shapes.of(_GLOBAL_TOKENS, 3)[1]


def _known(shapes: _Shapes, prefix: str, names: list[str]) -> list[str]:
    if not names:
        raise InputError(f"{shapes.path}: no weight is called {prefix}.<modality>: is it a published checkpoint?")
    for name in names:
        if name not in MODALITIES:
            raise InputError(f"{shapes.path}: {prefix}.{name}: unknown modality{did_you_mean(name, MODALITIES)}")
    return names


def _in_order(names: list[str], said: Any) -> list[str]:
    """The names in the order of the options, because a state dict may list them alphabetically."""
    kept = dict.fromkeys(name for name in listed(said) or () if name != NORM_RGB)
    return list(kept) if set(kept) == set(names) else names


def _patch_size(shapes: _Shapes, name: str) -> int:
    return shapes.of(f"input_adapters.{name}.proj.weight", 4)[2] * MODALITIES[name].stride


def _default_grid(shown: Mapping[str, Any]) -> dict[str, int]:
    """The published recipe's grid and share of visible tokens, for this model's patch size and modalities."""
    tokens = len(shown["in_domains"]) * _PUBLISHED_GRID**2
    return {
        "input_size": _PUBLISHED_GRID * shown["patch_size"],
        "num_encoded_tokens": max(1, tokens // _PUBLISHED_SHARE),
    }


def _options(args: Mapping[str, Any]) -> dict[str, Any]:
    return {name: args[name] for name in TAKEN if args.get(name) is not None}
