"""Pure rules of the watchdog: which rank is lost, from the reports of all. Tests need no processes for them.

Ranks do the same work in the same order and wait for one another, so the rank that is behind delays the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mmae.errors import EXIT_LOST_RANK

DEAD_SECONDS: Final = 30.0
"""A rank without a report for so long is dead, unless its phase may take long."""
SUSPECT_SECONDS: Final = 8.0
"""After so long without a report from another machine its rank is probed. A death on this machine is seen at once."""
LONG_FACTOR: Final = 30
"""A phase of `LONG` may take so many times longer than a step."""

PHASES: Final = ("start", "validate", "evaluate", "save", "data", "step", "end")
"""The phases between two steps, in their order."""
LONG: Final = frozenset({"start", "validate", "evaluate", "save", "end"})


@dataclass(frozen=True)
class Pulse:
    """The report of a rank, once a second.

    Attributes:
        machine: identifies the machine on which the process id can be looked up; `host` is its name.
        began: start time of the process (`processes.started`), as the system reuses process ids.
        beats: number of reports so far.
        moves: number of times that the training has made progress.
        failed: the exit status that it is about to end with, else None; `why` says the reason.
        address: address, with `port`, that accepts connections as long as the process lives.
        unreachable: ranks that did not answer it.
    """

    rank: int
    host: str
    machine: str
    pid: int
    began: str
    beats: int = 0
    step: int = 0
    phase: str = "start"
    moves: int = 0
    failed: int | None = None
    why: str = ""
    address: str = ""
    port: int = 0
    unreachable: Sequence[int] = ()

    @property
    def place(self) -> tuple[int, int]:
        return self.step, PHASES.index(self.phase)


@dataclass(frozen=True)
class Verdict:
    """The job has to end: the ranks that cause it, the exit status, and the line to print."""

    ranks: tuple[int, ...]
    status: int
    line: str
    hung: bool = False


@dataclass
class Watch:
    """What one rank has seen of the others, timed by its own clock only.

    Args:
        timeout: seconds that a step may take without progress.
        alive: whether the process of a pulse, on this machine, still runs.
    """

    rank: int
    machine: str
    timeout: float
    alive: Callable[[Pulse], bool]
    _heard: dict[int, float] = field(default_factory=dict)
    _moved: dict[int, float] = field(default_factory=dict)
    _last: dict[int, Pulse] = field(default_factory=dict)

    def judge(self, pulses: Mapping[int, Pulse], now: float) -> Verdict | None:
        """None if no rank is lost.

        Args:
            pulses: the newest report of each rank.
        """
        for rank, pulse in pulses.items():
            last = self._last.get(rank)
            if last is None or last.beats != pulse.beats:
                self._heard[rank] = now
            if last is None or (last.moves, last.place) != (pulse.moves, pulse.place):
                self._moved[rank] = now
        self._last = dict(pulses)
        others = [pulse for rank, pulse in sorted(pulses.items()) if rank != self.rank]
        if failed := [pulse for pulse in others if pulse.failed is not None]:
            return _failed(failed)
        if gone := [pulse for pulse in others if self._is_gone(pulse)]:
            return _lost(gone, "is gone: its process has ended")
        tried = {rank for pulse in pulses.values() if pulse.rank in {0, self.rank} for rank in pulse.unreachable}
        if apart := [pulse for pulse in others if pulse.rank in tried]:
            return _lost(apart, "cannot be reached: its process has ended, or its host is down or cut off")
        if silent := [pulse for pulse in others if now - self._heard[pulse.rank] > self._silence(pulse)]:
            longest = max(now - self._heard[pulse.rank] for pulse in silent)
            return _lost(silent, f"has not been heard of for {longest:.0f} s", hung=True)
        return self._hang(list(pulses.values()), now)

    def suspects(self, now: float, seconds: float) -> list[Pulse]:
        """Ranks on other machines whose last report is older than this."""
        far = [pulse for pulse in self._last.values() if pulse.machine != self.machine]
        return [pulse for pulse in far if now - self._heard[pulse.rank] > seconds]

    def _is_gone(self, pulse: Pulse) -> bool:
        # In the phase `end` everything is saved, and ranks leave one after another.
        return pulse.machine == self.machine and pulse.phase != "end" and not self.alive(pulse)

    def _silence(self, pulse: Pulse) -> float:
        # A process that writes gigabytes may be unable to report.
        dead = min(DEAD_SECONDS, self.timeout)
        return max(dead, 5 * self.timeout) if pulse.phase in LONG else dead

    def _hang(self, pulses: Sequence[Pulse], now: float) -> Verdict | None:
        place = min(pulse.place for pulse in pulses)
        behind = [pulse for pulse in pulses if pulse.place == place]
        limit = self.timeout * (LONG_FACTOR if behind[0].phase in LONG else 1)
        stood = min(now - self._moved[pulse.rank] for pulse in behind)
        if stood <= limit:
            return None
        where = f"has stood at step {place[0]} ({behind[0].phase}) for {stood:.0f} s"
        if len(behind) == len(pulses):
            hosts = ", ".join(sorted({pulse.host for pulse in pulses}))
            line = f"every rank {where} (hosts {hosts}): none is behind the others"
            return Verdict(tuple(pulse.rank for pulse in pulses), EXIT_LOST_RANK, line, hung=True)
        return _lost(behind, f"{where}, and the others wait for it", hung=True)


def _failed(pulses: Sequence[Pulse]) -> Verdict:
    first = pulses[0]
    why = f": {first.why}" if first.why else ""
    assert first.failed is not None
    return Verdict(
        tuple(pulse.rank for pulse in pulses),
        first.failed,
        f"rank {first.rank} on {first.host} ended with status {first.failed}{why}",
    )


def _lost(pulses: Sequence[Pulse], what: str, hung: bool = False) -> Verdict:
    named = ", ".join(f"rank {pulse.rank} on {pulse.host}" for pulse in pulses)
    return Verdict(tuple(pulse.rank for pulse in pulses), EXIT_LOST_RANK, f"{named} {what}", hung)
