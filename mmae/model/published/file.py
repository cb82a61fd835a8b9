"""Files of published checkpoints: reading one without trusting its pickle, and the content of a new one.

Such a file is a torch save of a dict: weights are under `model`, the training's options are an `argparse.Namespace`
under `args`, and only its own training needs the rest. Reading allows tensors, plain containers and that Namespace,
and nothing else. A new file needs no Namespace, so that `torch.load` reads it without further permission.
"""

from __future__ import annotations

import argparse
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from mmae.config.schema import ModelConfig
from mmae.disk.ownership import check_owner
from mmae.errors import InputError
from mmae.model.published.safe_pickle import load_plain
from mmae.model.published.weights import to_published
from mmae.variants import Variant

LOG_VARS: Final = "loss_balancer.log_vars"

_DTYPES: Final = (torch.float32, torch.float16, torch.bfloat16)
_PLAIN: Final = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class PublishedFile:
    """The content of a published checkpoint, without what only its own training needs.

    Attributes:
        path: the file, for messages.
        weights: published name -> tensor on the CPU, as stored; without the loss balancer's.
        args: the training's options, which are plain values; empty if the file has none.
        log_vars: the log variances of the loss balancer, in the order of its losses; None if there are none.
        epoch: the epoch in which the checkpoint was written, if the file says it.
    """

    path: Path
    weights: Mapping[str, Tensor]
    args: Mapping[str, Any]
    log_vars: tuple[float, ...] | None
    epoch: int | None


def read_published(path: str | Path, trust: bool = False) -> PublishedFile:
    """Read a published checkpoint; nothing that its pickle asks for is run.

    Args:
        trust: read a file that other users wrote or can write.

    Raises:
        InputError: the file does not exist, is not a torch save, needs more than plain data, or has no `model` weights.
    """
    path = Path(path)
    check_owner((path,), trust)
    checkpoint = load_plain(path)
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("model"), dict):
        keys = ", ".join(map(str, list(checkpoint)[:8])) if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise InputError(f"{path}: no weights under 'model' (it holds: {keys}): is it a published checkpoint?")
    weights = dict(checkpoint["model"])
    log_vars = weights.pop(LOG_VARS, None)
    if log_vars is None:
        log_vars = _balancer(checkpoint.get("loss_balancer"), path)
    for name, tensor in weights.items():
        _check_tensor(name, tensor, path)
    epoch = checkpoint.get("epoch")
    return PublishedFile(
        path,
        weights,
        _args(checkpoint.get("args"), path),
        None if log_vars is None else _log_vars(log_vars, path),
        epoch if type(epoch) is int else None,
    )


def published_checkpoint(
    state: Mapping[str, Tensor],
    config: ModelConfig,
    variant: Variant,
    log_vars: Mapping[str, float] | None = None,
    epoch: int | None = None,
) -> dict[str, Any]:
    """The dict to `torch.save` as a published checkpoint. It has weights and options, but no optimiser.

    Args:
        state: our whole state dict, of any floating dtype.
        log_vars: output -> log variance, in the balancer's order.
    """
    checkpoint: dict[str, Any] = {
        "model": to_published(state, config, variant),
        "args": _readable_by_attribute(_options(config, variant)),
    }
    if epoch is not None:
        checkpoint["epoch"] = epoch
    if log_vars:
        checkpoint["loss_balancer"] = {"log_vars": torch.tensor(list(log_vars.values()), dtype=torch.float32)}
    return checkpoint


def _readable_by_attribute(options: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """Options as attributes (`args.input_size`), as the published code reads them, but without a Namespace.

    `torch.load` reads a Namespace only if the caller allows it, but it always reads an OrderedDict with attributes.
    """
    args = OrderedDict(options)
    vars(args).update(options)
    return args


def _options(config: ModelConfig, variant: Variant) -> dict[str, Any]:
    """Options under MultiMAE's names. Only `num_heads` is a name of ours, needed because shapes do not show it."""
    return {
        "in_domains": list(config.in_domains),
        "out_domains": list(config.out_domains),
        "extra_norm_pix_loss": config.extra_norm_pix_loss,
        "input_size": config.input_size,
        "patch_size": config.patch_size,
        "num_encoded_tokens": config.num_encoded_tokens,
        "num_global_tokens": config.num_global_tokens,
        "alphas": config.alphas,
        "sample_tasks_uniformly": config.sample_tasks_uniformly,
        "num_heads": variant.num_heads,
        "decoder_dim": config.decoder_dim,
        "decoder_depth": config.decoder_depth,
        "decoder_num_heads": config.decoder_num_heads,
        "drop_path": config.drop_path,
        "loss_on_unmasked": config.loss_on_unmasked,
        "task_balancer": config.task_balancer,
    }


def _check_tensor(name: Any, tensor: Any, path: Path) -> None:
    if type(name) is not str or not isinstance(tensor, Tensor):
        raise InputError(f"{path}: {name!s:.80} under 'model' is a {type(tensor).__name__}, not a tensor")
    if tensor.dtype not in _DTYPES or tensor.layout is not torch.strided or tensor.device.type != "cpu":
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in _DTYPES)
        what = str(tensor.dtype).removeprefix("torch.")
        raise InputError(f"{path}: {name} is {what} ({tensor.layout}), but only dense {known} can be read")


def _balancer(state: Any, path: Path) -> Any:
    """The log variances in the balancer's entry, if any. A balancer that learns nothing has an empty entry."""
    if state is None or state == {}:
        return None
    if not isinstance(state, dict) or set(state) != {"log_vars"}:
        keys = ", ".join(map(str, state)) if isinstance(state, dict) else type(state).__name__
        raise InputError(f"{path}: 'loss_balancer' holds {keys:.80}, but only log_vars was expected")
    return state["log_vars"]


def _log_vars(log_vars: Any, path: Path) -> tuple[float, ...]:
    _check_tensor(LOG_VARS, log_vars, path)
    if log_vars.dim() != 1 or not log_vars.isfinite().all():
        raise InputError(
            f"{path}: {LOG_VARS} has shape {tuple(log_vars.shape)}: one finite number for each output is needed"
        )
    return tuple(log_vars.tolist())


def _args(args: Any, path: Path) -> dict[str, Any]:
    if args is None:
        return {}
    if not isinstance(args, argparse.Namespace | dict):
        raise InputError(f"{path}: 'args' is a {type(args).__name__}, not an argparse.Namespace or a dict")
    options = dict(args if isinstance(args, dict) else vars(args))
    for name, value in options.items():
        if type(name) is not str or not name.isidentifier():
            raise InputError(f"{path}: 'args' holds {name!r:.80}, which is not the name of an option")
        if not _is_plain(value):
            raise InputError(f"{path}: args.{name!s:.80} is a {type(value).__name__}, not a plain value")
    return options


def _is_plain(value: Any) -> bool:
    match value:
        case dict():
            return all(_is_plain(key) and _is_plain(item) for key, item in value.items())
        case list() | tuple() | set():
            return all(map(_is_plain, value))
    return type(value) in _PLAIN
