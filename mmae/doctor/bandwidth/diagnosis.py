"""Which host makes an all-reduce fail, and the remedy: pure functions of what the ranks reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mmae.doctor.agent.ranks import RUNS, RankSaid

Problem = tuple[str, str, str]
"""Host, problem, remedy."""
_DOING: Final = {
    "start": "loading torch",
    "meet": "meeting the other ranks",
    "first": "in its first all-reduce",
    "measure": "in an all-reduce",
}
_ORDER: Final = {phase: number for number, phase in enumerate((*_DOING, "failed", "done"))}


def is_lost(rank: RankSaid) -> bool:
    """Whether the rank has ended or failed, and will not finish."""
    return rank.status != RUNS or rank.phase == "failed"


def diagnose(said: Mapping[str, Sequence[RankSaid]], limit_s: float, *, loopback: bool = False) -> list[Problem]:
    """Find the cause: a process that ended; else one that failed; else the ranks that are furthest behind.

    Args:
        said: the ranks' reports, by host.
        limit_s: seconds that the ranks were given.
        loopback: whether all ranks are on one machine.
    """
    everyone = [(host, rank) for host, ranks in said.items() for rank in ranks]
    if ended := [(host, rank) for host, rank in everyone if rank.status != RUNS]:
        words = [(host, _ended(rank), rank) for host, rank in ended]
    elif failed := [(host, rank) for host, rank in everyone if rank.phase == "failed"]:
        words = [(host, f"rank {rank.rank} failed: {rank.why}", rank) for host, rank in failed]
    else:
        behind = min(_ORDER[rank.phase] for _, rank in everyone)
        words = [
            (host, f"rank {rank.rank} hung {_DOING[rank.phase]}: {limit_s:g} s are over", rank)
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
    if phase == "start":
        return "is torch on a slow or overloaded file system there? try: python -c 'import torch'"
    if loopback:
        return "is the machine overloaded, or out of memory?"
    named = "the interface in GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME"
    return f"open all TCP ports between the hosts; is {named} one that joins them?"
