"""Files hold what they were given, and errors are kept until the end of the save."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmae.engine.checkpoint.deepspeed_writer import StateWriter
from mmae.engine.checkpoint.hashed_file import hash_file


@pytest.mark.parametrize("in_memory", [False, True])
def test_torch_reads_the_written_files(tmp_path: Path, in_memory: bool) -> None:
    writer = StateWriter()
    writer.begin(tmp_path, in_memory)
    value = torch.arange(10.0)
    state = {"view": value[2:5], "whole": value, "scale": [1, {"a": 2.5}]}
    writer.save(state, str(tmp_path / "a.pt"))
    assert (tmp_path / "a.pt").exists() is not in_memory
    value.zero_()  # training goes on
    written = writer.finish()
    assert written.error == ""
    assert written.files == {"a.pt": hash_file(tmp_path / "a.pt")}
    loaded = writer.load(str(tmp_path / "a.pt"), map_location="cpu")
    assert loaded["view"].tolist() == [2, 3, 4]
    assert loaded["whole"].tolist() == list(range(10))
    assert loaded["scale"] == [1, {"a": 2.5}]


@pytest.mark.parametrize("in_memory", [False, True])
def test_the_first_error_is_kept_and_nothing_more_is_written(tmp_path: Path, in_memory: bool) -> None:
    writer = StateWriter()
    writer.begin(tmp_path, in_memory)
    (tmp_path / "full.pt").symlink_to("/dev/full")
    writer.save({"a": torch.zeros(100_000)}, tmp_path / "full.pt")
    writer.save({}, tmp_path / "later.pt")
    written = writer.finish()
    assert written.error == "full.pt: No space left on device"
    assert written.files == {}
    assert not (tmp_path / "later.pt").exists()
    writer.begin(tmp_path, in_memory)
    writer.save({}, tmp_path / "next.pt")
    assert writer.finish().files.keys() == {"next.pt"}


def test_objects_and_files_that_cannot_be_written_fail_the_save(tmp_path: Path) -> None:
    writer = StateWriter()
    writer.begin(tmp_path, in_memory=False)
    writer.save({"a": lambda: 0}, tmp_path / "a.pt")
    assert "a.pt: " in writer.finish().error
    writer.begin(tmp_path, in_memory=False)
    (tmp_path / "file").touch()
    writer.makedirs(str(tmp_path / "file" / "folder"))
    assert "Not a directory" in writer.finish().error


def test_files_of_others_are_listed_by_their_place(tmp_path: Path) -> None:
    writer = StateWriter()
    writer.begin(tmp_path, in_memory=False)
    (tmp_path / "offloaded" / "rank0").mkdir(parents=True)
    (tmp_path / "offloaded" / "rank0" / "x.swp").write_bytes(b"x")
    writer.adopt(tmp_path / "offloaded" / "rank0")
    writer.adopt(tmp_path / "none")
    assert writer.finish().files.keys() == {"offloaded/rank0/x.swp"}
