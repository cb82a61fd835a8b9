"""Files of others, files that others can write, and links, told from what is this user's own."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmae.disk import ownership
from mmae.disk.ownership import check_owner, check_tree, keep_from_others, write_as_own
from mmae.errors import InputError
from mmae.run.layout import READ_BY_COMMANDS, check_run

OTHER = 12345
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "checkpoints" / "global_step3").mkdir(parents=True)
    for name in ("config.yaml", "ds_config.json", "band_stats.json", "parent.json", "log.jsonl"):
        (folder / name).touch()
    (folder / "checkpoints" / "global_step3" / "weights.pt").touch()
    return folder


def test_what_is_one_s_own_needs_no_trust(run: Path) -> None:
    check_run(run, trust=False)
    check_tree(run, trust=False)
    check_run(run / "nowhere", trust=False)
    check_owner((), trust=False)


@pytest.mark.parametrize("mode", [stat.S_IWOTH, stat.S_IWGRP])
@pytest.mark.parametrize("name", ["", *(name for name in READ_BY_COMMANDS if not name.startswith("."))])
def test_what_others_can_write_is_refused_wherever_it_lies(
    run: Path, name: str, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "_is_private", lambda _: False)
    place = run / name
    place.chmod(place.stat().st_mode | mode)
    with pytest.raises(InputError, match=r"is writable by (everyone|its group).*--trust") as refused:
        check_run(run, trust=False)
    assert str(refused.value).startswith(f"{place}: ")
    check_run(run, trust=True)


@root
@pytest.mark.parametrize("name", ["", "config.yaml", "checkpoints", "checkpoints/global_step3/weights.pt"])
def test_what_another_user_owns_is_refused_also_by_root(run: Path, name: str) -> None:
    os.chown(run / name, OTHER, OTHER)
    with pytest.raises(InputError, match=rf"{run / name}: belongs to another user \(12345\)"):
        check_tree(run, trust=False)
    check_tree(run, trust=True)


@root
def test_what_root_wrote_is_read_by_all(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: OTHER)
    check_tree(run, trust=False)


@root
def test_links_count_and_so_does_what_they_point_at(run: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (run / "checkpoints").rename(elsewhere)
    (run / "checkpoints").symlink_to(elsewhere)
    check_run(run, trust=False)
    check_tree(run, trust=False)
    os.lchown(run / "checkpoints", OTHER, OTHER)
    with pytest.raises(InputError, match="run/checkpoints: belongs to another user"):
        check_run(run, trust=False)
    os.lchown(run / "checkpoints", 0, 0)
    os.chown(elsewhere, OTHER, OTHER)
    with pytest.raises(InputError, match="run/checkpoints: belongs to another user"):
        check_run(run, trust=False)
    os.chown(elsewhere, 0, 0)
    os.chown(elsewhere / "global_step3" / "weights.pt", OTHER, OTHER)
    with pytest.raises(InputError, match=r"run/checkpoints/global_step3/weights\.pt: belongs to another user"):
        check_tree(run, trust=False)


def test_links_in_a_circle_and_to_nowhere_do_no_harm(run: Path) -> None:
    (run / "circle").symlink_to(run)
    (run / "nowhere").symlink_to(run / "gone")
    check_tree(run, trust=False)


def test_a_group_of_one_is_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def group(name: str, members: list[str]) -> None:
        monkeypatch.setattr(grp, "getgrgid", lambda _: grp.struct_group((name, "x", 1000, members)))

    me = pwd.struct_passwd(("me", "x", 1000, 1000, "", "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: me)
    group("me", [])
    assert ownership._is_private(1000)
    assert not ownership._is_private(1001)
    group("me", ["me", "you"])
    assert not ownership._is_private(1000)
    group("lab", [])
    assert not ownership._is_private(1000)


def test_a_folder_that_is_kept_from_others_stays_so_whatever_the_umask(tmp_path: Path) -> None:
    os.umask(0o002)
    folder = tmp_path / "run"
    folder.mkdir(mode=0o777)
    keep_from_others(folder)
    write_as_own()
    (folder / "file").touch()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert stat.S_IMODE((folder / "file").stat().st_mode) == 0o644
    os.umask(0o077)
    write_as_own()
    (folder / "secret").touch()
    assert stat.S_IMODE((folder / "secret").stat().st_mode) == 0o600
