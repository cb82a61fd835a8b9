"""Locks are looked at before ops are built."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmae.launch.prebuild import clear_locks


@pytest.mark.process
def test_a_lock_that_nobody_holds_is_removed_and_another_stays(tmp_path: Path) -> None:
    for name in ("dead", "living"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lock").touch()
    with open(tmp_path / "living" / "lock"):
        said = clear_locks(tmp_path)
    assert said[0] == f"removed {tmp_path}/dead/lock: no living build holds it"
    assert said[1].startswith(f"{tmp_path}/living/lock is held by process ")
    assert not (tmp_path / "dead" / "lock").exists()
    assert (tmp_path / "living" / "lock").exists()
