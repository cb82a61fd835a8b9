"""The commands that end ranks on other hosts."""

from __future__ import annotations

import subprocess

import pytest

from mmae.launch.ssh_ranks import kill_command, with_port


def test_ssh_gets_a_port_only_if_one_is_given() -> None:
    assert with_port("-o A=b", None) == "-o A=b"
    assert with_port("-o A=b", 2222) == "-o A=b -p 2222"


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
