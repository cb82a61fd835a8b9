"""A cool-down from a checkpoint of a run: its recipe, its folder, and that it trains as the run would have."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from mmae.config.recipe_file import load_config
from mmae.config.schema import Config
from mmae.engine.checkpoint.manifest import MANIFEST
from mmae.errors import InputError
from mmae.run.folder import RunFolder
from mmae.run.parent import Parent, read_parent
from mmae.scale.branch import branch_config, write_branch
from tests.support.commands import SMALL, Command
from tests.support.compare import checkpoint_tensors

TRUNK = ["train.schedule=wsd", "train.decay_share=0", "train.max_steps=40", "train.warmup_steps=2", "train.stop_at=20"]
NEW = RunFolder(Path("/new"))


def trunk(*overrides: str) -> Config:
    return load_config("debug", [*TRUNK, *overrides])


def test_a_branch_differs_from_its_trunk_in_the_schedule_alone() -> None:
    config = branch_config(trunk(), NEW, 10, 6, "linear", {"data.workers": 1})
    train = config.train
    assert (train.max_steps, train.decay_steps, train.decay_shape, train.stop_at) == (16, 6, "linear", None)
    same = trunk("train.max_steps=16", "train.stop_at=null", "train.decay_shape=linear", "run.dir=/new")
    overrides = [f"train.decay_share={train.decay_share!r}", "data.workers=1"]
    assert config == load_config("debug", [*TRUNK, *overrides, *_said(same)])


def _said(config: Config) -> list[str]:
    train = config.train
    return [f"train.max_steps={train.max_steps}", "train.stop_at=null", "train.decay_shape=linear", "run.dir=/new"]


@pytest.mark.parametrize(
    ("step", "decay", "said", "words"),
    [
        (10, 0, {}, "--decay 0"),
        (1, 5, {}, "--at 1: the learning rate still rises there"),
        (10, 5, {"train.max_steps": 3}, "train.max_steps follows from --run, --at"),
        (10, 5, {"train.seed": 3}, "train.seed is 0 in this run, and 3 now"),
    ],
)
def test_what_cannot_be_a_branch_is_refused(step: int, decay: int, said: dict[str, int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        branch_config(trunk(), NEW, step, decay, None, said)


def test_a_damaged_checkpoint_or_a_used_folder_leaves_nothing_behind(tmp_path: Path) -> None:
    checkpoint = tmp_path / "old" / "checkpoints" / "global_step10"
    checkpoint.mkdir(parents=True)
    (checkpoint / MANIFEST).write_text("{}")
    new = RunFolder(tmp_path / "new")
    with pytest.raises(InputError, match="damaged"):
        write_branch(new, checkpoint, trunk(), {})
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    new.path.mkdir()
    (new.path / "mine").touch()
    with pytest.raises(InputError, match="is not empty"):
        write_branch(new, checkpoint, trunk(), {})


@pytest.mark.process
@pytest.mark.slow
def test_a_branch_reads_the_trunks_tiles_and_resumes_bit_for_bit(
    synthetic_shards: Path, tmp_path: Path, command: Command
) -> None:
    words = ["--deepspeed_config", "zero2", f"data.shards={synthetic_shards}", *SMALL, "log.samples=true"]
    words += ["train.schedule=wsd", "train.decay_share=0", "train.max_steps=8", "checkpoint.every=4"]
    assert command("mmae", "train", "--config", "debug", *words, "run.dir=trunk").status == 0
    before = content(tmp_path / "trunk")
    branch = ["mmae", "branch", "trunk", "--at", "4", "--decay", "4"]
    assert command(*branch, "--run", "whole").status == 0
    assert command(*branch, "--run", "halves", "train.stop_at=6").status == 0
    configs = ["--config", "halves/config.yaml", "--deepspeed_config", "halves/ds_config.json"]
    done = command("mmae", "train", *configs, "train.stop_at=null")
    assert done.status == 0, done.err
    assert content(tmp_path / "trunk") == before

    whole, halves = (checkpoint_tensors(tmp_path / run / "checkpoints" / "global_step8") for run in ("whole", "halves"))
    assert whole.keys() == halves.keys()
    assert [name for name in whole if not torch.equal(whole[name], halves[name])] == []
    seen = {run: samples(tmp_path / run) for run in ("trunk", "whole", "halves")}
    assert seen["whole"] == seen["halves"] == [line for line in seen["trunk"] if line["step"] >= 4]
    assert read_parent(tmp_path / "halves") == Parent(str(tmp_path / "trunk"), 4)
    assert "step 4 of" in command("mmae", "status", "whole").out
    assert command(*branch, "--run", "whole").status == 2

    configs = ["--config", "trunk/config.yaml", "--deepspeed_config", "zero2"]
    again = command("mmae", "train", *configs, "--resume", "trunk/checkpoints/global_step4", "run.dir=other",
                    "train.data_seed=9", "train.stop_at=5")  # fmt: skip
    assert again.status == 0, again.err
    assert "train.data_seed None -> 9" in again.err
    assert samples(tmp_path / "other")[0]["rows"] != seen["whole"][0]["rows"]


def content(folder: Path) -> dict[str, str]:
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def samples(run: Path) -> list[dict[str, Any]]:
    """The rows of each micro-batch, and what became of them."""
    return [json.loads(line) for line in (run / "samples_rank0.jsonl").read_text().splitlines()]
