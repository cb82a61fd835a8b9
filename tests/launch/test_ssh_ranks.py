"""The commands that end ranks on other hosts."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from mmae.launch.ssh_ranks import Hosts, SshRanks, kill_command, with_port
from mmae.run.layout import STOP


def test_ssh_gets_a_port_only_if_one_is_given() -> None:
    assert with_port("-o A=b", None) == "-o A=b"
    assert with_port("-o A=b", 2222) == "-o A=b -p 2222"


def test_ranks_are_asked_to_stop_by_a_file_in_their_run_and_without_one_they_cannot_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PDSH_SSH_ARGS_APPEND", "")
    for run, asked in ((tmp_path, True), (tmp_path / "to_come", False), (None, False)):
        with SshRanks("x", [], Hosts(["a"], "a", 1, None, [], run, ask_first=False)) as job:
            assert job.ask(signal.SIGTERM) is asked
            assert (tmp_path / STOP).exists() is asked
        assert not (tmp_path / STOP).exists()


@pytest.mark.process
def test_the_kill_command_ends_the_job_of_this_address_and_port_and_nothing_else() -> None:
    # The shells stand for DeepSpeed's launch processes, each with a child for a rank.
    words = ["bash", "-c", "sleep 600 & wait"]
    jobs = [
        subprocess.Popen(
            [*words, "launch", "--master_addr=host-of-this-test", f"--master_port={port}", "--x"],
            stdout=subprocess.PIPE,
        )
        for port in (1, 11)
    ]
    try:
        subprocess.run(["sh", "-c", kill_command("host-of-this-test", 1)], check=True, timeout=60)
        # Its output ends when its child has ended, too.
        assert jobs[0].communicate(timeout=60)[0] == b""
        assert jobs[1].poll() is None
    finally:
        for job in jobs:
            subprocess.run(["pkill", "-P", str(job.pid)], check=False)
            job.kill()
            job.communicate()
