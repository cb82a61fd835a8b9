"""How much disk space the future checkpoints of a run will take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmae.config.deepspeed import precision_of, zero_stage_of
from mmae.config.schema import Config
from mmae.disk.json_text import parse_json
from mmae.disk.regular_file import read_regular_text
from mmae.errors import InputError
from mmae.model.counts.named_parts import split_sizes
from mmae.plan.time_and_disk import checkpoint_bytes
from mmae.plan.traffic import NUMBER_BYTES
from mmae.run.folder import RunFolder
from mmae.run.layout import CHECKPOINT_GLOB


def bytes_to_come(folder: RunFolder, config: Config) -> int:
    """Bytes of the checkpoints that will be kept, plus one before the oldest is removed, less the existing ones.

    Raises:
        InputError: the run's ds_config.json is damaged.
    """
    try:
        merged: dict[str, Any] = parse_json(read_regular_text(folder.ds_config_file))
        stage, precision = zero_stage_of(merged), precision_of(merged)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder.ds_config_file}: cannot be read ({error}): start the run again") from error
    learned, frozen = (sum(sizes.values()) for sizes in split_sizes(config))
    averaged = config.train.ema is not None
    each = checkpoint_bytes(learned, stage, NUMBER_BYTES[precision], averaged, frozen)
    keep = config.checkpoint
    kept = config.train.max_steps // keep.keep_every if keep.keep_every else 0
    return max(1, keep.keep_last + 1 + kept + (keep.keep_best is not None) - _there(folder.checkpoints)) * each


def _there(checkpoints: Path) -> int:
    return sum(1 for _ in checkpoints.glob(CHECKPOINT_GLOB))
