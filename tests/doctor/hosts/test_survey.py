"""Hosts behind a made-up ssh: some answer, some refuse, hang, or talk."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from mmae.doctor.hosts.survey import Answers, partners, survey
from mmae.launch.hostfile import Host
from mmae.launch.ssh import over_ssh, printable
from tests.support.paths import ROOT

pytestmark = pytest.mark.process

SSH = r"""#!/bin/bash
printf '%s\n' "$*" >> "$SEEN"
while [ "$1" != -- ]; do shift; done
case $2 in
  password) echo 'me@password: Permission denied (publickey,password).' >&2; exit 255 ;;
  unknown) echo 'ssh: Could not resolve hostname unknown: Name or service not known' >&2; exit 255 ;;
  newkey) echo 'Host key verification failed.' >&2; exit 255 ;;
  closed) echo 'ssh: connect to host closed port 22: Connection refused' >&2; exit 255 ;;
  odd) printf 'kex: \033[31mboom\n' >&2; exit 255 ;;
  hangs) exec sleep 6000 ;;
  together*) until [ "$(wc -l < "$SEEN")" = 5 ]; do sleep 0.05; done; echo 'all are here' >&2; exit 255 ;;
  talks) exec yes ;;
  lies) read -r; words=($3); for word in "${words[@]}"; do case $word in mmae-doctor-*) nonce=$word ;; esac; done
        echo "$nonce {\"number\": 1, \"answer\": NaN}"; sleep 6000 ;;
  nopython) exec bash -c "${3/ -m mmae/-absent -m mmae}" ;;
  nofolder) cd /; exec bash -c "cd /no/such/folder && true" ;;
  unshared) sed -u 's|/run"|/other"|' | bash -c "$3" ;;
  *) echo "Welcome to $2"; echo '{"number": 1, "answer": 0}'; exec bash -c "$3" ;;
esac
"""


@pytest.fixture(autouse=True)
def _ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ssh").write_text(SSH)
    (folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    monkeypatch.chdir(ROOT)


def asked(*names: str, run: Path | None = None, hello_s: float = 60.0) -> dict[str, Answers]:
    found = survey([Host(name, 2) for name in names], [], str(run) if run else None, local=False, hello_s=hello_s)
    return {each.name: each for each in found}


@pytest.mark.parametrize(
    ("name", "why", "remedy"),
    [
        ("password", "asks for a password", "ssh-copy-id password"),
        ("unknown", "its name is unknown", "/etc/hosts"),
        ("newkey", "its ssh key is not known", "ssh newkey true"),
        ("closed", "no ssh server", "sshd"),
        ("odd", "the connection ended: kex:  [31mboom", "try: ssh odd true"),
        ("nopython", "this python is not there", "same environment"),
        ("nofolder", "this folder is not there", "every host has"),
        ("lies", "NaN is not JSON", "same checkout"),
        ("talks", "prints without end", "start files"),
    ],
)
def test_each_way_not_to_answer(name: str, why: str, remedy: str) -> None:
    silent = asked(name)[name].silent
    assert silent is not None
    assert why in silent[0]
    assert remedy in silent[1]


def test_one_that_hangs_costs_its_timeout() -> None:
    silent = asked("hangs", hello_s=0.5)["hangs"].silent
    assert silent == ("no answer within 0.5 s", "is the host overloaded, or does a file system hang?")


def test_all_are_asked_together() -> None:
    # This takes one timeout, not five, because each of these answers only after all have been asked.
    found = asked(*(f"together{number}" for number in range(5)))
    assert {each.silent and each.silent[0] for each in found.values()} == {"the connection ended: all are here"}


def test_hosts_behind_banners_and_beside_a_silent_one(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    found = asked("localhost", "closed", "127.0.0.1", run=run)
    first, other = found["localhost"], found["127.0.0.1"]
    assert (first.silent, other.silent) == (None, None)
    assert first.facts == replace(other.facts, shm_free=first.facts.shm_free) if first.facts and other.facts else False
    assert (first.token, other.token) == ("wrote", "saw")
    # Both have one clock, so the difference is the time that the answer took.
    assert abs(first.ahead) <= first.unsure + 1e-3
    assert first.reached.keys() == {"127.0.0.1"}
    assert not first.reached["127.0.0.1"].problem
    assert not other.reached["localhost"].problem
    assert found["closed"].silent is not None
    # Nothing stays behind.
    assert list(run.iterdir()) == []


def test_a_run_folder_that_only_the_first_sees(tmp_path: Path) -> None:
    # To the second host the same path is another folder, as on disks that are not shared.
    for name in ("run", "other"):
        (tmp_path / name).mkdir()
    found = asked("localhost", "unshared", run=tmp_path / "run")
    assert [each.token for each in found.values()] == ["wrote", "missed"]
    assert list((tmp_path / "run").iterdir()) == []


def test_a_run_folder_to_come(tmp_path: Path) -> None:
    first = asked("localhost", run=tmp_path / "to" / "come")["localhost"]
    assert first.run is not None
    assert (first.run.path, first.run.exists, first.token) == (str(tmp_path), False, "wrote")
    assert not (tmp_path / "to").exists()


def test_the_ssh_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = over_ssh("me@node", ["python", "-m", "x y"], {"A": "b; rm -rf $HOME"})
    assert words[-3:-1] == ["--", "me@node"]
    assert words[-1].endswith("""bin:"$PATH" 'A=b; rm -rf $HOME' python -m 'x y'""")
    assert {"BatchMode=yes", "ConnectTimeout=5"} <= set(words)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib0")
    asked("closed")
    seen = (tmp_path / "seen").read_text()
    assert "-o BatchMode=yes" in seen
    assert " GLOO_SOCKET_IFNAME=ib0 " in seen


def test_no_ssh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    silent = asked("localhost")["localhost"].silent
    assert silent is not None
    assert "ssh cannot be started" in silent[0]


@pytest.mark.parametrize(("count", "pairs"), [(2, [[1], [0]]), (3, [[1, 2], [0, 2], [0, 1]]),
                                              (5, [[1, 2, 3, 4], [0, 2], [0, 1, 3], [0, 2, 4], [0, 3]])])  # fmt: skip
def test_hosts_connect_to_the_first_one_and_to_their_neighbours(count: int, pairs: list[list[int]]) -> None:
    assert [partners(number, count) for number in range(count)] == pairs


def test_terminals_are_safe() -> None:
    assert printable("a\x1b]0;title\x07b\n") == "a ]0;title b"
    assert len(printable("x" * 10_000)) == 400
