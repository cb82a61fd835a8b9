"""A launch and what its ranks report: with the real launcher, and a `deepspeed` that is made up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mmae.doctor.bandwidth.launched_ranks import LaunchedRanks
from mmae.doctor.bandwidth.rank import RankSaid, Task
from mmae.processes import started
from tests.support.paths import ROOT

pytestmark = pytest.mark.process

WORDS = ["0", *Task("gloo", 4096, 0.1, 300.0).words()]
STAYS = 'sleep 600 & echo $! $$ >"$PIDS.new"; mv "$PIDS.new" "$PIDS"; wait'


@pytest.fixture
def launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], LaunchedRanks]:
    """Start two ranks by a `deepspeed` that is a program of bash."""
    for name in ("CUDA_VISIBLE_DEVICES", "GPUS", "RANKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DRY_RUN", "1")
    monkeypatch.chdir(ROOT)

    def made(program: str) -> LaunchedRanks:
        path = f"{faked(tmp_path, program)}:{os.environ['PATH']}"
        return LaunchedRanks(WORDS, ["node-1.at.home", "node-2"], {"PATH": path, "PIDS": str(tmp_path / "pids")})

    return made


def faked(folder: Path, program: str) -> Path:
    (folder / "deepspeed").write_text(f"#!/bin/bash\n{program}\n")
    (folder / "deepspeed").chmod(0o755)
    return folder


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def pids(folder: Path) -> list[int]:
    """The processes of the made-up `deepspeed`, once it has started."""
    wait_until((folder / "pids").exists)
    return [int(pid) for pid in (folder / "pids").read_text().split()]


REPORTS = """
echo 'node-1: mmae-bandwidth-rank {"rank": 0, "phase": "meet"}'
echo 'a line of another program, mmae-bandwidth-rank {"rank": 1, "phase": "meet"}'
echo 'mmae-bandwidth-rank {"rank": 0, "phase": "measure", "status": "9"}'
echo 'mmae-bandwidth-rank {"rank": 0, "phase": "measure", "of": "another version"}'
echo 'mmae-bandwidth-rank {"rank": 0, "phase": "dances"}'
echo 'mmae-bandwidth-rank {"rank": 7, "phase": "done"}'
echo 'mmae-bandwidth-rank {"rank": "0", "phase": "done"}'
echo 'mmae-bandwidth-rank ["rank"]'
echo 'mmae-bandwidth-rank {"rank": 1, "status": -9}'
"""


def test_what_ranks_report_is_kept_and_all_else_is_not(launch: Callable[[str], LaunchedRanks]) -> None:
    with launch(REPORTS) as ranks:
        assert ranks.said() == [RankSaid(0), RankSaid(1)]
        wait_until(lambda: ranks.why_ended() != "")
        assert ranks.said() == [RankSaid(0, "meet"), RankSaid(1, "meet", status=-9)]
        assert not ranks.all_done


@pytest.mark.parametrize(
    ("code", "label", "lost"),
    [
        (1, "node-2", RankSaid(1, "launch", "ImportError: x", status=1)),
        (247, "node-2", RankSaid(1, "launch", "ImportError: x", status=-9)),
        (137, "node-2", RankSaid(1, "launch", "ImportError: x", status=-9)),
        (255, "node-2", RankSaid(1, "launch", "ImportError: x", status=255)),
        (1, "node-1", RankSaid(0, "meet", status=1)),
        (1, "node", None),
    ],
)
def test_a_host_whose_launch_ends_has_lost_its_ranks(
    code: int, label: str, lost: RankSaid | None, launch: Callable[[str], LaunchedRanks]
) -> None:
    lines = (
        'mmae-bandwidth-rank {"rank": 0, "phase": "meet"}', "node-2: Traceback", "node-2: ImportError: x",
        f"pdsh@node-1: {label}: ssh exited with exit code {code}",
    )  # fmt: skip
    with launch("\n".join(f"echo '{line}'" for line in lines)) as ranks:
        wait_until(lambda: ranks.why_ended() != "")
        expected = [RankSaid(0, "meet"), RankSaid(1)]
        if lost:
            expected[lost.rank] = lost
        assert ranks.said() == expected


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (
            "echo 'node-2: ModuleNotFoundError: No module named x' >&2; echo more >&2; exit 1",
            "status 1: node-2: Module",
        ),
        ("kill -9 $$", "status 4: single_node.sh: a rank was killed by signal 9"),
    ],
)
def test_a_launch_that_fails_is_quoted(program: str, words: str, launch: Callable[[str], LaunchedRanks]) -> None:
    with launch(program) as ranks:
        wait_until(lambda: ranks.why_ended() != "")
        assert f"the launcher ended with {words}" in ranks.why_ended()


def test_what_the_launcher_refuses_is_quoted(
    launch: Callable[[str], LaunchedRanks], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPUS", "x")
    with launch("true") as ranks:
        wait_until(lambda: ranks.why_ended() != "")
        assert ranks.why_ended().startswith("the launcher ended with status 2: GPUS=x: 'x' is not a GPU")


def test_all_that_was_started_ends_with_the_measurement(launch: Callable[[str], LaunchedRanks], tmp_path: Path) -> None:
    with launch(STAYS) as ranks:
        found = pids(tmp_path)
        assert all(map(started, found))
        assert ranks.why_ended() == ""
    wait_until(lambda: not any(map(started, found)))


KILLED = """
import os, sys, time
from mmae.doctor.bandwidth.launched_ranks import LaunchedRanks
LaunchedRanks(sys.argv[1:], ["a", "a"], {"PATH": os.environ["PATH_OF_RANKS"]})
time.sleep(600)
"""


def test_all_that_was_started_ends_when_the_doctor_is_killed(tmp_path: Path) -> None:
    path = f"{faked(tmp_path, STAYS)}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH_OF_RANKS": path, "PIDS": str(tmp_path / "pids")}
    with subprocess.Popen([sys.executable, "-c", KILLED, *WORDS], cwd=ROOT, env=environment) as doctor:
        found = pids(tmp_path)
        doctor.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(map(started, found)))
