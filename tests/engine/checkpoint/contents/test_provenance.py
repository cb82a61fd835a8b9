"""Which software wrote a checkpoint, with git and without."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mmae.engine.checkpoint.contents.provenance import git_commit, versions

pytestmark = pytest.mark.process


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_a_checkout_names_its_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert git_commit(tmp_path) == ""  # no commit yet
    (tmp_path / "file").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_commit(tmp_path) == commit
    (tmp_path / "new").touch()
    assert git_commit(tmp_path) == commit
    (tmp_path / "file").write_text("2")
    assert git_commit(tmp_path) == f"{commit}+"
    (tmp_path / "site-packages").mkdir()
    assert git_commit(tmp_path / "site-packages") == ""


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert git_commit(tmp_path) == ""
    monkeypatch.setenv("PATH", "")
    assert git_commit(tmp_path) == ""


def test_versions_are_words() -> None:
    assert {"mmae", "torch", "deepspeed", "python"} <= versions().keys()
    assert all(isinstance(value, str) and value for value in versions().values())
