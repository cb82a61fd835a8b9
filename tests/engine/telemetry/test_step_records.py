"""The records of training steps: every field, from values that no step waited for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmae.config.batch_split import BatchSplit
from mmae.config.recipe_file import build_config
from mmae.engine.step import StepStats
from mmae.engine.telemetry.damage_log import DamageLog
from mmae.engine.telemetry.step_records import Record, StepRecords, of_ranks, peak_memory
from mmae.engine.telemetry.step_timer import StepTimer
from mmae.engine.telemetry.trackers import numbers_of
from mmae.run.spec import RunSpec
from tests.support.watching import watching

CONFIG = build_config({"train.global_batch": 32, "model.size": "nano"}, "test")
OUTPUTS, DOMAINS = len(CONFIG.model.outputs), len(CONFIG.model.in_domains)


class Engine(nn.Module):
    """What a record asks of DeepSpeed's engine."""

    def __init__(self, norm: Tensor | float | None, device: str = "cpu") -> None:
        super().__init__()
        self.device = torch.device(device)
        self.norm = norm
        self.optimizer = SimpleNamespace(cur_scale=4096)
        self.lr = 1e-3

    def get_global_grad_norm(self) -> Tensor | float | None:
        return self.norm

    def get_lr(self) -> list[float]:
        return [self.lr]

    def step(self) -> None:
        """As an optimiser step, after which the schedule stands at the next one, and a loss scale may have changed."""
        self.lr /= 2
        self.optimizer.cur_scale //= 2


def made(norm: Tensor | float | None, folder: Path, precision: str = "bf16", device: str = "cpu") -> StepRecords:
    plan = SimpleNamespace(
        config=CONFIG, precision=precision, split=BatchSplit(32, 1, 1), order=SimpleNamespace(epoch=lambda _: 0)
    )
    return StepRecords(cast(RunSpec, plan), cast(Any, Engine(norm, device)), StepTimer(0), DamageLog(folder, 0))


def stats(loss: float, left_out: float = 0.0, device: str = "cpu") -> StepStats:
    return StepStats(
        loss=torch.full((), loss, device=device),
        loss_O=torch.full((OUTPUTS,), loss / OUTPUTS, device=device),
        count_O=torch.full((OUTPUTS,), 32.0, device=device),
        hidden_M=torch.full((DOMAINS,), 0.75, device=device, dtype=torch.float64),
        valid_M=torch.full((DOMAINS,), 1.0, device=device, dtype=torch.float64),
        filled=torch.full((), 3.0, device=device, dtype=torch.float64),
        left_out=torch.full((), left_out, device=device, dtype=torch.float64),
        wanted_R=torch.zeros(0, device=device),
        finite_OB=(),
    )


def add(records: StepRecords, step: int, of: StepStats, wanted: bool, skipped: bool = False) -> None:
    flag = torch.full((), float(skipped), device=of.loss.device)
    records.before()
    records._engine.step()
    records.add(step, of, flag, flag, wanted=wanted)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process group of one rank, without processes."""
    monkeypatch.setattr(dist, "get_world_size", lambda: 1)
    monkeypatch.setattr(dist, "all_gather_into_tensor", lambda gathered, own: gathered.copy_(own))


def run(records: StepRecords, losses: list[float], every: int) -> Iterator[Record]:
    for step, loss in enumerate(losses, 1):
        add(records, step, stats(loss, left_out=step), wanted=step % every == 0)
        yield from records.due(step)
    yield from records.drain()


def test_a_record_says_the_step_and_the_mean_since_the_last(tmp_path: Path) -> None:
    found = list(run(made(torch.tensor(0.5), tmp_path), [1.0, 2.0, 4.0, 8.0, 16.0, 32.0], every=3))
    assert [(record["step"], record["loss"], record["loss_mean"]) for record in found] == [
        (3, 4.0, 7 / 3), (6, 32.0, 56 / 3)
    ]  # fmt: skip
    assert [record["damaged_tiles"] for record in found] == [1 + 2 + 3, 4 + 5 + 6]
    assert [record["tiles_seen"] for record in found] == [96, 192]
    assert found[0]["hidden_share"] == dict.fromkeys(CONFIG.model.in_domains, 0.75)
    assert found[0]["filled_tokens"] == 3
    assert found[0]["mfu"] is None
    assert found[0]["tiles_per_second"] * found[0]["step_seconds"] == pytest.approx(32)


def test_every_record_has_every_field(tmp_path: Path) -> None:
    norms: list[Tensor | float | None] = [torch.tensor(0.5), 0.5, None]
    found = [next(run(made(norm, tmp_path), [1.0], every=1)) for norm in norms]
    assert found[0].keys() == found[1].keys() == found[2].keys()
    assert [record["grad_norm"] for record in found] == [0.5, 0.5, None]


@pytest.mark.parametrize(("precision", "scale"), [("bf16", None), ("fp32", None), ("fp16", 4096.0)])
def test_the_loss_scale_is_that_of_fp16(precision: str, scale: float | None, tmp_path: Path) -> None:
    records = made(None, tmp_path, precision)
    assert next(run(records, [1.0], every=1))["loss_scale"] == scale
    # DeepSpeed's optimiser of stage 0 keeps it elsewhere.
    records._engine.optimizer = SimpleNamespace(loss_scale_config=SimpleNamespace(cur_scale=8), cur_scale=0)
    add(records, 2, stats(1.0), wanted=True)
    assert next(records.drain())["loss_scale"] == (8.0 if scale else None)


def test_a_share_of_the_peak_is_of_all_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmae.engine.telemetry.step_records.datasheet_flops", lambda *_: (1e12, "X1"))
    records = made(None, tmp_path)
    records._spec = replace_split(records._spec, world=4)
    record = next(run(records, [1.0], every=1))
    assert record["mfu"] == pytest.approx(records._flops_per_tile * record["tiles_per_second"] / 4e12)


def test_an_output_that_could_not_be_scored_has_no_loss(tmp_path: Path) -> None:
    records = made(None, tmp_path)
    none = replace(stats(0.0), count_O=torch.zeros(OUTPUTS))
    some = stats(3.0)
    some.count_O[1] = some.loss_O[1] = 0.0
    for step, of in enumerate((none, none, some, none), start=1):
        add(records, step, of, wanted=step % 2 == 0)
    first, second = records.drain()
    assert (first["loss"], first["loss_mean"], set(first["losses"].values())) == (None, None, {None})
    # The mean is of steps in which something was scored.
    assert (second["loss"], second["loss_mean"]) == (None, 3.0)
    add(records, 5, some, wanted=True)
    third = next(records.drain())
    assert third["loss"] == 3.0
    assert [loss is None for loss in third["losses"].values()] == [place == 1 for place in range(OUTPUTS)]
    # Trackers get numbers alone.
    name = CONFIG.model.outputs[1]
    numbers = numbers_of({"kind": "train", **third})
    assert f"train/losses/{name}" not in numbers
    assert numbers[f"train/scored/{name}"] == 0


def test_the_learning_rate_is_the_one_that_the_update_used(tmp_path: Path) -> None:
    records = made(None, tmp_path, "fp16")
    for step in (1, 2, 3):
        # Of a step that was left out too: the schedule goes on.
        add(records, step, stats(1.0), wanted=step != 2, skipped=step == 3)
    found = list(records.drain())
    assert [record["lr"] for record in found] == [1e-3, 2.5e-4]
    assert [record["loss_scale"] for record in found] == [4096, 1024]


def replace_split(plan: Any, world: int) -> Any:
    return SimpleNamespace(**{**vars(plan), "split": replace(plan.split, world=world)})


def test_a_skipped_step_is_recorded_as_skipped(tmp_path: Path) -> None:
    records = made(None, tmp_path)
    for step, skipped in ((1, False), (2, True)):
        add(records, step, stats(1.0), wanted=True, skipped=skipped)
    found = list(records.drain())
    assert [(record["skipped"], record["skipped_steps"]) for record in found] == [(False, 0), (True, 1)]


def test_after_a_failure_arrived_records_can_be_read(tmp_path: Path) -> None:
    records = made(None, tmp_path)
    add(records, 1, stats(1.0), wanted=True)
    assert [record["step"] for record in records.arrived()] == [1]
    assert list(records.drain()) == []


def test_counting_and_queueing_a_step_waits_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = made(torch.zeros((), device="meta"), tmp_path, device="meta")
    # Three numbers of the host, which a GPU gets from pinned memory.
    monkeypatch.setattr(StepRecords, "_of_all_ranks", lambda *_: torch.zeros(3, device="meta"))
    with watching() as seen:
        for step in range(1, 5):
            add(records, step, stats(1.0, device="meta"), wanted=step % 2 == 0)
    assert seen.waits == []
    assert seen.calls > 20


def test_the_slowest_rank_is_the_one_the_others_wait_for() -> None:
    #       own seconds, of these for data, peak bytes
    ranks = [[4.0, 1.0, 2e9], [10.0, 9.0, 1e9], [5.0, 0.0, 7e9], [6.0, 0.0, 3e9]]
    found = of_ranks([number for rank in ranks for number in rank], steps=2)
    assert found == {
        "slowest_rank": 1, "slowest_step_seconds": 5.0, "slowest_data_seconds": 4.5, "median_step_seconds": 2.5,
        "peak_memory_gb": 7.0,
    }  # fmt: skip
    assert of_ranks([0.0, 0.0, 0.0], steps=1)["slowest_rank"] == 0


def test_a_process_knows_its_peak() -> None:
    before = peak_memory(torch.device("cpu"))
    assert before > 50e6
    block = bytearray(before // 2)
    block[::4096] = b"x" * len(block[::4096])
    assert peak_memory(torch.device("cpu")) >= before
