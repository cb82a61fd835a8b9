"""Disk that checkpoints will still take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmae.config.recipe_file import load_config
from mmae.doctor.disk_space import bytes_to_come
from mmae.errors import InputError
from mmae.model.counts.parameter_sizes import parameter_sizes
from mmae.run.folder import RunFolder


def test_checkpoints_to_come(tmp_path: Path) -> None:
    config = load_config("debug", ["checkpoint.keep_last=2", "checkpoint.keep_every=0"])
    folder = RunFolder(tmp_path)
    with pytest.raises(InputError, match=r"ds_config\.json: cannot be read"):
        bytes_to_come(folder, config)
    stored = {"zero_optimization": {"stage": 1}, "bf16": {"enabled": True}, "fp16": {"enabled": False}}
    folder.ds_config_file.write_text(json.dumps(stored))
    each = 14 * sum(parameter_sizes(config.model).values())
    assert bytes_to_come(folder, config) == 3 * each
    for step in range(1, 5):
        (folder.checkpoints / f"global_step{step}").mkdir(parents=True)
    # The next one is written before the oldest goes.
    assert bytes_to_come(folder, config) == each
