"""Which host makes an all-reduce fail, and the remedy: pure functions of what the ranks reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mmae.doctor.bandwidth.rank import PHASES, RUNS, RankSaid

Problem = tuple[str, str, str]
"""Host, problem, remedy."""
_DOING: Final = {
    "launch": "before it started",
    "start": "loading torch",
    "meet": "meeting the other ranks",
    "first": "in its first all-reduce",
    "measure": "in an all-reduce",
}
_ORDER: Final = {phase: number for number, phase in enumerate(PHASES)}


def is_lost(rank: RankSaid) -> bool:
    """Whether the rank has ended or failed, and will not finish."""
    return rank.status != RUNS or rank.phase == "failed"


def diagnose(
    said: Mapping[str, Sequence[RankSaid]], limit_s: float, *, why_ended: str = "", loopback: bool = False
) -> list[Problem]:
    """Find the cause: a process that ended; else one that failed; else the ranks that are furthest behind.

    Args:
        said: the ranks' reports, by host.
        limit_s: seconds that the ranks were given.
        why_ended: how their launcher ended before them; empty if it did not.
        loopback: whether all ranks are on one machine.
    """
    everyone = [(host, rank) for host, ranks in said.items() for rank in ranks]
    if ended := [(host, rank) for host, rank in everyone if rank.status != RUNS]:
        words = [(host, _ended(rank), rank) for host, rank in ended]
    elif failed := [(host, rank) for host, rank in everyone if rank.phase == "failed"]:
        words = [(host, f"rank {rank.rank} failed: {rank.why}", rank) for host, rank in failed]
    else:
        behind = min(_ORDER[rank.phase] for _, rank in everyone)
        verb, why = ("was lost", why_ended) if why_ended else ("hung", f"{limit_s:g} s are over")
        words = [
            (host, f"rank {rank.rank} {verb} {_DOING[rank.phase]}: {why}", rank)
            for host, rank in everyone if _ORDER[rank.phase] == behind
        ]  # fmt: skip
    # One line a host.
    first: dict[str, Problem] = {}
    for host, why, rank in words:
        first.setdefault(host, (host, why, _remedy(rank.phase, loopback)))
    return list(first.values())


def _ended(rank: RankSaid) -> str:
    how = f"was killed by signal {-rank.status}" if rank.status < 0 else f"ended with status {rank.status}"
    when = f" {_DOING[rank.phase]}" if rank.phase in _DOING else ""
    return f"rank {rank.rank} {how}{when}" + (f": {rank.why}" if rank.why else "")


def _remedy(phase: str, loopback: bool) -> str:
    if phase == "launch":
        return "is DeepSpeed on a slow or overloaded file system there? try: python -c 'import deepspeed'"
    if phase == "start":
        return "is torch on a slow or overloaded file system there? try: python -c 'import torch'"
    if loopback:
        return "is the machine overloaded, or out of memory?"
    named = "the interface in GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME"
    return f"open all TCP ports between the hosts; is {named} one that joins them?"
