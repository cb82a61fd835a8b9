"""Frozen parameters and persistent buffers come back as they were; nothing else is stored."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from mmae.engine.checkpoint.contents.frozen_state import (
    FROZEN_TENSORS,
    frozen_tensors,
    load_frozen_tensors,
    read_frozen_tensors,
)


class Part(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.trained = nn.Parameter(torch.full((2,), value))
        self.frozen = nn.Parameter(torch.full((3,), value), requires_grad=False)
        self.register_buffer("kept", torch.full((2, 2), value).T)
        self.register_buffer("passing", torch.full((1,), value), persistent=False)


def test_they_come_back_and_nothing_else(tmp_path: Path) -> None:
    old, new = Part(1.0), Part(2.0)
    stored = frozen_tensors(old)
    assert stored.keys() == {"frozen", "kept"}
    old.frozen.data.zero_()
    save_file(stored, tmp_path / FROZEN_TENSORS)
    load_frozen_tensors(new, tmp_path)
    assert new.state_dict()["frozen"].tolist() == [1.0] * 3
    assert new.state_dict()["kept"].tolist() == [[1.0] * 2] * 2
    assert new.trained.tolist() == [2.0] * 2
    assert dict(new.named_buffers())["passing"].tolist() == [2.0]


def test_a_checkpoint_without_any_changes_nothing(tmp_path: Path) -> None:
    module = Part(2.0)
    assert read_frozen_tensors(tmp_path) == {}
    load_frozen_tensors(module, tmp_path)
    assert module.frozen.tolist() == [2.0] * 3
