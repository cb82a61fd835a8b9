"""`config.json` of a model folder: what the weights beside it are, and how their inputs were normalised."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from mmae.config.recipe_file import build_config
from mmae.config.renamed_keys import with_new_names
from mmae.config.schema import ModelConfig
from mmae.disk.json_text import parse_json
from mmae.disk.ownership import check_owner
from mmae.disk.regular_file import read_regular_text
from mmae.errors import InputError, did_you_mean
from mmae.modalities import MODALITIES, Modality
from mmae.model.tuned.tuned_config import TunedConfig, read_tuned
from mmae.variants import VARIANTS, Variant
from mmae.version import __version__

FORMAT: Final = "mmae-model"
FORMAT_VERSION: Final = 2
_PRETRAINED_VERSION: Final = 1
"""Of pretrained models, which older versions of mmae read too; fine-tuned ones are of `FORMAT_VERSION`."""
CONFIG_NAME: Final = "config.json"

_MOST_TOKENS: Final = 2**18
"""Of a modality: positions of more would fill the memory before a weight is read."""

_KEYS: Final = ("format", "format_version", "mmae_version", "model", "variant", "band_stats", "extra")
_TUNED: Final = "finetuned"
_ENCODER_KEYS: Final = (
    "size", "in_domains", "input_size", "patch_size", "num_global_tokens", "positions", "drop_path",
)  # fmt: skip
"""Of the configuration: what a model without decoders has."""
_OF_A_RUN: Final = frozenset({"attention", "init_from", "lean"})
"""What a run's configuration says beside what the model is."""
_MODEL_KEYS: Final = [field.name for field in fields(ModelConfig)]
_VARIANT_KEYS: Final = [field.name for field in fields(Variant)]


@dataclass(frozen=True)
class SavedModel:
    """What `config.json` says.

    Attributes:
        config: the model's configuration; `attention`, `init_from` and `lean` are not kept.
        variant: numbers of the encoder.
        band_stats: the statistics that its inputs were normalised with, as in MMEarth's `*_band_stats.json`.
        extra: whatever else the writer noted.
        mmae_version: the version of mmae that wrote the folder.
        tuned: task, head and bands of a fine-tuned model; None: a pretrained one.
    """

    config: ModelConfig
    variant: Variant
    band_stats: Mapping[str, Any]
    extra: Mapping[str, Any]
    mmae_version: str
    tuned: TunedConfig | None = None

    @property
    def table(self) -> Mapping[str, Modality]:
        """What its input modalities are: those of `MODALITIES`, or with bands of its own."""
        return MODALITIES if self.tuned is None else self.tuned.table(self.config.in_domains)


def describe(
    config: ModelConfig,
    variant: Variant,
    band_stats: Mapping[str, Any],
    extra: Mapping[str, Any] | None,
    tuned: TunedConfig | None = None,
) -> str:
    """The text of a `config.json`."""
    model = asdict(config)
    kept = [key for key in model if key not in _OF_A_RUN] if tuned is None else _ENCODER_KEYS
    description = {
        "format": FORMAT,
        "format_version": _PRETRAINED_VERSION if tuned is None else FORMAT_VERSION,
        "mmae_version": __version__,
        "model": {key: model[key] for key in kept},
        "variant": asdict(variant),
        "band_stats": dict(band_stats),
        "extra": dict(extra or {}),
        **({} if tuned is None else {_TUNED: tuned.as_json()}),
    }
    return json.dumps(description, indent=2) + "\n"


def encoder_config(flat: Mapping[str, Any], where: str) -> ModelConfig:
    """The checked configuration of a model without decoders: `out_domains` is empty.

    Args:
        flat: values by keys of `ModelConfig`: those of encoders only.
        where: names the source in messages.

    Raises:
        InputError: a key is not an encoder's, or a value is wrong.
    """
    for key in flat:
        if key not in _ENCODER_KEYS:
            raise InputError(f"{where}: unknown key 'model.{key}'{did_you_mean(key, _ENCODER_KEYS)}")
    inputs = flat.get("in_domains", ModelConfig().in_domains)
    # Values that a model with decoders could have, so that the same checks serve.
    stand_in = {"out_domains": inputs, "extra_norm_pix_loss": False, "num_encoded_tokens": 1}
    config = build_config({f"model.{key}": value for key, value in {**flat, **stand_in}.items()}, where).model
    return replace(config, out_domains=())


def read_model_config(folder: str | Path, trust: bool = False) -> SavedModel:
    """What a model folder's `config.json` says; weights are not read.

    Args:
        trust: read files that other users wrote or can write.

    Raises:
        InputError: the file is missing, no JSON, not a model's, of a newer format, or has unknown or wrong values.
    """
    path = Path(folder) / CONFIG_NAME
    check_owner((path.parent, path), trust)
    description = _read_description(path)
    model = with_new_names({f"model.{key}": value for key, value in description["model"].items()}, str(path))
    for key in model:
        if key.removeprefix("model.") not in _MODEL_KEYS:
            raise InputError(f"{path}: unknown key {key!r}{did_you_mean(key.removeprefix('model.'), _MODEL_KEYS)}")
    tuned = description.get(_TUNED)
    if tuned is None:
        config = build_config(model, str(path)).model
    else:
        config = encoder_config({key.removeprefix("model."): value for key, value in model.items()}, str(path))
    if config.tokens_per_modality > _MOST_TOKENS:
        raise InputError(
            f"{path}: model.input_size={config.input_size} has {config.tokens_per_modality} patches, and at most "
            f"{_MOST_TOKENS} are possible"
        )
    variant = _read_variant(description["variant"], path)
    named = next((size for size, row in VARIANTS.items() if row == variant), config.size)
    if named != config.size:
        raise InputError(f"{path}: model.size={config.size!r}, and 'variant' holds the numbers of {named!r}")
    return SavedModel(
        config,
        variant,
        description["band_stats"],
        description["extra"],
        str(description["mmae_version"]),
        None if tuned is None else read_tuned(tuned, str(path), config.in_domains, variant.depth),
    )


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = parse_json(read_regular_text(path))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: is {path.parent} a folder that `mmae export` wrote?") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise InputError(f"{path} does not describe an mmae model")
    version = description.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise InputError(f"{path} has format version {version}, this mmae reads up to {FORMAT_VERSION}: update mmae")
    for key in _KEYS:
        if key not in description:
            raise InputError(f"{path}: {key!r} is missing")
    for key in description:
        if key not in _KEYS and key != _TUNED:
            raise InputError(f"{path}: unknown key {key!r}{did_you_mean(key, _KEYS)}")
    for key in ("model", "variant", "band_stats", "extra", _TUNED):
        if not isinstance(description.get(key, {}), dict):
            raise InputError(f"{path}: {key!r} must be a mapping")
    return description


def _read_variant(numbers: Mapping[str, Any], path: Path) -> Variant:
    if set(numbers) != set(_VARIANT_KEYS) or not all(type(value) is int and value > 0 for value in numbers.values()):
        raise InputError(f"{path}: 'variant' must hold positive integers for {', '.join(_VARIANT_KEYS)}")
    try:
        return Variant(**numbers)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
