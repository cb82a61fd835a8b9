from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from data_tools.workers.pool import available_cores, in_processes, processes
from data_tools.workers.worker import Tally
from mmae.errors import InputError
from tests.support.counting import Count

pytestmark = pytest.mark.process


def square(task: int, tally: Tally) -> int:
    tally.add(1, 10 * task)
    return task * task


def fail(task: int, tally: Tally) -> int:
    if task == 3:
        raise InputError("three: is no good: take another")
    if task == 5:
        raise ZeroDivisionError("a bug")
    return square(task, tally)


def die(task: int, tally: Tally) -> int:
    if task == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(task, tally)


def end(task: int, tally: Tally) -> int:
    os._exit(7)


def die_while_answering(task: int, tally: Tally) -> bytes:
    def write_half(descriptor: int, data: bytes) -> int:
        os.write(descriptor, bytes(data[: len(data) // 2]))
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    tally.add(1, 1)
    if task == 1:
        Connection._send.__defaults__ = (write_half,)  # type: ignore[attr-defined]
    return bytes(1 << 20)


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("tasks", [0, 1, 7])
def test_every_task_is_done_once(workers: int, tasks: int) -> None:
    tally = Count()
    found = list(in_processes(square, range(tasks), workers, tally))
    assert sorted(found) == [(task, task * task) for task in range(tasks)]
    assert (tally.tiles, tally.read) == (tasks, 10 * sum(range(tasks)))


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_of_the_work(workers: int) -> None:
    with pytest.raises(InputError, match=r"^three: is no good: take another$"):
        list(in_processes(fail, range(5), workers, Count()))


def test_bugs_come_with_the_trace_of_the_worker() -> None:
    with pytest.raises(RuntimeError, match=r"in a worker process:\n(.*\n)*ZeroDivisionError: a bug"):
        list(in_processes(fail, [5, 6], 2, Count()))


def test_a_killed_worker_is_named_with_its_task() -> None:
    with pytest.raises(InputError) as caught:
        list(in_processes(die, range(9), 2, Count(), lambda task: f"task {task}"))
    expected = "a worker process was killed by signal 9 (out of memory?) while it was at task 1: run again, "
    assert str(caught.value).startswith(expected)
    with pytest.raises(InputError, match="a worker process ended with status 7 while it was at 0"):
        list(in_processes(end, [0], 2, Count()))


def test_a_worker_that_is_killed_while_it_sends_a_result_is_noticed() -> None:
    with pytest.raises(InputError, match=r"killed by signal 9 \(out of memory\?\) while it was at 1: run again"):
        list(in_processes(die_while_answering, range(9), 2, Count()))


def test_tasks_are_made_as_they_are_needed() -> None:
    made: list[int] = []

    def tasks() -> Any:
        for task in range(50):
            made.append(task)
            yield task

    for done, _ in enumerate(in_processes(square, tasks(), 2, Count())):
        assert len(made) <= done + 5


def test_a_consumer_that_stops_leaves_no_process() -> None:
    import multiprocessing

    for _ in in_processes(square, range(50), 2, Count()):
        break
    assert multiprocessing.active_children() == []


SLOW = """
import sys, time
from pathlib import Path
from data_tools.workers.pool import in_processes
class Count:
    def add(self, tiles, read): pass
def sleep(task, tally):
    (Path(sys.argv[1]) / str(task)).write_text(str(__import__("os").getpid()))
    time.sleep(6000)
if __name__ == "__main__":
    list(in_processes(sleep, range(4), 2, Count()))
"""


def started(tmp_path: Path) -> tuple[subprocess.Popen[str], list[int]]:
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "seen").mkdir()
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "slow.py"), str(tmp_path / "seen")],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        pids = [path.read_text() for path in (tmp_path / "seen").iterdir()]
        if len(pids) == 2 and all(pids):
            return parent, [int(pid) for pid in pids]
        time.sleep(0.02)
    raise AssertionError("the workers did not start")


def alive(pid: int) -> bool:
    """Not gone, nor dead and waiting for an init process that may never look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not any(map(alive, pids)):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    parent, workers = started(tmp_path)
    parent.send_signal(number)
    parent.communicate()
    assert gone(workers)


def test_an_interrupt_from_the_keyboard_is_for_the_parent(tmp_path: Path) -> None:
    parent, workers = started(tmp_path)
    os.killpg(parent.pid, signal.SIGINT)
    _, errors = parent.communicate(timeout=60)
    assert errors.count("Traceback") == 1
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert gone(workers)


def test_cores() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


def test_as_many_processes_as_a_machine_can_carry() -> None:
    assert processes(None) == available_cores()
    assert [processes(asked) for asked in (1, 64)] == [1, 64]
    for asked in (0, -1):
        with pytest.raises(InputError, match=f"--workers {asked}: must be at least 1"):
            processes(asked)
    with pytest.raises(InputError, match="--workers 1000000: at most "):
        processes(1_000_000)
