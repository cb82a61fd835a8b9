"""Locks of others."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from mmae.run.layout import LOCK
from mmae.run.locking.lock_owner import this_process


def foreign(folder: Path, age_s: float = 0.0) -> Path:
    """The lock of a process of another machine, touched so long ago."""
    path = folder / LOCK
    path.write_text(replace(this_process(), host="node7", pid=4242, machine="another").render())
    os.utime(path, (time.time() - age_s, time.time() - age_s))
    return path
