"""SIGKILL of `mmae branch` and `mmae ladder`: what was there stays unharmed, and the same command goes on."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from mmae.scaling_law.ladder_file import Rung, read_ladder
from tests.support.commands import DEADLINE, SMALL, Command, command_environment
from tests.support.compare import checkpoint_tensors
from tests.support.live import records_so_far

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(3600)]

SMALLER = [*SMALL, "data.workers=0", "log.every=1"]


def killed(words: Sequence[str], cwd: Path, begun: Callable[[], bool], delay: float) -> bool:
    """Start a command and kill it so long after something has begun; whether it was still at work then."""
    process = subprocess.Popen(
        words, cwd=cwd, env=command_environment(RANKS="1"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + DEADLINE
        while not begun() and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.01)
        time.sleep(delay)
        return process.poll() is None
    finally:
        process.kill()
        process.wait()


def content(folder: Path) -> dict[str, str]:
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def steps(run: Path) -> int:
    return max((record["step"] for record in records_so_far(run, "train")), default=0)


def test_a_killed_branch_leaves_its_trunk_unharmed_and_goes_on_bit_for_bit(
    synthetic_shards: Path, tmp_path: Path, command: Command
) -> None:
    draw = random.Random(19)
    trunk = ["--config", "debug", f"data.shards={synthetic_shards}", *SMALLER, "train.schedule=wsd", "log.samples=true"]
    trunk += ["train.decay_share=0", "train.max_steps=4", "run.dir=trunk", "train.ema=64", "train.frozen=[tokenizer]"]
    done = command("mmae", "train", *trunk)
    assert done.status == 0, done.err
    before = content(tmp_path / "trunk")
    branch = ["mmae", "branch", "trunk", "--at", "4", "--decay", "8"]
    more = ["checkpoint.every=2", "val.every=0"]
    done = command(*branch, "--run", "whole", *more)
    assert done.status == 0, done.err

    cool, kills = tmp_path / "cool", 0
    for number in range(3):
        # The first kill may hit the making of the folder.
        words = [*branch, "--run", "cool", *more]
        if cool.exists():
            words = ["mmae", "train", "--config", "cool/config.yaml", "--deepspeed_config", "cool/ds_config.json"]
        reached = steps(cool) + draw.randint(1, 2)

        def begun(first: bool = number == 0, step: int = reached) -> bool:
            return any(tmp_path.glob("*cool*")) if first else steps(cool) >= step

        kills += killed(words, tmp_path, begun, draw.random() * 0.2)
        assert content(tmp_path / "trunk") == before
    if not cool.exists():
        words = [*branch, "--run", "cool", *more]
    done = command(*words)
    assert done.status == 0, done.err
    assert kills > 1
    assert content(tmp_path / "trunk") == before
    whole, halves = (checkpoint_tensors(tmp_path / run / "checkpoints" / "global_step12") for run in ("whole", "cool"))
    assert whole.keys() == halves.keys()
    assert [name for name in whole if not torch.equal(whole[name], halves[name])] == []
    averages = [
        run / "checkpoints" / "global_step12" / "average_rank_0.safetensors" for run in (tmp_path / "whole", cool)
    ]
    assert averages[0].read_bytes() == averages[1].read_bytes()
    # A folder that a kill left half made has a hidden name.
    assert {path.name for path in tmp_path.iterdir() if path.name[0] != "."} == {"trunk", "whole", "cool"}


def test_a_killed_ladder_goes_on_to_what_an_undisturbed_one_reaches(
    synthetic_shards: Path, tmp_path: Path, command: Command
) -> None:
    small = [word for word in SMALLER if not word.startswith(("model.size", "train.warmup_steps"))]
    words = ["mmae", "ladder", "debug", "--sizes", "nano", "--budgets", "32,128", f"data.shards={synthetic_shards}"]
    words += [*small, "train.global_batch=16", "train.precision=fp32"]
    # Two runs are trained and make no law.
    assert "too few points for a law: 2 runs" in command(*words, "--out", "whole", RANKS="1").err

    cut = tmp_path / "cut"
    first, second = (cut / "runs" / f"nano-{budget}" for budget in (32, 128))
    again = [*words, "--out", "cut"]
    # Before its first run; within the first; within the second, after a checkpoint.
    moments = (cut.exists, partial(has_reached, first, 1), partial(has_reached, second, 3))
    for begun in moments:
        assert killed(again, tmp_path, begun, 0.0)
        # The run that was at work is told to save and stop, and a start is refused until it has.
        until = time.monotonic() + DEADLINE
        while list(cut.glob("runs/*/.lock")):
            assert time.monotonic() < until
            time.sleep(0.05)
    kept = (first / "log.jsonl").read_bytes()
    done = command(*again, RANKS="1")
    assert "nano-32: done before" in done.err
    assert "8 steps, goes on" in done.err
    assert (first / "log.jsonl").read_bytes() == kept
    assert len(records_so_far(second, "resume")) == 1
    assert rungs(cut) == rungs(tmp_path / "whole")


def has_reached(run: Path, step: int) -> bool:
    return steps(run) >= step


def rungs(folder: Path) -> list[Rung]:
    """What the runs reached, without their time."""
    return [replace(each, seconds=None) for each in read_ladder(folder).rungs]
