"""All findings in the order that they are to be mended, as a table."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from typing import Final

from mmae.doctor.checks import network, software, storage_checks
from mmae.doctor.checks.findings import Finding
from mmae.doctor.hosts.survey import Answers
from mmae.launch.ssh import printable
from mmae.terminal.table import Column, Table, Value

COLUMNS: Final = (
    Column("check", "check"),
    Column("host", "host"),
    Column("level", "result"),
    Column("found", "found", wraps=True),
    Column("remedy", "what to do", wraps=True),
)


def all_findings(answers: Sequence[Answers], needed: int | None) -> list[Finding]:
    """Of the hosts that answer, and which do not.

    Args:
        needed: bytes that checkpoints will still take; None where nothing tells.
    """
    return list(_findings(answers, needed))


def _findings(answers: Sequence[Answers], needed: int | None) -> Iterator[Finding]:
    many = len(answers) > 1
    if many and shutil.which("pdsh") is None:
        remedy = "install pdsh (Debian: apt-get install pdsh), or give deepspeed another --launcher"
        yield Finding(
            "launcher", "this machine", "FAIL", "DeepSpeed starts other hosts by pdsh, which is missing", remedy
        )
    for each in answers:
        if many or each.silent:
            yield from software.answering(each)
    known = [(each, each.facts) for each in answers if each.silent is None and each.facts is not None]
    if not known:
        return
    speaking = [each for each, _ in known]
    yield from network.twice(speaking)
    yield from software.same_software([(each.name, facts) for each, facts in known])
    yield from (software.devices(each, facts) for each, facts in known)
    yield from storage_checks.shard_sets(speaking)
    yield from storage_checks.run_folders(speaking)
    yield from storage_checks.same_user(speaking)
    yield from storage_checks.run_lock(speaking)
    disk = storage_checks.room(speaking[0], needed)
    yield from (disk,) if disk else ()
    yield from storage_checks.op_caches(speaking)
    yield from software.clocks(speaking)
    yield from (network.own_name(each, many) for each in speaking)
    yield from network.routes(speaking)
    yield from network.connections(speaking)
    for each, facts in known:
        yield from software.limits(each.name, facts)


def table_of(findings: Sequence[Finding], title: str) -> Table:
    """A line for each; what other hosts said is made fit for a terminal."""
    rows = [_row(each) for each in findings]
    counts = {level: sum(each.level == level for each in findings) for level in ("FAIL", "warn", "note")}
    verdict = f"{counts['FAIL']} failed, {counts['warn']} to look at, {counts['note']} notes, of {len(findings)} checks"
    return Table(title, COLUMNS, rows, [verdict], len(COLUMNS))


def _row(each: Finding) -> dict[str, Value]:
    found, remedy = printable(each.found), printable(each.remedy) or None
    return {"check": each.check, "host": each.host, "level": each.level, "found": found, "remedy": remedy}
