"""The holder of a lock, whether its process lives, and the age of a file by the clock of its file system."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmae.processes import started
from mmae.run.locking.lock_owner import Holder, age_s, opened_stat


@pytest.mark.process
def test_a_zombie_process_does_not_live() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    deadline = time.monotonic() + 120
    while started(child.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert started(child.pid) == ""
    child.wait()
    assert started(2**22 + 1) == ""


def test_it_is_rendered_as_json() -> None:
    assert json.loads(Holder("a", 1, "2", "3", "4").render())["pid"] == 1


def test_an_age_is_of_the_last_touch_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    os.utime(path, (time.time() - 100, time.time() - 100))
    assert 99 < age_s(path) < 160
    assert os.path.samestat(opened_stat(path), path.stat())
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_has_no_age(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        age_s(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
