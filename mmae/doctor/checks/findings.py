"""The result of a check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "warn", "FAIL"]


@dataclass(frozen=True)
class Finding:
    """A check's result on a host. `remedy` is "" if there is nothing to do."""

    check: str
    host: str
    level: Level
    found: str
    remedy: str = ""


def failed(findings: Iterable[Finding]) -> bool:
    return any(finding.level == "FAIL" for finding in findings)
