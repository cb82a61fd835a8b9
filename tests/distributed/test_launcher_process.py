"""A rank ends with the launcher that started it, whichever of its processes is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from mmae.distributed.launcher_process import launchers, said_to_runner
from tests.support.paths import ROOT

pytestmark = pytest.mark.process

RANK = """
import os, signal, sys
from mmae.distributed.launcher_process import end_with_launchers, launchers, said_to_runner
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"told to end\\n"), os._exit(0)))
end_with_launchers()
print(*launchers(os.getpid()), said_to_runner("CUDA_VISIBLE_DEVICES"), flush=True)
while True:
    signal.pause()
"""
STARTS = """
import subprocess, sys, time
subprocess.Popen(sys.argv[2:])
time.sleep(600)
"""


def chain(*names: str) -> list[str]:
    """A command that starts a rank, through processes of these names, first to last."""
    words = [sys.executable, "-c", RANK]
    for name in reversed(names):
        words = [sys.executable, "-c", STARTS, name, *words]
    return words


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_rank_of_deepspeed_ends_with_its_runner_and_with_its_launch_process(
    victim: int, number: signal.Signals
) -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "4,5"}
    words = chain("/venv/bin/deepspeed", "deepspeed.launcher.launch")
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout is not None
        launch, same, given = runner.stdout.readline().split()
        try:
            assert (int(same), given) == (runner.pid, "4,5")
            os.kill([runner.pid, int(launch)][victim], number)
            assert runner.stdout.readline() == "told to end\n"
        finally:
            for pid in (int(launch), runner.pid):
                if (victim, pid) != (1, int(launch)):
                    os.kill(pid, signal.SIGKILL)


def test_a_rank_of_torchrun_ends_with_its_agent() -> None:
    with subprocess.Popen(chain("/venv/bin/torchrun"), cwd=ROOT, stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline().split() == [str(agent.pid), "None"]
        agent.kill()
        assert agent.stdout.readline() == "told to end\n"


def test_what_a_shell_started_is_left_alone() -> None:
    words = chain("sh")
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == "None\n"
        children = subprocess.run(["pgrep", "-P", str(shell.pid)], capture_output=True, text=True, check=True).stdout
        shell.kill()
        (rank,) = map(int, children.split())
        assert os.path.exists(f"/proc/{rank}")
        os.kill(rank, signal.SIGKILL)


def test_no_process_has_no_launchers() -> None:
    assert launchers(2**22 + 1) == []
    assert said_to_runner("PATH") is None
