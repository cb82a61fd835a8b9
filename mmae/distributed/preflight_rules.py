"""Pure rules of the preflight: whether all ranks may start, from what each reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mmae.errors import EXIT_BAD_INPUT, EXIT_LOST_RANK

_HOSTS_SHOWN: Final = 4
ONE_ENVIRONMENT = "give all hosts the same checkout and environment"
REMEDIES: Mapping[str, str] = {
    "recipe": "the recipe's or DeepSpeed's file is not the same everywhere: share it, or copy it",
    "shards": "data.shards is another set there: mount the same one at the same path",
}
"""What to do if something other than the software differs."""


@dataclass(frozen=True)
class Entry:
    """The report of a rank.

    Attributes:
        runs: facts that must be the same on every rank, by name.
        failed: the exit status if it cannot start, else None; `why` says the reason.
        interface: the variables that choose its network interface, as `NAME=value`.
    """

    rank: int
    host: str
    runs: dict[str, str] = field(default_factory=dict)
    failed: int | None = None
    why: str = ""
    interface: str = ""


@dataclass(frozen=True)
class End:
    """All ranks have to end: their exit status, and the line that one of them prints."""

    status: int
    line: str


def judge(entries: Sequence[Entry], world: int, waited: float) -> End | None:
    """None if all ranks may start.

    Args:
        entries: the reports so far, in the order of the ranks.
        world: number of ranks that were started.
        waited: seconds since rank 0 began to wait.
    """
    if failed := [entry for entry in entries if entry.failed is not None]:
        first = failed[0]
        alike = [entry for entry in failed if (entry.failed, entry.why) == (first.failed, first.why)]
        # An error that every rank has is not the fault of one host.
        where = "" if len(alike) == world else f"{named(alike)}: "
        return End(first.failed or EXIT_BAD_INPUT, where + first.why)
    if len(entries) < world:
        came = {entry.rank for entry in entries}
        absent = [rank for rank in range(world) if rank not in came]
        ranks = f"rank{'s' if len(absent) > 1 else ''} {', '.join(map(str, absent))}"
        line = f"lost rank: {ranks} did not come within {waited:.0f} s (MMAE_JOIN_SECONDS); there are {named(entries)}"
        return End(EXIT_LOST_RANK, line)
    for what in entries[0].runs:
        kinds = Counter(entry.runs.get(what, "") for entry in entries)
        if len(kinds) > 1:
            usual = kinds.most_common(1)[0][0]
            odd = [entry for entry in entries if entry.runs.get(what, "") != usual]
            like = next(entry for entry in entries if entry.runs.get(what, "") == usual)
            line = f"{named(odd)}: {what} {odd[0].runs.get(what) or 'absent'}, but {usual or 'absent'} on {like.host}"
            return End(EXIT_BAD_INPUT, f"{line}: {REMEDIES.get(what, ONE_ENVIRONMENT)}")
    return None


def judge_meeting(entries: Sequence[Entry], planned: Sequence[Entry], waited: float) -> End | None:
    """None if all ranks have joined the process group and reach one another.

    Args:
        entries: the reports so far of ranks that joined, or could not, in the order of the ranks.
        planned: the reports of all ranks before that.
        waited: seconds since rank 0 began to wait.
    """
    if failed := [entry for entry in entries if entry.failed is not None]:
        # A connection that breaks may be the consequence of another rank's own error.
        first = min(failed, key=lambda entry: entry.failed == EXIT_LOST_RANK)
        advice = _interfaces(planned) if first.failed == EXIT_LOST_RANK else ""
        return End(first.failed or EXIT_LOST_RANK, f"{named([first])}: {first.why}{advice}")
    came = {entry.rank for entry in entries}
    if absent := [entry for entry in planned if entry.rank not in came]:
        late = f"did not connect to the others within {waited:.0f} s (MMAE_JOIN_SECONDS)"
        return End(EXIT_LOST_RANK, f"lost rank: {named(absent)} {late}{_interfaces(planned)}")
    return None


def _interfaces(entries: Sequence[Entry]) -> str:
    """What to do about ranks that do not reach one another; "" where all are on one host."""
    hosts_of: dict[str, list[str]] = {}
    for host, interface in dict.fromkeys((entry.host, entry.interface or "no variable") for entry in entries):
        hosts_of.setdefault(interface, []).append(host)
    if len({entry.host for entry in entries}) == 1:
        return ""
    found = "; ".join(f"{interface} on {_some(hosts)}" for interface, hosts in hosts_of.items())
    wanted = "GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME to the network interface that leads to the other hosts"
    return f": set {wanted} (now {found})"


def _some(hosts: Sequence[str]) -> str:
    more = len(hosts) - _HOSTS_SHOWN
    return ", ".join(hosts[:_HOSTS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def named(entries: Iterable[Entry]) -> str:
    """`rank 0 on a, ranks 1, 2 on b`."""
    hosts: dict[str, list[str]] = {}
    for entry in entries:
        hosts.setdefault(entry.host, []).append(str(entry.rank))
    return ", ".join(
        f"rank{'s' if len(ranks) > 1 else ''} {', '.join(ranks)} on {host}" for host, ranks in hosts.items()
    )
