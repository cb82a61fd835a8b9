"""What a run's folder says of the run that it went on from."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmae.run.layout import PARENT
from mmae.run.parent import Parent, note_parent, read_parent


def test_a_checkpoint_of_another_run_is_the_parent(tmp_path: Path) -> None:
    run = tmp_path / "new"
    run.mkdir()
    note_parent(run, None)
    note_parent(run, run / "checkpoints" / "global_step3")
    assert read_parent(run) is None
    note_parent(run, tmp_path / "old" / "checkpoints" / "global_step7")
    found = read_parent(run)
    assert found == Parent(str(tmp_path / "old"), 7)
    assert (str(found), found.name) == (f"step 7 of {tmp_path / 'old'}", "old")
    # Its own checkpoints do not replace it.
    note_parent(run, run / "checkpoints" / "global_step9")
    assert read_parent(run) == found


@pytest.mark.parametrize("text", ["", "[]", '{"run": 3, "step": 3}', '{"run": "a", "step": true}', "{"])
def test_a_damaged_file_names_no_parent(tmp_path: Path, text: str) -> None:
    (tmp_path / PARENT).write_text(text)
    assert read_parent(tmp_path) is None
