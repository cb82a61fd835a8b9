"""What a checkpoint says of itself. Reads; loads no weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmae.disk.json_text import parse_json
from mmae.disk.regular_file import read_regular_text
from mmae.errors import InputError
from mmae.run.layout import STATE, checkpoint_names

FORMAT = 2
"""Of a checkpoint's folder: 1 had no manifest."""


@dataclass(frozen=True)
class TrainState:
    """Where a run stands. Its place in the data is one integer, the step.

    Attributes:
        step: optimiser steps done.
        tiles_seen: step x global batch.
        world: ranks that wrote the checkpoint.
        zero_stage: of the optimiser's files.
        precision: of the weights: bf16, fp16 or fp32.
        shards: fingerprint of the shards' index; of several sets, with a space between.
        order_version: which order of tiles (`data.order`) the step counts in.
        versions: of mmae, torch and deepspeed, for people.
        keys: identity of the list of tiles that was trained on; empty without one.
        format: of the checkpoint's folder (`FORMAT`).
    """

    step: int
    tiles_seen: int
    world: int
    zero_stage: int
    precision: str
    shards: str
    order_version: int
    versions: dict[str, str]
    keys: str = ""
    format: int = 1


def read_state(checkpoint: Path) -> TrainState:
    """The state a checkpoint was written in.

    Raises:
        InputError: the file is damaged or of another version.
    """
    try:
        return TrainState(**parse_json(read_regular_text(checkpoint / STATE)))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{checkpoint / STATE}: cannot be read ({error}): resume from another checkpoint "
            f"with --resume (there are: {checkpoint_names(checkpoint.parent)})"
        ) from error
