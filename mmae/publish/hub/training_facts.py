"""What a run tells about the training of its model, JSON-able, for config.json and the model card.

Nothing in it says where the run, its data or its machines are: paths, addresses and hosts are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmae.errors import InputError

if TYPE_CHECKING:
    from mmae.config.schema import Config
    from mmae.run.folder import RunFolder

RECIPE_KEYS: Final = (
    "train.max_steps", "train.global_batch", "train.schedule", "train.decay_share", "train.decay_shape", "train.blr",
    "train.min_lr", "train.warmup_steps", "train.weight_decay", "train.opt_betas", "train.clip_grad", "train.seed",
    "train.data_seed", "train.frozen", "train.lr_multipliers", "data.crop", "data.flip", "data.labels", "data.fraction",
    "data.max_tiles", "data.weights", "model.num_encoded_tokens", "model.alphas", "model.drop_path",
    "model.task_balancer", "model.loss_on_unmasked", "model.parametrisation", "model.paper_exact",
)  # fmt: skip
"""Recipe keys that say how a model was trained. None of them is a place."""


def training_facts(folder: RunFolder, config: Config, step: int, averaged: bool = False) -> dict[str, Any]:
    """The facts of a run at a checkpoint. What the run's folder does not hold any more is left out.

    Args:
        step: of the checkpoint.
        averaged: the validation is that of the averaged weights.
    """
    from mmae.config.schema import flatten
    from mmae.run.parent import read_parent

    flat = flatten(config)
    facts: dict[str, Any] = {"recipe": {key: flat[key] for key in RECIPE_KEYS}}
    facts |= _of_checkpoint(folder, step) | _of_log(folder, step, averaged)
    if (parent := read_parent(folder.path)) is not None:
        facts["parent"] = {"run": parent.name, "step": parent.step}
    if sources := _sources(config):
        facts["sources"] = sources
    return facts


def _of_checkpoint(folder: RunFolder, step: int) -> dict[str, Any]:
    from mmae.engine.checkpoint.contents.train_state import read_state
    from mmae.run.layout import name_of

    with suppress(InputError):
        state = read_state(folder.checkpoints / name_of(step))
        return {
            "tiles_seen": state.tiles_seen,
            "precision": state.precision,
            "shards": state.shards.split(),
            "versions": state.versions,
        }
    return {}


def _of_log(folder: RunFolder, step: int, averaged: bool) -> dict[str, Any]:
    """The last validation up to the checkpoint's step."""
    from mmae.disk.json_text import standard_json
    from mmae.run.log_reader import LogRecords, step_of_record

    try:
        records = LogRecords(folder.log_file).all("val")
    except OSError:
        return {}
    found = {
        step_of_record(record): losses
        for record in records
        if step_of_record(record) <= step
        and isinstance(losses := (record.get("ema") or {} if averaged else record).get("losses"), Mapping)
    }
    if not found:
        return {}
    last = list(found)[-1]
    return {"validation": {"step": last, "losses": standard_json(found[last])}}


def _sources(config: Config) -> list[dict[str, Any]]:
    """The files that the shard sets were packed from, by name; empty where a set is not on this machine any more."""
    from mmae.addresses import is_remote
    from mmae.data.shards.index import open_index

    found = []
    for location in config.data.locations:
        if is_remote(location) or not Path(location).is_dir():
            return []
        try:
            index = open_index(location)
        except InputError:
            return []
        splits = {split: int(index.of_split(split).size) for split in index.splits}
        found.append(
            {
                "name": Path(index.source.name).name,
                "fingerprint": index.source.fingerprint,
                "shards": index.fingerprint,
                "tiles": splits,
            }
        )
    return found
