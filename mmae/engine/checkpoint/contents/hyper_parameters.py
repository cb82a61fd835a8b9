"""The optimiser's hyper-parameters by group. Loading a checkpoint overwrites them; the recipe's are applied again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from torch import nn

from mmae.config.schema import Config
from mmae.engine.engine_protocol import Engine
from mmae.engine.optim import group_names
from mmae.errors import InputError
from mmae.run.folder import RunFolder

_KEYS: Final = ("initial_lr", "betas", "eps", "weight_decay")

Groups = list[dict[str, Any]]


def hyper_parameters(engine: Engine) -> Groups:
    """The hyper-parameters of each group. The current learning rate is left out: the schedule computes it."""
    return [
        {key: tuple(value) if isinstance(value := group[key], list) else value for key in _KEYS if key in group}
        for group in engine.basic_optimizer.param_groups
    ]


def reapply(engine: Engine, recipe: Groups) -> list[str]:
    """Apply the recipe's hyper-parameters after a load. The schedule stays at its step.

    Args:
        recipe: `hyper_parameters` of the engine as it was built.

    Returns:
        a line for each value that differs between checkpoint and recipe.

    Raises:
        InputError: the checkpoint has another number of groups.
    """
    groups, scheduler = engine.basic_optimizer.param_groups, engine.lr_scheduler
    loaded = hyper_parameters(engine)
    if len(loaded) != len(recipe):
        raise InputError(
            f"the checkpoint's optimiser has {len(loaded)} parameter groups, but this model has {len(recipe)}: "
            "go on with the mmae that wrote it"
        )
    said = []
    for number, (group, had, has) in enumerate(zip(groups, loaded, recipe, strict=True)):
        said += [f"group {number}: {key} {had.get(key)} -> {has[key]}" for key in has if had.get(key) != has[key]]
        group.update(has)
    scheduler.base_lrs = [group["initial_lr"] for group in groups]
    for group, base, factor in zip(groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True):
        group["lr"] = base * factor(scheduler.last_epoch)
    scheduler._last_lr = [group["lr"] for group in groups]
    return said


def stored_groups(checkpoint: Path, module: nn.Module, config: Config, trust: bool) -> list[list[str]]:
    """Names of the parameters in each group of a checkpoint's optimiser, in order.

    Args:
        config: of the run, whose learning rates may have changed since.
        trust: the checkpoint may be another user's.
    """
    folder = RunFolder(checkpoint)
    # Checkpoints of format 1 have no recipe of their own.
    own = folder.stored_config(trust) if folder.config_file.is_file() else None
    return group_names(module, (own or config).train, config.model)
