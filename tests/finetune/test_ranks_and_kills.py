"""Fine-tunings in processes of their own: any launcher and number of ranks, and ends by SIGKILL."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mmae.data.shards.index import Index
from mmae.run.layout import newest_first
from tests.support.commands import BIN, command_environment, free_port, run_command
from tests.support.live import records_so_far
from tests.support.tuning_case import labelled_set, tuning_words

pytestmark = [pytest.mark.process, pytest.mark.slow]

MODULE = "mmae.finetune.command"
AUGMENTED = ("train.cutmix=1.0", "train.random_erase=0.5", "train.ema=0.9", "model.drop_path=0.3",
             "task.class_weights=balanced", "train.max_steps=20", "train.micro_batch=4")  # fmt: skip


def results(run: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((run / "results.json").read_text())
    return read


def losses(run: Path) -> list[float]:
    return [record["loss"] for record in records_so_far(run, "train")]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Index]:
    """A run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    index = labelled_set(folder)
    done = run_command(sys.executable, "-m", MODULE, *tuning_words(folder, index, *AUGMENTED), cwd=folder, deadline=600)
    assert done.status == 0, done.err
    return folder / "run", index


LAUNCHERS = {
    "torchrun": lambda port: ["torchrun", "--nproc-per-node", "2", "--master-port", port, "-m", MODULE],
    "accelerate": lambda port: [
        "accelerate", "launch", "--cpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no",
        "--dynamo_backend", "no", "--main_process_port", port, "-m", MODULE,
    ],
    "deepspeed": lambda port: ["deepspeed", "--num_gpus", "2", "--master_port", port, "--module", MODULE],
}  # fmt: skip


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_ranks_of_any_launcher_have_the_losses_and_scores_of_one(
    launcher: str, tmp_path: Path, alone: tuple[Path, Index]
) -> None:
    run, index = alone
    words = LAUNCHERS[launcher](str(free_port()))
    done = run_command(
        str(BIN / words[0]), *words[1:], *tuning_words(tmp_path, index, *AUGMENTED), cwd=tmp_path, deadline=600
    )
    assert done.status == 0, done.err
    assert done.last_json["step"] == 20
    ours = losses(tmp_path / "run")
    assert len(ours) == 20
    assert ours == pytest.approx(losses(run), abs=1e-5)
    found, expected = results(tmp_path / "run"), results(run)
    assert found["test"]["confusion"] == expected["test"]["confusion"]
    assert found["val"]["scores"] == expected["val"]["scores"]


@pytest.mark.timeout(2400)
def test_killed_at_random_and_started_again_equals_never_killed(tmp_path: Path, alone: tuple[Path, Index]) -> None:
    run, index = alone
    words = [sys.executable, "-m", MODULE, *tuning_words(tmp_path, index, *AUGMENTED, "checkpoint.every=1")]
    draw, kills = random.Random(time.time_ns()), 0
    own = tmp_path / "run"
    for _ in range(3):
        before = len(records_so_far(own, "train"))
        process = subprocess.Popen(
            words, cwd=tmp_path, env=command_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            until = time.monotonic() + 300
            more = draw.randint(2, 6)
            while process.poll() is None and len(records_so_far(own, "train")) < before + more:
                assert time.monotonic() < until
                time.sleep(0.02)
            time.sleep(draw.random() * 0.05)
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
            process.wait()
        if (own / "results.json").exists():
            break
    done = run_command(*words, cwd=tmp_path, deadline=600)
    assert done.status == 0, done.err
    assert kills > 1
    assert losses(own) == losses(run)
    ours, theirs = (newest_first(each / "checkpoints")[0] for each in (own, run))
    for name in ("model", "optimizer", "average", "best"):
        one, other = (load_file(each / f"{name}.safetensors") for each in (ours, theirs))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), name
    assert results(own)["test"] == results(run)["test"]
