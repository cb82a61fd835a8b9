"""The command that starts a run with the settings of a line."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from mmae.config.schema import TrainConfig
from mmae.plan.lines import Line, Machines


def launch_command(
    recipe: str, line: Line, machines: Machines, train: TrainConfig, overrides: Sequence[str], shards: bool
) -> str:
    """A shell command, with placeholders in capitals.

    Args:
        overrides: those of the user. All are kept, except those that the line decides.
        shards: whether the recipe or an override names the shards.
    """
    decided = {
        "train.micro_batch": (line.split.micro, train.micro_batch),
        "train.activation_checkpointing": (line.mode, train.activation_checkpointing),
    }
    one, many = [f"RANKS={machines.gpus}", "bash", "launchers/single_node.sh"], ["bash", "launchers/multi_node.sh"]
    return shlex.join(
        [
            *(one if machines.nodes == 1 else [*many, "HOSTFILE"]), "--config", recipe, "--deepspeed_config", line.file,
            *(word for word in overrides if word.partition("=")[0] not in decided),
            *([] if shards else ["data.shards=SHARDS"]),
            *(f"{key}={value}" for key, (value, before) in decided.items() if value != before or _said(key, overrides)),
        ]
    )  # fmt: skip


def _said(key: str, overrides: Sequence[str]) -> bool:
    return any(word.partition("=")[0] == key for word in overrides)
