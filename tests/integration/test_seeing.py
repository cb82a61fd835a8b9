"""What a real training shows of itself: records, pictures, traces, logs, bars, and what is said when it fails."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import pty
import struct
import subprocess
import termios
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import BIN, DEADLINE, SMALL, Command, Finished, run_command, train_words
from tests.support.paths import ROOT

FIELDS = {
    "kind", "time", "step", "epoch", "tiles_seen", "loss", "loss_mean", "losses", "scored", "hidden_share",
    "valid_share", "filled_tokens", "damaged_tiles", "skipped", "skipped_steps", "lr", "grad_norm", "loss_scale",
    "tiles_per_second", "step_seconds", "mfu", "data_wait_share", "save_seconds", "val_seconds", "eval_seconds",
    "slowest_rank", "slowest_step_seconds",
    "slowest_data_seconds", "median_step_seconds", "peak_memory_gb",
}  # fmt: skip
HOST_TIMES = {
    "time", "tiles_per_second", "step_seconds", "data_wait_share", "save_seconds", "val_seconds", "eval_seconds",
    "slowest_rank",
    "slowest_step_seconds", "slowest_data_seconds", "median_step_seconds", "peak_memory_gb",
}  # fmt: skip


def records(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [record for record in lines if record["kind"] == kind]


def words_of(shards: Path, run: str, *overrides: str) -> list[str]:
    return ["--config", "debug", f"data.shards={shards}", f"run.dir={run}", *SMALL, *overrides]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("seeing")


@pytest.fixture(scope="module")
def seen(synthetic_shards: Path, home: Path) -> Finished:
    """Two ranks at ZeRO-3, with everything on that can be."""
    words = train_words(
        synthetic_shards, "run", "train.max_steps=5", "log.every=2", "val.every=3", "checkpoint.every=3",
        "train.profile=2:3", "log.tensorboard=true", "log.pictures=2", "eval.every=3", "eval.tasks=[land_cover]",
        "eval.tiles=48", "checkpoint.keep_best=val.rmse.depth", stage=3,
    )  # fmt: skip
    done = run_command(*words, cwd=home)
    assert done.status == 0, done.err
    return done


def test_every_record_has_every_field(seen: Finished, home: Path) -> None:
    found = records(home / "run", "train")
    assert [record["step"] for record in found] == [2, 4, 5]
    assert all(record.keys() == FIELDS for record in found)
    assert all(record["loss_mean"] > 0 and record["grad_norm"] > 0 and record["loss_scale"] is None for record in found)
    assert found[2]["loss_mean"] == found[2]["loss"]
    assert found[1]["val_seconds"] > 0
    assert found[1]["save_seconds"] > 0
    assert all(0 <= record["slowest_rank"] <= 1 and record["peak_memory_gb"] > 0.05 for record in found)
    assert all(0 < record["slowest_step_seconds"] <= record["step_seconds"] * 3 for record in found[1:])
    # In the order of steps, and each before what is said of the same step.
    order = [(record["step"], record["kind"]) for kind in ("train", "val", "eval", "save", "end")
             for record in records(home / "run", kind)]  # fmt: skip
    lines = [json.loads(line) for line in (home / "run" / "log.jsonl").read_text().splitlines()][1:]
    ranks = {"train": 0, "val": 1, "eval": 2, "save": 3, "end": 4}
    assert [(line["step"], line["kind"]) for line in lines] == sorted(order, key=lambda each: (each[0], ranks[each[1]]))
    assert lines[-1]["why"] == "finished"


def test_pictures_traces_and_logs_lie_where_the_readme_says(seen: Finished, home: Path) -> None:
    run = home / "run"
    assert sorted(path.name for path in (run / "pictures").iterdir()) == ["step_3.png", "step_5.png"]
    with gzip.open(run / "profile" / "steps_2-3.json.gz", "rt") as file:
        assert json.load(file)["traceEvents"]
    assert sorted(path.name for path in (run / "logs").glob("rank_*")) == ["rank_0.log", "rank_1.log"]
    assert "starting: nano MultiMAE, 2 ranks" in (run / "logs" / "rank_0.log").read_text()
    (events,) = (run / "tensorboard").iterdir()
    assert b"train/losses/rgb" in events.read_bytes()
    assert b"val/pictures" in events.read_bytes()
    for scores in (b"val/rmse/depth", b"val/iou/semseg", b"val/iou_of_classes/semseg/tree", b"eval/scores/land_cover"):
        assert scores in events.read_bytes()
    # For logs, not a bar: a line of the first record.
    assert seen.err.count("tiles/s") == 1
    assert "step 2 of 5: loss" in seen.err


def test_status_says_how_it_went(seen: Finished, home: Path, here: Command) -> None:
    done = here("status", "run", cwd=home)
    assert done.status == 0, done.err
    assert "run: finished" in done.out
    assert "5 of 5 (100.0%)" in done.out
    assert "global_step5" in done.out
    (score,) = {record["scores"]["land_cover"] for record in records(home / "run", "eval") if record["step"] == 5}
    assert f"probes      land_cover {score:.3g} at step 5" in done.out
    depth = {record["step"]: record["rmse"]["depth"] for record in records(home / "run", "val")}
    best = min(depth, key=lambda step: depth[step])
    assert f"best        global_step{best}, val.rmse.depth {depth[best]:.3g}" in done.out
    last = json.loads(here("status", "run", "--json", cwd=home).out)
    assert last["train"]["losses"] == seen.last_json["losses"]


def at_a_terminal(words: list[str], cwd: Path) -> tuple[Finished, str]:
    """Run a command whose stderr is a terminal of 120 columns; how it ended, and what the terminal got."""
    leader, follower = pty.openpty()
    fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    shown = b""
    with subprocess.Popen(words, cwd=cwd, env=env, stderr=follower, stdout=subprocess.PIPE, text=True) as process:
        os.close(follower)
        # At its end a terminal fails to be read.
        with suppress(OSError):
            while part := os.read(leader, 65536):
                shown += part
        out, _ = process.communicate(timeout=DEADLINE)
    os.close(leader)
    return Finished(process.returncode, out, shown.decode()), shown.decode()


AT_ONCE = """
import sys, time, atexit
from mmae.engine import deferred; from mmae.engine.telemetry import trackers
deferred.DEFERRED_STEPS = 0
trackers.END_SECONDS = 0.5
from mmae.train import main
sys.exit(main())
"""
"""A training that reads every value at once, and does not wait long for a tracker that hangs."""

HANGING_WANDB = """
import atexit, time
class Run:
    def define_metric(self, *_, **__): ...
    def log(self, *_): time.sleep(10_000)
    def finish(self): time.sleep(10_000)
def init(**_):
    atexit.register(time.sleep, 10_000)
    return Run()
def Settings(**_): ...
Image = str
"""


def test_late_values_are_the_same_and_a_hanging_wandb_costs_nothing(
    synthetic_shards: Path, tmp_path: Path, command: Command
) -> None:
    steps = ("train.max_steps=6", "log.every=1", "val.every=0", "log.pictures=0")
    plain, shown = at_a_terminal(["mmae", "train", *words_of(synthetic_shards, "late", *steps)], tmp_path)
    assert plain.status == 0, plain.err
    # People get a bar, and no lines beside it.
    assert "step 6 of 6" in shown
    assert "tiles/s" in shown
    assert "step 1 of 6: loss" not in shown
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "wandb.py").write_text(HANGING_WANDB)
    # It hangs for ever, and so would who waited for it.
    hanging = command(
        "python", "-c", AT_ONCE, *words_of(synthetic_shards, "at-once", *steps, "log.wandb=true"),
        PYTHONPATH=f"{tmp_path / 'fake'}:{ROOT}",
    )  # fmt: skip
    assert hanging.status == 0, hanging.err
    assert hanging.last_json["losses"] == plain.last_json["losses"]
    assert hanging.err.count("wandb:") == 1, hanging.err
    late, at_once = records(tmp_path / "late", "train"), records(tmp_path / "at-once", "train")
    assert [record["step"] for record in late] == [1, 2, 3, 4, 5, 6]
    same = [{key: value for key, value in record.items() if key not in HOST_TIMES} for record in late]
    assert same == [{key: value for key, value in record.items() if key not in HOST_TIMES} for record in at_once]
    slow, quick = (found[-1]["time"] - found[1]["time"] for found in (at_once, late))
    # It hangs for ever, so minutes of another program's work do not matter.
    assert slow < quick + 60


OUT_OF_MEMORY = """
import resource, sys, torch
from mmae.engine import step
from mmae.train import main
real = step.optimiser_step
calls = []
def starved(*args):
    calls.append(1)
    if len(calls) == 3:
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 40_000_000, -1))
        # A step of so small a model may live on memory that earlier steps gave back.
        torch.zeros(100_000_000)
    return real(*args)
step.optimiser_step = starved
sys.exit(main())
"""


def test_a_recipe_that_does_not_fit_is_told_what_to_change(
    synthetic_shards: Path, tmp_path: Path, command: Command, here: Command
) -> None:
    words = words_of(synthetic_shards, "run", "train.max_steps=9", "log.every=1", "data.workers=0")
    done = command("python", "-c", OUT_OF_MEMORY, *words, PYTHONPATH=str(ROOT))
    assert done.status == 2, done.out + done.err
    lines = [line for line in done.err.splitlines() if line.startswith("mmae: error:")]
    assert len(lines) == 1, done.err
    assert "Traceback" not in done.err
    assert "rank 0 is out of memory on the host (micro-batch 8" in lines[0]
    remedies = "activation_checkpointing=selective", "activation_checkpointing=full", "micro_batch=4"
    assert ", ".join(f"train.{remedy}" for remedy in remedies) in lines[0]
    # What had happened by then is in the log.
    assert [record["step"] for record in records(tmp_path / "run", "train")] == [1, 2]
    (end,) = records(tmp_path / "run", "end")
    assert end["why"] == "error"
    status = here("status", "run")
    assert status.status == 1
    assert "run: failed (DoesNotFitError" in status.out


FAILS_ON_RANK_1 = """
import os, sys
from mmae.engine import step
from mmae.train import main
real = step.prepare_step
def failing(*args):
    if os.environ["RANK"] == "1":
        raise RuntimeError("a cosmic ray")
    return real(*args)
step.prepare_step = failing
sys.exit(main())
"""


@pytest.mark.slow
def test_a_rank_that_fails_says_which_and_where(synthetic_shards: Path, tmp_path: Path, command: Command) -> None:
    (tmp_path / "failing.py").write_text(FAILS_ON_RANK_1)
    words = train_words(synthetic_shards, "run", "train.max_steps=3")
    words[words.index("--module") : words.index("--module") + 2] = ["failing.py"]
    done = command(*words, PYTHONPATH=str(ROOT))
    assert done.status == 1
    said = [line for line in done.err.splitlines() if line.startswith("mmae: rank 1 on ")]
    assert len(said) == 1
    assert said[0].endswith("failed with RuntimeError: a cosmic ray: traceback in run/logs/rank_1.log")
    assert "in failing" in (tmp_path / "run" / "logs" / "rank_1.log").read_text()
