"""A process that wants an op reports that its build takes long or waits."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from torch.utils import cpp_extension

from mmae.engine.operators import op_build
from tests.support.held_lock import held


@pytest.mark.process
def test_a_wait_is_reported_and_the_op_is_still_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    heard, said = threading.Event(), []

    def load(name: str, sources: list[str]) -> str:
        assert heard.wait(60)
        return f"{name} of {sources}"

    def say(line: str) -> None:
        said.append(line)
        heard.set()

    monkeypatch.setattr(cpp_extension, "load", load)
    op_build.announce_builds(say, look_s=0.01)
    # Twice is once.
    op_build.announce_builds(say, look_s=0.01)
    lock = op_build.build_folder("some_op") / "lock"
    with held(lock, "locks"):
        assert cpp_extension.load(name="some_op", sources=["a.cpp"]) == "some_op of ['a.cpp']"
    assert len(said) == 1
    assert "some_op" in said[0]


@pytest.mark.process
def test_where_torch_waits_for_a_file_that_of_a_dead_build_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    lock = op_build.build_folder("some_op") / "lock"
    monkeypatch.setattr(cpp_extension, "load", lambda name: lock.exists())
    monkeypatch.setattr(op_build, "waits_for_files", lambda: True)
    said: list[str] = []
    op_build.announce_builds(said.append)
    lock.touch()
    assert cpp_extension.load("some_op") is False  # type: ignore[call-arg]
    assert said == [f"removed {lock}: no living build holds it"]
