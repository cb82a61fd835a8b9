"""A running save is committed if all ranks could write, and otherwise removed with a reason."""

from __future__ import annotations

import errno
import time
from pathlib import Path
from typing import Any

import pytest

from mmae.engine.checkpoint import background_save
from mmae.engine.checkpoint.background_save import RunningSave, SaveResult
from mmae.engine.checkpoint.deepspeed_writer import Written
from mmae.engine.checkpoint.hashed_file import Entry

GOOD = Written({"a.pt": Entry(5, "ab")})
PLANNED = SaveResult(3, Path("global_step3"))


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    folder = tmp_path / ".saving-global_step3"
    folder.mkdir()
    return folder


def in_background(save: RunningSave) -> SaveResult:
    save.start(PLANNED, time.monotonic())
    return save.outcome([save.written()])


def test_a_save_that_every_rank_wrote_is_committed(temporary: Path) -> None:
    committed: list[dict[str, Entry]] = []
    outcome = RunningSave(lambda: GOOD, temporary, committed.append).settle(
        [GOOD, Written({"b": Entry(2, "c")})], PLANNED
    )
    assert (outcome.path, outcome.size, outcome.reason) == (PLANNED.path, 7, "")
    assert committed == [{"a.pt": Entry(5, "ab"), "b": Entry(2, "c")}]
    assert temporary.is_dir()


def test_one_rank_that_could_not_write_fails_the_save(temporary: Path) -> None:
    save = RunningSave(lambda: GOOD, temporary, lambda files: pytest.fail("must not be committed"))
    outcome = save.settle([GOOD, Written(error="x.pt: No space left on device")], PLANNED)
    assert (outcome.path, outcome.rank, outcome.reason) == (None, 1, "x.pt: No space left on device")
    assert not temporary.exists()


def fails(_files: object) -> None:
    raise OSError(errno.EIO, "Input/output error", "manifest.json")


def test_a_failed_commit_fails_the_save(temporary: Path) -> None:
    outcome = RunningSave(lambda: GOOD, temporary, fails).settle([GOOD], PLANNED)
    assert (outcome.path, outcome.reason) == (None, "manifest.json: Input/output error")
    assert not temporary.exists()


def test_a_thread_writes_and_commits(temporary: Path) -> None:
    committed: list[Any] = []
    outcome = in_background(RunningSave(lambda: GOOD, temporary, committed.append))
    assert (outcome.path, len(committed)) == (PLANNED.path, 1)
    assert outcome.seconds >= outcome.stalled_seconds >= 0
    assert not temporary.with_name(f"{temporary.name}.notes").exists()


def broken() -> Written:
    raise ValueError("cannot be written")


def test_an_error_of_the_thread_is_the_reason_of_the_save(temporary: Path) -> None:
    outcome = in_background(RunningSave(broken, temporary, fails))
    assert outcome.path is None
    assert "cannot be written" in outcome.reason


def test_a_rank_that_leaves_does_not_wait_for_ever_for_the_others(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_save, "world", lambda: 2)
    save = RunningSave(lambda: GOOD, temporary, lambda files: pytest.fail("the other rank has not written"))
    save.start(PLANNED, time.monotonic())
    save._leave.set()
    save._thread.join()
    assert save._outcome is not None
    assert save._outcome.reason == "training ended before all ranks had written"
