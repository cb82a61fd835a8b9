"""The observer passes each step to what watches it, in order, and ends all of it at its close."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mmae.distributed.watchdog import Watchdog
from mmae.engine.telemetry import step_observer
from mmae.engine.telemetry.step_observer import StepObserver
from mmae.run.folder import RunFolder

PARTS = ("DamageLog", "StepRecords", "SampleLog", "StepProfiler")


class Recorder:
    """Notes every call of every part."""

    def __init__(self, name: str, calls: list[tuple[Any, ...]], arguments: tuple[Any, ...]) -> None:
        self.name, self.calls, self.arguments = name, calls, arguments

    def __getattr__(self, method: str) -> Any:
        def call(*values: Any) -> list[str]:
            self.calls.append((self.name, method, *values))
            return [method]

        return call


def made(
    folder: Path, calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, rank: int = 0
) -> tuple[StepObserver, Watchdog]:
    for name in PARTS:
        monkeypatch.setattr(step_observer, name, lambda *given, name=name: Recorder(name, calls, given))
    config = SimpleNamespace(train=SimpleNamespace(profiled=(2, 3)), log=SimpleNamespace(samples=True))
    spec, watchdog = SimpleNamespace(config=config, folder=RunFolder(folder)), Watchdog.none()
    log = SimpleNamespace(say=print)
    return StepObserver(cast(Any, spec), cast(Any, None), cast(Any, log), rank, 1, watchdog), watchdog


def test_a_step_is_seen_by_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    observer, _ = made(tmp_path, calls, monkeypatch)
    batches, prepared, stats, flag = (cast(Any, object()) for _ in range(4))
    observer.begins(2)
    observer.takes(2, batches, prepared)
    observer.made(2, stats, flag, flag, wanted=True)
    assert calls == [
        ("StepProfiler", "before", 2),
        ("DamageLog", "write", 2, batches),
        ("SampleLog", "write", 1, batches, prepared),
        ("StepRecords", "before"),
        ("StepRecords", "add", 2, stats, flag, flag, True),
        ("StepProfiler", "after", 2),
    ]
    assert observer.clock.step == 1


def test_records_are_read_late_or_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    observer, _ = made(tmp_path, [], monkeypatch)
    read: list[Any] = [*observer.read(5, everything=False), *observer.read(5, everything=True)]
    assert read == ["due", "drain"]


def test_the_watchdog_is_told_that_a_trace_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    observer, watchdog = made(tmp_path, [], monkeypatch)
    told: list[tuple[int, str]] = []
    monkeypatch.setattr(watchdog, "at", lambda step, phase: told.append((step, phase)))
    for step in (2, 3, 4):
        observer.made(step, *(cast(Any, None),) * 3, wanted=False)
    assert told == [(3, "save")]


@pytest.mark.parametrize(("rank", "steps"), [(0, (2, 3)), (1, None)])
def test_only_rank_0_traces(rank: int, steps: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    observer, _ = made(tmp_path, [], monkeypatch, rank)
    assert cast(Recorder, observer._profiler).arguments[1] == steps


def test_the_close_ends_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    made(tmp_path, calls, monkeypatch)[0].close()
    assert {call[0] for call in calls} == {"StepProfiler", "StepRecords", "SampleLog"}
    assert {call[1] for call in calls} == {"close"}
