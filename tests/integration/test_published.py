"""A published checkpoint starts a run, and what the run trained goes back under published names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from mmae.config.schema import ModelConfig
from mmae.model.published.file import read_published
from tests.support.commands import Command, train_words
from tests.support.published_case import options, published_model, save_published

# As `SMALL` has it.
CONFIG = ModelConfig(size="nano", decoder_dim=32, decoder_depth=1, decoder_num_heads=4)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 3])
def test_a_run_starts_from_a_published_file(
    stage: int, synthetic_shards: Path, command: Command, tmp_path: Path
) -> None:
    weights = published_model(CONFIG, CONFIG.variant)
    file = save_published(tmp_path / "published.pth", weights, options(CONFIG))
    # A learning rate of 0 leaves the weights as they were.
    words = train_words(
        synthetic_shards, "run", f"model.init_from={file}", "train.max_steps=1", "train.blr=0",
        "train.precision=fp32", stage=stage,
    )  # fmt: skip
    done = command(*words)
    assert done.status == 0, done.err
    exported = command("mmae", "export", "run", "back.pth", "--format", "published")
    assert exported.status == 0, exported.err
    back = read_published(tmp_path / "back.pth")
    assert back.weights.keys() == weights.keys()
    assert [name for name, tensor in weights.items() if not torch.equal(back.weights[name], tensor)] == []
    assert back.args["decoder_num_heads"] == 4


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("opened",)


@pytest.mark.slow
def test_a_hostile_file_starts_no_run(synthetic_shards: Path, command: Command, tmp_path: Path) -> None:
    torch.save({"model": {}, "args": Hostile()}, tmp_path / "hostile.pth")
    done = command(*train_words(synthetic_shards, "run", "model.init_from=hostile.pth", ranks=1))
    assert done.status == 2, done.err
    assert "hostile.pth asks for posix.mkdir in its pickle, and nothing was run" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["hostile.pth"]
