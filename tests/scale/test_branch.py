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
from mmae.errors import InputError
from mmae.run.folder import RunFolder, recipe_text
from mmae.run.parent import Parent, read_parent
from mmae.scale.branch import branch_config
from tests.support.checkpoint_files import WEIGHTS, save_checkpoint
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


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A run with a checkpoint without weights."""
    run = RunFolder(tmp_path / "old")
    run.path.mkdir()
    run.config_file.write_text(recipe_text(trunk(f"run.dir={run.path}")))
    # Of two ranks.
    of_two = {"train_micro_batch_size_per_gpu": 8, "train_batch_size": 16, "zero_optimization": {"stage": 1}}
    run.ds_config_file.write_text(json.dumps({**of_two, "bf16": {"enabled": True}}))
    (save_checkpoint(run.checkpoints, 10) / "band_stats.json").write_text("{}")
    return run.path


def test_another_users_file_does_not_become_ones_own(old: Path, here: Command) -> None:
    """A checkpoint can run code, and a copy of it would be this user's."""
    (old / "checkpoints" / "global_step10" / WEIGHTS).chmod(0o666)
    done = here("branch", str(old), "--at", "10", "--decay", "2", "--run", "new", "--prepare")
    assert done.status == 2
    assert f"{WEIGHTS}: is writable by everyone" in done.err
    assert not (old.parent / "new").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--run", "old/new"], "lies within the run"),
        (["--run", "new", "data.shards=nowhere"], "nowhere: no such folder"),
        (["--run", "new", "--prepare"], f"damaged: {WEIGHTS} does not hold what was written"),
        (["--run", "new", "--deepspeed_config", "zero9"], "zero9"),
    ],
)
def test_what_would_not_train_leaves_no_folder(old: Path, here: Command, words: list[str], why: str) -> None:
    # The size is right, the content is not.
    weights = old / "checkpoints" / "global_step10" / WEIGHTS
    weights.write_text(weights.read_text().upper())
    done = here("branch", str(old), "--at", "10", "--decay", "2", *words)
    assert done.status == 2
    assert why in done.err
    assert {path.name for path in old.parent.iterdir()} == {"old"}


def test_a_branch_of_a_run_of_two_ranks_is_for_any_number(old: Path, here: Command) -> None:
    words = ["branch", old, "--at", "10", "--decay", "2", "--prepare", "--run"]
    prepared = here(*words, "new")
    assert prepared.status == 0, prepared.err
    assert f"--deepspeed_config={old.parent}/new/ds_config.json" in prepared.out
    assert json.loads((old.parent / "new" / "ds_config.json").read_text()).keys() == {"zero_optimization", "bf16"}
    assert "is not empty" in here(*words, "new").err


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
