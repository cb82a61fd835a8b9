from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmae.errors import InputError
from mmae.scenes.files.partial_output import partial_output

JOB = {"level": "l2a"}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["notes.txt", "unit-0000000-0000000.npz", "more/notes.txt"])
def test_a_folder_that_no_start_left_is_refused_and_kept(name: str, tmp_path: Path) -> None:
    path = tmp_path / "v.tif.partial" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"precious")
    message = r"v\.tif\.partial was not left by an earlier start"
    with pytest.raises(InputError, match=message), partial_output(tmp_path / "v.tif", JOB):
        pass
    assert contents(tmp_path) == {f"v.tif.partial/{name}": b"precious"}


def test_a_link_to_a_folder_is_refused_and_nothing_is_written_behind_it(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir()
    (tmp_path / "v.tif.partial").symlink_to(target)
    with pytest.raises(InputError, match="in the way"), partial_output(tmp_path / "v.tif", JOB):
        pass
    assert not list(target.iterdir())


def test_a_start_that_was_killed_at_once_is_continued(tmp_path: Path) -> None:
    folder = tmp_path / "v.tif.partial"
    folder.mkdir()
    (folder / "lock").touch()
    (folder / ".job.json.12-ab.tmp").touch()
    with partial_output(tmp_path / "v.tif", JOB) as partial:
        partial.save("unit-1", {"a": np.zeros(1)})
        partial.remove()
    assert not list(tmp_path.iterdir())


def test_what_a_user_adds_to_the_folder_is_kept(tmp_path: Path) -> None:
    with partial_output(tmp_path / "v.tif", JOB) as partial:
        partial.save("unit-1", {"a": np.zeros(1)})
        (partial.folder / "notes.txt").write_text("precious")
        partial.remove()
    assert contents(tmp_path) == {"v.tif.partial/notes.txt": b"precious"}


@pytest.mark.parametrize("kept", [0, 10, 300])
def test_parts_that_were_cut_off_are_damaged(kept: int, tmp_path: Path) -> None:
    with partial_output(tmp_path / "v.tif", JOB) as partial:
        partial.save("unit-1", {"a": np.zeros(100)})
        path = partial.folder / "unit-1.npz"
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(InputError, match=r"unit-1\.npz is damaged .*run the same command again"):
            partial.load("unit-1")
