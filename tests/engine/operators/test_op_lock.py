"""Which process holds a lock in torch's folder of extensions, and what a waiting start prints."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from mmae.engine.operators import op_lock
from mmae.engine.operators.op_lock import (
    Holder,
    break_dead,
    cache_root,
    holder_of,
    locks,
    said_while_waiting,
    waiting_line,
)
from tests.support.held_lock import held


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    (tmp_path / "op").mkdir()
    return tmp_path / "op" / "lock"


@pytest.mark.process
@pytest.mark.parametrize("how", ["locks", "keeps open"])
def test_a_living_holder_is_named_and_its_lock_stays(lock: Path, how: str) -> None:
    with held(lock, how) as other:
        holder = holder_of(lock)
        assert holder is not None
        assert (holder.pid, "python" in holder.command) == (other.pid, True)
        assert not break_dead(lock)
        assert lock.exists()


@pytest.mark.process
@pytest.mark.parametrize("how", ["locks", "keeps open"])
def test_the_lock_of_a_dead_holder_is_broken(lock: Path, how: str) -> None:
    with held(lock, how):
        pass
    assert lock.exists()
    assert holder_of(lock) is None
    assert break_dead(lock)
    assert not lock.exists()
    assert not break_dead(lock)


def test_no_lock_has_no_holder(tmp_path: Path) -> None:
    assert holder_of(tmp_path / "nowhere" / "lock") is None
    assert not break_dead(tmp_path / "nowhere" / "lock")
    assert locks(tmp_path / "nowhere") == []


def test_on_a_shared_file_system_a_build_that_writes_may_live_elsewhere(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock.touch()
    monkeypatch.setattr(op_lock, "_file_system", lambda _: "nfs")
    assert holder_of(lock) == Holder(0)
    assert not break_dead(lock)
    for path in (lock.parent, *lock.parent.iterdir()):
        os.utime(path, (1, 1))
    assert holder_of(lock) is None


def test_locks_are_found_with_and_without_a_folder_a_version(tmp_path: Path) -> None:
    for place in ("a", "py311_cpu/b"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "lock").touch()
    assert locks(tmp_path) == [tmp_path / "a" / "lock", tmp_path / "py311_cpu" / "b" / "lock"]


def test_the_folder_is_the_one_that_torch_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils.cpp_extension import _get_build_directory

    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_root() == Path(_get_build_directory("op", False)).parent.parent
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "own"))
    assert cache_root() == Path(_get_build_directory("op", False)).parent


@pytest.mark.process
def test_a_waiting_start_names_the_builder_and_how_to_go_on(lock: Path) -> None:
    heard, said = threading.Event(), []

    def say(line: str) -> None:
        said.append(line)
        heard.set()

    with held(lock, "locks") as other:
        # It is not another rank of the same start.
        line = waiting_line(lock, "op", Holder(1, "init"))
        assert line.startswith(f"waiting for process 1 (init), which builds DeepSpeed's op op and holds {lock}. ")
        assert "kill 1" in line
        assert "TORCH_EXTENSIONS_DIR=FOLDER" in line
        with said_while_waiting(lock, "op", say, look_s=0.01):
            assert heard.wait(60)
        assert len(said) == 1
        assert str(other.pid) in said[0] or "building" in said[0]


def test_a_start_that_builds_says_so(lock: Path) -> None:
    with open(lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        holder = holder_of(lock)
        assert holder is not None
        assert waiting_line(lock, "op", holder).startswith("building DeepSpeed's op op in ")


def test_a_quick_build_prints_nothing(lock: Path) -> None:
    said: list[str] = []
    with said_while_waiting(lock, "op", said.append, look_s=600):
        pass
    assert said == []
