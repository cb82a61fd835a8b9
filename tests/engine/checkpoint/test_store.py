"""The folder of checkpoints: a good checkpoint is found, at whatever moment a process was killed."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from mmae.engine.checkpoint.hashed_file import Entry
from mmae.engine.checkpoint.integrity import newest_good, problem_of
from mmae.engine.checkpoint.store import SAVING, archive_damaged, commit, recover, remove, size_of
from mmae.run.layout import LATEST, name_of, newest_first
from tests.support.checkpoint_files import WEIGHTS, save_checkpoint

OPERATIONS = ("rename", "replace", "fsync", "unlink", "rmdir", "mkdir", "open", "link")
KILLED = 77


def run_until_killed(work: Callable[[], Any], at: int) -> bool:
    """Run in a child that ends at its `at`-th change to the file system. Returns whether it got that far."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            left = [at]

            def killing(event: str, _: tuple[object, ...]) -> None:
                if event.removeprefix("os.") in OPERATIONS or event in {"shutil.rmtree", "open"}:
                    left[0] -= 1
                    if left[0] < 0:
                        os._exit(KILLED)

            sys.addaudithook(killing)

            def fsync(descriptor: int) -> None:
                killing("os.fsync", ())

            with patch("os.fsync", fsync):  # it has no audit event
                work()
            status = 0
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(ended)
    assert code in {0, KILLED}
    return code == KILLED


@pytest.mark.process
@pytest.mark.parametrize("case", ["first", "next", "again", "remove"])
def test_killed_at_any_moment_a_good_checkpoint_is_found(tmp_path: Path, case: str) -> None:
    before = tmp_path / "before"
    before.mkdir()
    if case != "first":
        save_checkpoint(before, 3)
        save_checkpoint(before, 6, weights="old")
    moments = 0
    while True:
        run = tmp_path / str(moments)
        shutil.copytree(before, run)

        def work(run: Path = run) -> None:
            if case == "remove":
                remove(run / "global_step3")
            else:
                save_checkpoint(run, 9 if case == "next" else 6, weights="new")

        killed = run_until_killed(work, moments)
        recover(run)
        found = newest_good(run, trust=False)
        if case != "first":
            assert found is not None, moments
            assert found.name in {"global_step6", "global_step9"}
        assert [problem_of(path) for path in newest_first(run)] == [None] * len(newest_first(run))
        assert not [path for path in run.iterdir() if path.name.startswith((".saving", ".deleting", ".replaced"))]
        if not killed:
            break
        moments += 1
    # Files, their syncs, the manifest, the renames and the pointer: a handful would mean that nothing was watched.
    assert moments > (3 if case == "remove" else 15)


def test_a_step_saved_again_replaces_the_former(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 6, weights="old")
    again = save_checkpoint(tmp_path, 6, weights="new")
    assert (again / WEIGHTS).read_text().startswith("new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["global_step6", LATEST]


def test_steps_are_ordered_as_numbers(tmp_path: Path) -> None:
    for step in (9, 100, 20):
        save_checkpoint(tmp_path, step)
    for other in ("global_step", "global_step007", "damaged-global_step5", ".saving-global_step6", "global_step٣"):
        (tmp_path / other).mkdir()
    (tmp_path / "global_step8").touch()
    assert [path.name for path in newest_first(tmp_path)] == ["global_step100", "global_step20", "global_step9"]
    assert newest_first(tmp_path / "nowhere") == []


def test_damaged_ones_keep_their_content(tmp_path: Path) -> None:
    names = []
    for content in ("one", "two", "three"):
        names.append(archive_damaged(save_checkpoint(tmp_path, 6, weights=content)).name)
    assert names == [f"damaged-global_step6{end}" for end in ("", "-2", "-3")]
    assert (tmp_path / names[1] / WEIGHTS).read_text().startswith("two")


def test_the_size_counts_folders_below(tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path, 6)
    assert size_of(checkpoint) == sum(path.stat().st_size for path in checkpoint.rglob("*") if path.is_file())
    assert newest_good(tmp_path, trust=False) == checkpoint


def test_readers_pass_over_a_damaged_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = save_checkpoint(tmp_path, 6), save_checkpoint(tmp_path, 9)
    (bad / WEIGHTS).write_text("x")
    assert newest_good(tmp_path, trust=False) == good
    assert "global_step9 is damaged: " in capsys.readouterr().err
    assert bad.is_dir()


@pytest.mark.parametrize("size", [None, 3])
def test_files_that_another_node_wrote_elsewhere_are_not_committed(tmp_path: Path, size: int | None) -> None:
    good = save_checkpoint(tmp_path, 3)
    temporary = tmp_path / f"{SAVING}{name_of(6)}"
    temporary.mkdir()
    if size is not None:
        (temporary / "rank_8.pt").write_bytes(b"x" * size)
    with pytest.raises(OSError, match=r"No such file|do all nodes share it"):
        commit(temporary, tmp_path / name_of(6), {"rank_8.pt": Entry(7, "")})
    assert newest_first(tmp_path) == [good]
