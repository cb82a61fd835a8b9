"""Traces of steps."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch

from mmae.engine.telemetry.profiler import StepProfiler


def work() -> None:
    torch.ones(8, 8) @ torch.ones(8, 8)


def steps(profile: StepProfiler, first: int, last: int) -> None:
    for step in range(first, last + 1):
        profile.before(step)
        work()
        profile.after(step)


def operators(path: Path) -> int:
    with gzip.open(path, "rt") as file:
        return sum(event.get("name") == "aten::mm" for event in json.load(file)["traceEvents"])


def test_the_named_steps_are_traced(tmp_path: Path) -> None:
    said: list[str] = []
    profile = StepProfiler(tmp_path / "profile", (3, 4), said.append)
    steps(profile, 1, 6)
    assert [path.name for path in (tmp_path / "profile").iterdir()] == ["steps_3-4.json.gz"]
    assert operators(tmp_path / "profile" / "steps_3-4.json.gz") == 2
    assert len(said) == 1


def test_a_run_that_begins_or_ends_within_the_range_traces_its_part(tmp_path: Path) -> None:
    profile = StepProfiler(tmp_path, (1, 9), lambda _: None)
    steps(profile, 3, 5)
    profile.close()
    profile.close()
    assert [path.name for path in tmp_path.iterdir()] == ["steps_3-5.json.gz"]


def test_without_a_range_nothing_happens(tmp_path: Path) -> None:
    profile = StepProfiler(tmp_path / "profile", None, pytest.fail)
    steps(profile, 1, 3)
    profile.close()
    assert list(tmp_path.iterdir()) == []


def test_a_trace_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "profile").write_text("a file")
    said: list[str] = []
    profile = StepProfiler(tmp_path / "profile", (1, 1), said.append)
    steps(profile, 1, 3)
    assert len(said) == 1
    assert "no trace" in said[0]
