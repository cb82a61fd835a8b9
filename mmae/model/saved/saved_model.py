"""A model on disk: a folder with `model.safetensors` and `config.json`, written whole or not at all, never pickled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from mmae.disk.ownership import check_owner
from mmae.disk.regular_file import check_regular
from mmae.errors import InputError
from mmae.model.counts.parameter_counts import parameter_counts
from mmae.model.encoder import HEAD, EncoderModel
from mmae.model.mmae import MultiMAE
from mmae.model.saved.saved_config import CONFIG_NAME, SavedModel, describe, read_model_config
from mmae.model.saved.weights_file import WEIGHTS_NAME, new_folder, save_weights
from mmae.model.tuned.finetuned_model import FinetunedModel

__all__ = [
    "WEIGHTS_NAME",
    "SavedModel",
    "load_finetuned",
    "load_model",
    "load_pretrained",
    "load_saved",
    "read_model_config",
    "save_finetuned",
    "save_model",
]

_FLOATS: Final = ("F", "BF")
"""How the names of floating-point dtypes begin in the header."""

_ALIKE: Final = 4
_MANY: Final = 10**12


def save_model(
    folder: str | Path,
    model: MultiMAE,
    band_stats: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
    others: Mapping[str, str] | None = None,
) -> None:
    """Write a model folder: float32 weights under our (stacked) names, and all that is needed to use them.

    Args:
        folder: must not exist, or be empty.
        model: with whole weights, not sharded ones.
        band_stats: JSON-able statistics of the inputs.
        extra: JSON-able notes.
        others: name -> text of further files of the folder.

    Raises:
        InputError: the folder holds something already, or is not a folder.
    """
    _save(Path(folder), model, describe(model.config, model.variant, band_stats, extra), others)


def save_finetuned(
    folder: str | Path,
    model: FinetunedModel,
    band_stats: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
    others: Mapping[str, str] | None = None,
) -> None:
    """`save_model` of a fine-tuned model, which has no factors of LoRA any more (`mmae.finetune.model`)."""
    description = describe(model.config, model.variant, band_stats, extra, model.tuned)
    _save(Path(folder), model, description, others)


def _save(folder: Path, model: EncoderModel, description: str, others: Mapping[str, str] | None) -> None:
    state = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in model.state_dict().items()}
    with new_folder(folder) as partial:
        for name, text in {**(others or {}), CONFIG_NAME: description}.items():
            (partial / name).write_text(text, encoding="utf-8")
        save_weights(partial / WEIGHTS_NAME, state)


def load_model(folder: str | Path, trust: bool = False) -> MultiMAE:
    """The pretrained model of a folder, float32 on the CPU, in eval mode.

    Args:
        trust: read files that other users wrote or can write.

    Raises:
        InputError: a file is missing or damaged, weights do not fit the configuration, or it is a fine-tuned model.
    """
    return load_pretrained(folder, trust)[1]


def load_finetuned(folder: str | Path, trust: bool = False) -> FinetunedModel:
    """The fine-tuned model of a folder, float32 on the CPU, in eval mode.

    Args:
        trust: read files that other users wrote or can write.

    Raises:
        InputError: a file is missing or damaged, weights do not fit the configuration, or it is no fine-tuned model.
    """
    _, model = load_saved(folder, trust)
    if not isinstance(model, FinetunedModel):
        raise InputError(f"{folder}: this model is pretrained and has no task: fine-tune it, or use mmae.load_model")
    return model


def load_pretrained(folder: str | Path, trust: bool = False) -> tuple[SavedModel, MultiMAE]:
    """What `config.json` of a folder says, and its pretrained model; see `load_model`."""
    saved, model = load_saved(folder, trust)
    if not isinstance(model, MultiMAE):
        raise InputError(f"{folder}: this model is fine-tuned and has no decoders: use mmae.load_finetuned")
    return saved, model


def load_saved(folder: str | Path, trust: bool = False) -> tuple[SavedModel, MultiMAE | FinetunedModel]:
    """What `config.json` of a folder says, and its model, pretrained or fine-tuned; see `load_model`."""
    saved = read_model_config(folder, trust)
    path = Path(folder) / WEIGHTS_NAME
    # What does not fit is refused before the gigabytes behind the header are read.
    header = _read_header(path, trust)
    _check_count(saved, header, Path(folder))
    model = _without_weights(saved, Path(folder))
    _check_fit(model.state_dict(), header, path)
    model.load_state_dict(_read_weights(path), assign=True)
    return saved, model.eval()


def _without_weights(saved: SavedModel, folder: Path) -> MultiMAE | FinetunedModel:
    """A model on the meta device."""
    with torch.device("meta"):
        if saved.tuned is None:
            return MultiMAE(saved.config, saved.variant)
        try:
            return FinetunedModel(saved.config, saved.variant, saved.tuned)
        except InputError as error:
            raise InputError(f"{folder / CONFIG_NAME}: {error}") from None


def _read_header(path: Path, trust: bool) -> dict[str, Tensor]:
    """Weights without their numbers: on the device `meta`."""
    check_owner((path,), trust)
    with _reading(path):
        check_regular(path)
        with safe_open(path, framework="pt") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
            kinds = {name: part.get_dtype() for name, part in parts.items()}
            header = {name: torch.empty(part.get_shape(), device="meta") for name, part in parts.items()}
    for name, kind in kinds.items():
        if not kind.startswith(_FLOATS):
            raise InputError(f"{path}: {name} holds {kind}, weights are floats")
    return header


def _read_weights(path: Path) -> dict[str, Tensor]:
    with _reading(path):
        state: dict[str, Tensor] = load_file(path)
    return {name: tensor.float() for name, tensor in state.items()}


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: is {path.parent} a folder that `mmae export` wrote?") from None
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read as safetensors: {error}") from None


def _check_count(saved: SavedModel, state: Mapping[str, Tensor], folder: Path) -> None:
    """Refuse a configuration of another number of weights, before a model of it is built: it may be huge."""
    balancer = len(saved.config.outputs) if saved.config.task_balancer == "uncertainty" else 0
    needed = parameter_counts(saved.config, saved.variant, saved.table).total - balancer
    # How many weights a head has is known when it is built, which is no danger once the encoder is what it says.
    counted = [name for name in state if saved.tuned is None or not name.startswith(HEAD)]
    there = sum(state[name].numel() for name in counted)
    # A model that differs a little is compared weight by weight, which tells more.
    if not there / _ALIKE <= needed <= there * _ALIKE:
        raise InputError(
            f"{folder}: {CONFIG_NAME} describes a model of {_shown(needed)} weights, and {WEIGHTS_NAME} holds "
            f"{_shown(there)}: they are not of one model"
        )


def _shown(count: int) -> str:
    return f"{count:,}" if count < _MANY else f"more than {_MANY:,}"


def _check_fit(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path) -> None:
    for name, tensor in expected.items():
        if name not in state:
            raise InputError(f"{path}: {name} is missing")
        if state[name].shape != tensor.shape:
            theirs, ours = tuple(state[name].shape), tuple(tensor.shape)
            raise InputError(f"{path}: {name} has shape {theirs}, this model needs {ours}")
    for name in state:
        if name not in expected:
            raise InputError(f"{path}: unexpected tensor {name}")
