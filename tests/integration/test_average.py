"""Trainings with averaged weights: nothing that is learned changes, and the average survives resumes of every shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmae.engine.checkpoint.consolidate import load_trained
from mmae.model.saved.saved_model import load_saved
from tests.support.commands import SMALL, Command
from tests.support.compare import checkpoint_tensors, final_weights, largest_difference
from tests.support.group import Job, run_jobs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

END = 6
RECIPE = (
    *SMALL, "train.global_batch=16", f"train.max_steps={END}", "data.workers=0", "log.every=1", "checkpoint.every=100",
    "val.every=3", "model.drop_path=0", "train.precision=fp32", "model.task_balancer=uncertainty", "log.pictures=0",
)  # fmt: skip
EMA = "train.ema=64"
HALF = "train.stop_at=3"
WATCH = "tests.support.average_watch:beside_float64"


def job(run: str, shards: Path, *overrides: str, stage: int = 1, **more: Any) -> Job:
    return Job(run, f"zero{stage}", (*RECIPE, f"data.shards={shards}", *overrides), **more)


def records(run: Path, kind: str) -> list[dict[str, Any]]:
    return [line for text in (run / "log.jsonl").read_text().splitlines() if (line := json.loads(text))["kind"] == kind]


def last(run: Path) -> Path:
    return run / "checkpoints" / f"global_step{END}"


def averages(run: Path) -> dict[str, Tensor]:
    trained = load_trained(str(run), None, trust=False, averaged=True)
    assert trained.log_vars is not None
    return trained.model.state_dict() | {"log_vars": trained.log_vars}


@pytest.fixture(scope="module")
def runs(synthetic_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    stages = range(4)
    two = [job(f"off{stage}", synthetic_shards, stage=stage) for stage in (0, 3)]
    two += [
        job(f"{name}drop", synthetic_shards, "model.drop_path=0.3", *more)
        for name, more in (("off", ()), ("on", (EMA,)))
    ]
    two += [job(f"on{stage}", synthetic_shards, EMA, stage=stage, around=WATCH) for stage in stages]
    two += [job(f"half{stage}", synthetic_shards, EMA, HALF, stage=stage) for stage in stages]
    two += [job(f"halves{stage}", synthetic_shards, EMA, stage=stage, copy_of=f"half{stage}") for stage in stages]
    two += [job(f"{was}to{now}", synthetic_shards, EMA, stage=now, copy_of=f"half{was}")
            for was, now in ((0, 3), (2, 0), (3, 1))]  # fmt: skip
    two += [job("summed", synthetic_shards, EMA, "train.micro_batch=4", stage=2, around=WATCH)]
    two += [job("late", synthetic_shards, HALF), job("late", synthetic_shards, EMA)]
    two += [job("near", synthetic_shards, "train.ema=1")]
    two += [job("bf16", synthetic_shards, EMA, "train.precision=bf16", stage=2, around=WATCH)]
    one = [job(f"{was}to{now}alone", synthetic_shards, EMA, stage=now, copy_of=f"half{was}")
           for was, now in ((0, 2), (1, 3), (3, 0))]  # fmt: skip
    for ranks, jobs in ((2, two), (1, one)):
        for done in run_jobs(jobs, ranks, folder).values():
            assert (done.status, done.error) == (0, ""), done.run
    return folder


@pytest.mark.parametrize("kind", ["0", "3", "drop"])
def test_what_is_learned_is_the_same_bit_for_bit(runs: Path, kind: str) -> None:
    """At stage 3 masters are padded with whatever the memory held; the weights made of them are compared there."""
    off, on = (checkpoint_tensors(last(runs / f"{name}{kind}")) for name in ("off", "on"))
    assert len(off) > 50
    assert off.keys() == on.keys()
    padded = {name for name in off if kind == "3" and "fp32_flat_groups" in name}
    assert [name for name in off.keys() - padded if not torch.equal(off[name], on[name])] == []
    whole = [final_weights(runs / f"{name}{kind}") for name in ("off", "on")]
    assert [name for name in whole[0] if not torch.equal(whole[0][name], whole[1][name])] == []
    states = [sorted(last(runs / f"{name}{kind}").glob("rng_rank_*")) for name in ("off", "on")]
    assert [each.read_bytes() for each in states[0]] == [each.read_bytes() for each in states[1]]
    raw = [[record["losses"] for record in records(runs / f"{name}{kind}", "val")] for name in ("off", "on")]
    assert raw[0] == raw[1]
    assert "ema" not in records(runs / f"off{kind}", "val")[0]


@pytest.mark.parametrize("run", ["on0", "on1", "on2", "on3", "summed", "bf16"])
def test_each_rank_followed_its_part_in_float64(runs: Path, run: str) -> None:
    assert len(list((runs / run).glob(f"followed-*-{END}"))) == 2


@pytest.mark.parametrize("stage", range(4))
def test_a_resumed_average_is_the_same_bit_for_bit(runs: Path, stage: int) -> None:
    whole, halves = (sorted(last(runs / f"{name}{stage}").glob("average_rank_*")) for name in ("on", "halves"))
    assert [each.name for each in whole] == [f"average_rank_{rank}.safetensors" for rank in range(2 if stage else 1)]
    assert [each.read_bytes() for each in whole] == [each.read_bytes() for each in halves]
    validated = [records(runs / f"{name}{stage}", "val")[-1]["ema"] for name in ("on", "halves")]
    assert validated[0] == validated[1]


@pytest.mark.parametrize(
    "run",
    ["0to3", "2to0", "3to1", "0to2alone", "1to3alone", "3to0alone", "on0", "on2", "on3", "summed"],
)
def test_other_shapes_average_the_same(runs: Path, run: str) -> None:
    assert largest_difference(averages(runs / run), averages(runs / "on1"))[0] < 1e-4
    beside, expected = (records(runs / name, "val")[-1]["ema"]["losses"] for name in (run, "on1"))
    assert beside == {name: pytest.approx(loss, rel=1e-4) for name, loss in expected.items()}


def test_the_validated_weights_are_the_averaged_ones(runs: Path) -> None:
    near, on = (records(runs / name, "val")[-1] for name in ("near", "on1"))
    assert near["ema"]["losses"] == {name: pytest.approx(loss, rel=1e-3) for name, loss in near["losses"].items()}
    assert sum(on["ema"]["losses"].values()) > 1.01 * sum(on["losses"].values())


def test_an_average_that_begins_late_says_so(runs: Path) -> None:
    resumed = records(runs / "late", "resume")[-1]
    assert resumed["average_restarted"] is True
    assert resumed["changes"]["train.ema"] == [None, 64]
    assert not any(record["average_restarted"] for record in records(runs / "halves1", "resume"))


def test_the_export_holds_the_averages(runs: Path, here: Command) -> None:
    assert here("export", "on3", "model", "--ema", cwd=runs).status == 0
    saved, model = load_saved(str(runs / "model"), trust=False)
    expected = averages(runs / "on3")
    weights = dict(model.named_parameters())
    assert len(weights) > 50
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
    raw = final_weights(runs / "on3")
    assert sum(torch.equal(weights[name], raw[name]) for name in weights) < len(weights) / 4
    assert saved.extra["averaged_half_life"] == 64
    assert "averaged, half-life of 64 tiles" in (runs / "model" / "README.md").read_text()
    losses = records(runs / "on3", "val")[-1]["ema"]["losses"]
    assert saved.extra["training"]["validation"]["losses"] == pytest.approx(losses)
    refused = here("export", "off3", "none", "--ema", cwd=runs)
    assert refused.status == 2
    assert "holds no averaged weights" in refused.err
    assert not (runs / "none").exists()
    assert "averaged" in here("status", "on3", cwd=runs).out
