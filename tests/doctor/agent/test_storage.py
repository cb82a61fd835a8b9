"""What a host sees of folders."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from mmae.doctor.agent import storage
from mmae.run.layout import LOCK
from mmae.run.locking.lock_owner import this_process
from tests.support.tiny_sets import write_set

NAME = ".lock-doctor-0123456789abcdef"


@pytest.mark.parametrize("name", ["../x", ".lock", "a", f"{NAME}/x", f"x/{NAME}", f"{NAME}0", ""])
def test_tokens_have_one_kind_of_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is not a token"):
        storage.write_token(str(tmp_path), name)
    assert list(tmp_path.iterdir()) == []


def test_a_token_is_written_once_and_seen(tmp_path: Path) -> None:
    assert not storage.sees_token(str(tmp_path), NAME)
    storage.write_token(str(tmp_path), NAME)
    assert storage.sees_token(str(tmp_path), NAME)
    with pytest.raises(FileExistsError):
        storage.write_token(str(tmp_path), NAME)


def test_a_folder_to_come(tmp_path: Path) -> None:
    seen = storage.look_at_run(str(tmp_path / "a" / "b"))
    assert (seen.path, seen.exists, seen.writable, seen.holder) == (str(tmp_path), False, True, "")
    assert not (tmp_path / "a").exists()


def test_the_holder_of_a_run_is_reported(tmp_path: Path) -> None:
    me = this_process()
    for text, lives in (
        (me.render(), "yes"),
        (replace(me, started="1").render(), "no"),
        (replace(me, machine="other").render(), "elsewhere"),
        ("{", "no"),
    ):
        (tmp_path / LOCK).write_text(text)
        seen = storage.look_at_run(str(tmp_path))
        assert seen.holder
        assert (seen.exists, seen.holder_lives) == (True, lives)


def test_shards_that_are_not_there(tmp_path: Path) -> None:
    seen = storage.look_at_shards(str(tmp_path / "absent"))
    assert seen.fingerprint == ""
    assert "absent" in seen.problem


def test_shards_are_whole_and_told_apart(tmp_path: Path) -> None:
    index = write_set(tmp_path / "set", {"train": list(range(8))})
    folder = tmp_path / "set"
    assert storage.look_at_shards(str(folder)) == storage.Shards(str(folder), index.fingerprint, "")
    shard = folder / index.shards[0].name
    shard.write_bytes(shard.read_bytes()[:-1])
    assert f"first {shard.name}" in storage.look_at_shards(str(folder)).problem
    shard.unlink()
    assert f"1 of {len(index.shards)} shards" in storage.look_at_shards(str(folder)).problem


@pytest.mark.process
def test_op_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "cache"))
    assert storage.look_at_op_cache().locks == []
    lock = tmp_path / "cache" / "op" / "lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    os.utime(lock, (1000, 1000))
    seen = storage.look_at_op_cache()
    assert (seen.path, seen.writable) == (str(tmp_path / "cache"), True)
    assert [(each.path, each.changed, each.held) for each in seen.locks] == [(str(lock), 1000.0, False)]
    with lock.open():
        assert storage.look_at_op_cache().locks[0].held


def test_the_cache_is_where_torch_builds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torch.utils import cpp_extension, file_baton

    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    build = cpp_extension._get_build_directory("op", verbose=False)
    assert Path(build).parent == storage.op_cache_folder()
    assert storage.uses_batons() is (getattr(cpp_extension, "FileBaton", None) is file_baton.FileBaton)
