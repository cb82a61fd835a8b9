"""Launchers with a fake deepspeed: restarts, signals, the first error, and the end of a launcher that is killed."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.faked_launch import PDSH, hosts, launch, start, wait_for

RUNNER = """
cat "$DS_ENV_FILE" >>seen; stat -c %a "$DS_ENV_FILE" >>seen; env >runner-environment
case $(grep -c ^MMAE_RESTARTS= seen) in 0) exit 247 ;; *) exit 3 ;; esac
"""


def test_a_lost_rank_elsewhere_is_started_again_and_told_so(tmp_path: Path) -> None:
    done = start(
        tmp_path, "multi_node.sh", hosts(tmp_path), "--restarts", "3", "--config", "debug", "run.dir=run",
        fakes={"deepspeed": RUNNER, "pdsh": PDSH}, MASTER_ADDR="10.9.8.7", MMAE_PAUSE="0",
        WANDB_API_KEY="hunter2", MLFLOW_TRACKING_TOKEN="hunter2",
    )  # fmt: skip
    assert done.status == 3, done.err
    assert "a rank was killed by signal 9" in done.err
    assert "restart 1 of 3" in done.err
    seen = (tmp_path / "seen").read_text()
    assert seen.count("MMAE_RESTARTS=1\n") == 1
    # Both starts are of one launch.
    launches = re.findall(r"^MMAE_LAUNCH=(\S+)$", seen, re.MULTILINE)
    assert len(launches) == 2
    assert len(set(launches)) == 1
    assert seen.count("\n600\n") == 2
    assert "hunter2" not in seen
    assert "MLFLOW_TRACKING_TOKEN" not in (tmp_path / "runner-environment").read_text()
    # What was left on the nodes ended before the next start.
    assert "-w node-1,node-2 for launch in" in (tmp_path / "pdsh").read_text()
    assert "[m]aster_addr=10.9.8.7 --master_port=29500 " in (tmp_path / "pdsh").read_text()


@pytest.mark.parametrize(
    ("said", "status", "last"),
    [
        (["mmae: rank 0 on a failed with E: x", "n-1: mmae: error: one", "n-2: mmae: error: two"], 3,
         ["the first error: n-1: mmae: error: one"]),
        (["n-1: mmae: rank 0 on a failed with E: x", "more"], 1,
         ["the first error: n-1: mmae: rank 0 on a failed with E: x"]),
        (["pdsh@x: n-2: ssh exited with exit code 255", "n-1: mmae: error: lost rank: rank 1"], 255,
         ["lost the connection to n-2", "the first error: n-1: mmae: error: lost rank: rank 1"]),
        (["nothing to tell"], 2, []),
    ],
)  # fmt: skip
def test_the_first_error_is_said_last(said: list[str], status: int, last: list[str], tmp_path: Path) -> None:
    runner = f"echo out; printf '%s\\n' {shlex.join(said)} >&2; exit {status}"
    done = start(
        tmp_path, "multi_node.sh", hosts(tmp_path), "--config", "debug", "run.dir=run",
        fakes={"deepspeed": runner, "pdsh": PDSH}, MASTER_ADDR="10.9.8.7",
    )  # fmt: skip
    assert done.status == (4 if status == 255 else status)
    assert done.out == "out\n"
    lines = [line for line in done.err.splitlines() if not line.startswith("not passed on")]
    assert lines == [*said, *(f"multi_node.sh: {line}" for line in last)]


@pytest.mark.parametrize("launcher", [["single_node.sh"], ["multi_node.sh", "hosts", "--no_ssh", "--node_rank", "0"]])
@pytest.mark.parametrize(
    ("said", "status", "last"),
    [
        (["mmae: rank 0 on a failed with E: x", "mmae: error: one", "mmae: error: two"], 3, "mmae: error: one"),
        (["mmae: rank 1 on a failed with E: x", "mmae: rank 0 on a failed with E: y"], 1,
         "mmae: rank 1 on a failed with E: x"),
        ([], 2, ""),
        (["mmae: error: it is said, and all ends well"], 0, ""),
    ],
)  # fmt: skip
def test_of_ranks_here_too(launcher: list[str], said: list[str], status: int, last: str, tmp_path: Path) -> None:
    lines = "".join(f"{line}\n" for line in said)
    runner = f"printf %s {shlex.quote(lines)} | tee -a $MMAE_ERRORS >&2; echo end >&2; exit {status}"
    hosts(tmp_path)
    done = start(
        tmp_path, *launcher, "--config", "debug", "run.dir=run",
        fakes={"deepspeed": runner}, MASTER_ADDR="10.9.8.7", TMPDIR=str(tmp_path), RANKS="1",
    )  # fmt: skip
    assert done.status == status
    repeated = f"{launcher[0]}: the first error: {last}\n" if last else ""
    assert done.err == f"{lines}end\n{repeated}"
    assert not list(tmp_path.glob("mmae-*"))


def test_each_start_again_has_a_first_error_of_its_own(tmp_path: Path) -> None:
    runner = "echo mmae: error: ${MMAE_RESTARTS:-first} >>$MMAE_ERRORS; exit $((4 - ${MMAE_RESTARTS:-0}))"
    done = start(
        tmp_path, "single_node.sh", "--restarts", "1", "--config", "debug",
        fakes={"deepspeed": runner}, MMAE_PAUSE="0", RANKS="1",
    )  # fmt: skip
    assert done.status == 3
    assert re.findall("the first error: (.*)", done.err) == ["mmae: error: first", "mmae: error: 1"]


@pytest.mark.parametrize("number", ["TERM", "INT", "USR1", "HUP"])
def test_a_signal_asks_ranks_elsewhere_through_the_runs_folder(number: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    runner = f"kill -{number} $PPID; for i in {{1..2000}}; do [ -e run/stop ] && exit 0; sleep 0.05; done; exit 9"
    done = start(
        tmp_path, "multi_node.sh", hosts(tmp_path), "--config", "debug", "run.dir=run",
        fakes={"deepspeed": runner, "pdsh": PDSH}, MASTER_ADDR="10.9.8.7",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "the ranks save and stop, within 300 s" in done.err
    assert not (tmp_path / "run" / "stop").exists()


def err_after_kill(process: subprocess.Popen[str], started: Path) -> str:
    """What a launcher and its ranks say that is killed once they have started."""
    try:
        wait_for(started)
        process.kill()
        # stderr is closed when all have ended.
        return process.communicate(timeout=60)[1]
    finally:
        process.kill()


def test_a_launcher_that_is_killed_leaves_no_rank_behind(tmp_path: Path) -> None:
    rank = "trap 'touch told; exit 0' TERM; touch started; for i in {1..2000}; do sleep 0.05; done"
    (tmp_path / "rank").write_text(rank)
    # As DeepSpeed's runner starts a launch process, which starts the ranks.
    runner = f"bash -c 'bash {tmp_path}/rank; exit $?'; exit $?"
    process = launch(tmp_path, "single_node.sh", "--config", "debug", fakes={"deepspeed": runner}, RANKS="1")
    err = err_after_kill(process, tmp_path / "started")
    assert "single_node.sh: SIGTERM: the ranks save and stop, within 300 s (MMAE_GRACE)" in err
    assert (tmp_path / "told").exists()


def test_a_launcher_that_is_killed_stops_ranks_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    runner = "touch started; for i in {1..2000}; do [ -e run/stop ] && touch told && exit 0; sleep 0.05; done; exit 9"
    process = launch(
        tmp_path, "multi_node.sh", hosts(tmp_path), "--config", "debug", "run.dir=run",
        fakes={"deepspeed": runner, "pdsh": PDSH}, MASTER_ADDR="10.9.8.7",
    )  # fmt: skip
    err = err_after_kill(process, tmp_path / "started")
    assert "SIGTERM: the ranks save and stop" in err
    assert (tmp_path / "told").exists()
    assert not (tmp_path / "run" / "stop").exists()


def test_what_a_launcher_was_started_to_ignore_does_not_stop_it(tmp_path: Path) -> None:
    runner = "touch started; for i in {1..2000}; do [ -e end ] && exit 0; sleep 0.05; done; exit 9"
    process = launch(
        tmp_path, "single_node.sh", "--config", "debug", fakes={"deepspeed": runner}, program="nohup bash", RANKS="1"
    )
    try:
        wait_for(tmp_path / "started")
        process.send_signal(signal.SIGHUP)
        (tmp_path / "end").touch()
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "the ranks save and stop" not in err
