"""A checkpoint's `state.json`: where the run stood, and with which data and software."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mmae.disk.json_text import parse_json
from mmae.disk.regular_file import read_regular_text
from mmae.errors import InputError
from mmae.run.layout import STATE, checkpoint_names

FORMAT = 2
"""Version of a checkpoint's layout. Version 1 had no manifest."""


@dataclass(frozen=True)
class TrainState:
    """Where a run stands. Its place in the data is one integer, the step.

    Attributes:
        step: optimiser steps done.
        tiles_seen: step x global batch.
        world: ranks that wrote the checkpoint.
        zero_stage: the ZeRO stage of the optimiser's files.
        precision: the precision of the weights: bf16, fp16 or fp32.
        shards: fingerprint of the shards' index; several are separated by spaces.
        order_version: version of the order of tiles (`mmae.data.sampling.order`).
        versions: the versions of mmae, torch, deepspeed and others, for people to read.
        keys: identity of the list of tiles (`data.keys`); empty without a list.
        format: the version of the checkpoint's layout (`FORMAT`).
        scores: the scores of this step by name (`mmae.config.score_names`), finite ones only.
        protocol: that of the probes among them (`EvalConfig.protocol`).
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
    scores: dict[str, float] = field(default_factory=dict)
    protocol: str = ""


def read_state(checkpoint: Path) -> TrainState:
    """Read a checkpoint's state.

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
