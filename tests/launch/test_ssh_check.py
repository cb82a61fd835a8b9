"""Answers of the hosts that the launcher asks before it starts ranks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmae.launch.ssh_check import main, not_reached, question


def test_hosts_that_answer() -> None:
    said = "node-1: Welcome\nnode-2: mmae-is-there-1\nnode-1: mmae-is-there-0\n"
    assert not_reached(["node-1", "me@node-2.cluster"], said) == []


def test_each_host_that_does_not_is_a_line() -> None:
    said = """node-1: mmae-is-there-0
node-2: ssh: connect to host node-2.cluster port 22: Connection refused
pdsh@here: node-2: ssh exited with exit code 255
node-3: ssh: Could not resolve hostname node-3: Name or service not known
node-4: bash: line 1: cd: /home/me/mmae: No such file or directory
node-5: ls: cannot access '/home/me/.venv/bin/python': No such file or directory
"""
    hosts = ["node-1", "me@node-2.cluster", "node-3", "node-4", "node-5", "node-6"]
    assert not_reached(hosts, said) == [
        "me@node-2.cluster: no ssh server answers there (ssh: connect to host node-2.cluster port 22: "
        "Connection refused): start sshd on me@node-2.cluster",
        "node-3: its name is unknown here (ssh: Could not resolve hostname node-3: Name or service not known)"
        ": correct the hostfile, or add it to DNS or /etc/hosts",
        "node-4: this folder is not there (bash: line 1: cd: /home/me/mmae: No such file or directory)"
        ": run from a folder that every host has",
        "node-5: this python is not there (ls: cannot access '/home/me/.venv/bin/python': No such file or directory)"
        ": put the same environment at the same path, or share it",
        "node-6: did not answer within 20 s: is it up?",
    ]


def test_pdshs_own_words_are_shown() -> None:
    said = 'No such rcmd module "exec2"\npdsh@here: Failed to register rcmd "exec2" for "db8::1"\n'
    assert not_reached(["exec2:db8::1"], said) == [
        'exec2:db8::1: did not answer within 20 s (pdsh: No such rcmd module "exec2"): is it up?'
    ]
    assert not_reached(["a"], "pdsh@here: a: some trouble\n") == [
        "a: did not answer within 20 s (pdsh: pdsh@here: a: some trouble): is it up?"
    ]


def test_words_that_only_look_like_the_answer_do_not_count() -> None:
    assert len(not_reached(["a", "b"], "a: mmae-is-there-7\n")) == 2


def test_the_question_is_safe_for_a_shell() -> None:
    assert question(Path("/a b;c"), Path("/p/python")).startswith("cd '/a b;c' && ls /p/python ")


def pdsh(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "pdsh").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "pdsh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.process
def test_a_host_that_is_lost_at_a_restart_may_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pdsh(tmp_path, 'echo "a: mmae-is-there-0"; echo "b: ssh: Connection refused" >&2', monkeypatch)
    monkeypatch.delenv("MMAE_RESTARTS", raising=False)
    assert main("a,b") == 2
    monkeypatch.setenv("MMAE_RESTARTS", "1")
    assert main("a,b") == 4
    assert main("a") == 0
    assert capfd.readouterr().err.count("b: no ssh server answers there") == 2


@pytest.mark.process
def test_pdsh_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main("a") == 2
    assert "pdsh is missing" in capfd.readouterr().err
