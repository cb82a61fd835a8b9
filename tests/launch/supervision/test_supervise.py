"""A job is started, asked to stop, and started again. The job of these tests only records the calls."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence

import pytest

from mmae.errors import InputError
from mmae.launch.supervision.foreground import blocked
from mmae.launch.supervision.launched_job import Job
from mmae.launch.supervision.supervise import Supervisor, seconds


class Remembered(Job):
    """Ends with one status after another; the signals come at its starts.

    Args:
        signals: by start, counted from 0.
        obeys: whether its ranks stop when they are asked to.
    """

    def __init__(
        self, statuses: Sequence[int], signals: dict[int, signal.Signals] | None = None, obeys: bool = True
    ) -> None:
        super().__init__("launcher", [])
        self.statuses, self.signals, self.obeys = list(statuses), signals or {}, obeys
        self.starts = 0
        self.done: list[str] = []
        self._runs = False

    def say(self, line: str) -> None:
        self.done.append(line)

    def start(self) -> None:
        self._runs = self.starts in self.signals
        if self._runs:
            signal.raise_signal(self.signals[self.starts])
        self.starts += 1

    def poll(self) -> int | None:
        return None if self._runs else self.statuses[self.starts - 1]

    def ask(self, number: signal.Signals) -> bool:
        self.done.append(f"asked by {number.name}")
        self._runs = not self.obeys
        return True

    def kill(self) -> None:
        self.done.append("killed")
        self._runs = False

    def finish(self, status: int) -> int:
        return status


@pytest.fixture(autouse=True)
def signals_that_wait(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("MMAE_RESTARTS", raising=False)
    monkeypatch.setenv("MMAE_LAUNCH", "of the tests")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked())
    yield
    while signal.sigtimedwait(blocked(), 0):
        pass
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.environ.pop("MMAE_RESTARTS", None)


@pytest.mark.parametrize(
    ("statuses", "restarts", "status", "starts"),
    [
        ([0], 3, 0, 1),
        ([1], 3, 1, 1),
        ([2], 3, 2, 1),
        ([3], 3, 3, 1),
        ([4], 0, 4, 1),
        ([4, 4, 0], 3, 0, 3),
        ([4, 4, 4], 2, 4, 3),
        ([137, 3], 3, 3, 2),
        ([137], 0, 4, 1),
    ],
)
def test_only_a_lost_rank_is_started_again(statuses: list[int], restarts: int, status: int, starts: int) -> None:
    job = Remembered(statuses)
    assert Supervisor(job, 300, 0).run(restarts) == status
    assert job.starts == starts
    assert os.environ.get("MMAE_RESTARTS") == (str(starts - 1) if starts > 1 else None)
    assert ("a rank was killed by signal 9" in job.done) is (137 in statuses)


def test_the_pause_between_restarts_doubles() -> None:
    job = Remembered([4, 4, 4, 0])
    Supervisor(job, 300, 0.01).run(3)
    assert [line.split(" in ")[1].split(",")[0] for line in job.done] == ["0.01 s", "0.02 s", "0.04 s"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
@pytest.mark.parametrize("status", [0, 4, 137])
def test_a_job_that_was_asked_to_stop_keeps_its_status_and_is_not_started_again(
    number: signal.Signals, status: int
) -> None:
    job = Remembered([status], {0: number})
    assert Supervisor(job, 300, 0).run(5) == status
    name = "SIGTERM" if number == signal.SIGHUP else number.name
    assert job.done == [f"{name}: the ranks save and stop, within 300 s (MMAE_GRACE)", f"asked by {name}"]


def test_a_signal_after_a_restart_stops_it_too() -> None:
    job = Remembered([4, 0], {1: signal.SIGTERM})
    assert Supervisor(job, 300, 0).run(5) == 0
    assert job.starts == 2


def test_ranks_that_do_not_stop_are_killed_after_the_grace() -> None:
    job = Remembered([137], {0: signal.SIGTERM}, obeys=False)
    assert Supervisor(job, 0, 0).run(5) == 137
    assert job.done[1:] == [
        "asked by SIGTERM",
        "the ranks did not stop within 0 s and are killed; the last checkpoint is untouched",
        "killed",
    ]


def test_a_signal_before_the_first_start_is_an_end() -> None:
    job = Remembered([])
    signal.raise_signal(signal.SIGTERM)
    assert Supervisor(job, 300, 0).run(5) == 128 + signal.SIGTERM
    assert job.starts == 0


def test_a_signal_in_the_pause_is_an_end_with_the_last_status(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Remembered([4])
    monkeypatch.setattr(job, "say_first_error", lambda: signal.raise_signal(signal.SIGINT))
    assert Supervisor(job, 300, 600).run(5) == 4
    assert job.starts == 1


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf"])
def test_a_grace_that_is_not_a_number_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=f"MMAE_GRACE={text}: not a number of seconds, as in MMAE_GRACE=300"):
        seconds({"MMAE_GRACE": text}, "MMAE_GRACE", 300)


def test_a_variable_that_is_not_set_leaves_the_default() -> None:
    assert seconds({}, "MMAE_PAUSE", 5) == 5
    assert seconds({"MMAE_PAUSE": "0"}, "MMAE_PAUSE", 5) == 0
