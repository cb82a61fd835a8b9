"""Which of many ranks' errors came first: a launcher repeats it as its last line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ERROR: Final = "mmae: error: "
_FAILED: Final = re.compile("mmae: rank .* failed with ")
_BROKEN: Final = re.compile(r"pdsh@[^:]*: (?P<host>[^:]*).*: ssh exited with exit code 255$")
_RESTART: Final = ": lost a rank: restart "
_OF_A_RANK: Final = re.compile(r"mmae: rank \d+ on ")


def first_of_file(path: Path) -> str:
    """The first error of those that ranks on this machine have written into a file, which is emptied; or ""."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    path.write_bytes(b"")
    return next((line for line in lines if line.startswith(ERROR)), lines[0] if lines else "")


@dataclass
class Errors:
    """What many ranks' stderr, which comes through pdsh, has told so far.

    Attributes:
        error: the first line that a rank ended with.
        failed: the first line in which a rank says that it fails.
        broken: hosts to which the connection broke.
    """

    error: str = ""
    failed: str = ""
    broken: list[str] = field(default_factory=list)

    def read(self, line: str) -> None:
        if ERROR in line:
            self.error = self.error or line
        elif _FAILED.search(line):
            self.failed = self.failed or line
        elif found := _BROKEN.match(line):
            self.broken.append(found["host"])

    def summary(self) -> list[str]:
        """Lines for the end of a launch."""
        lines = [f"lost the connection to {' '.join(self.broken)}"] if self.broken else []
        # A rank's own message comes second, because the rank may have failed only because of another one.
        first = self.error or self.failed
        return [*lines, f"the first error: {first}"] if first else lines


def first_of_log(lines: Iterable[str]) -> str:
    """The first error since the last restart in the log of a Slurm job, without its prefix; or ""."""
    error = failed = ""
    for line in lines:
        if _RESTART in line:
            error = failed = ""
        elif line.startswith(ERROR):
            error = error or line
        elif _OF_A_RANK.match(line):
            failed = failed or line
    return (error or failed).removeprefix("mmae: ").removeprefix("error: ")
