"""How old a file is, by its file system's clock."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mmae.run.lock_owner import age_s, opened_stat


def test_an_age_is_of_the_last_touch_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    os.utime(path, (time.time() - 100, time.time() - 100))
    assert 99 < age_s(path) < 160
    assert os.path.samestat(opened_stat(path), path.stat())
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_gone_has_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        age_s(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
