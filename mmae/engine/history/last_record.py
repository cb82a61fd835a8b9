"""The record of a training that another rank's end is the end of, written without the run's log.

The rank that has the log may be the one that is lost, or hang in a call to the others.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path

from mmae.run.log_reader import END, ends_in_a_torn_line


def write_end(log: Path, step: int, error: str) -> None:
    """Add a record to log.jsonl that says how the training ended. A log that cannot be written costs the record."""
    record = {"kind": END, "time": round(time.time(), 3), "step": step, "why": "error", "error": error}
    with suppress(OSError):
        begin = b"\n" if ends_in_a_torn_line(log) else b""
        with log.open("ab", buffering=0) as file:
            file.write(begin + json.dumps(record).encode() + b"\n")
