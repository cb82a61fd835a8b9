"""A short training with stochastic depth, learned positions and validation, for options that must not change it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.commands import SMALL
from tests.support.paths import ROOT

GRAPHS_ONLY = "aot_eager_decomp_partition"
"""Torch's compiler up to, but without, the code for the machine: seconds instead of a minute."""


def recipe(shards: Path, checkpointing: str) -> tuple[str, ...]:
    return (
        *SMALL, f"data.shards={shards}", "data.workers=0", "train.global_batch=16", "train.micro_batch=4",
        "train.max_steps=6", "train.blr=1.6e-2", "train.precision=fp32", "model.drop_path=0.3",
        "model.positions=learned", "model.task_balancer=uncertainty", "log.every=1", "checkpoint.every=1000",
        "val.every=3", f"train.activation_checkpointing={checkpointing}",
    )  # fmt: skip


def never_whole(folder: Path) -> Path:
    """ZeRO-3 that keeps no weight gathered, however small: as with models of a real size."""
    tree = json.loads((ROOT / "ds_configs" / "zero3.json").read_text())
    tree["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    path = folder / "never_whole.json"
    path.write_text(json.dumps(tree))
    return path
