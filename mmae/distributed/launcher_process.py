"""The processes that started this rank: when one of them ends, the rank saves and ends, as after any SIGTERM.

A signal to `deepspeed` ends that program alone. Its launch process and the ranks would go on, with nobody to stop them.
Our launchers (`launchers/`) pass signals on; this module is for users who call `deepspeed` themselves.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from mmae.processes import command_words, die_with_parent, parent_of, started

LAUNCH: Final = "deepspeed.launcher.launch"
_AGENTS: Final = frozenset({"torchrun", "accelerate", "torch.distributed.run", "torch.distributed.launch"})
_LOOK_S: Final = 1.0


def launchers(pid: int) -> list[int]:
    """The launchers of a process: its parent, and DeepSpeed's runner above that; empty if something else started it."""
    parent = parent_of(pid)
    words = _words(parent)
    if LAUNCH in words:
        runner = parent_of(parent)
        # On other hosts the parent of the launch process is a shell that ssh started.
        is_runner = any(Path(word).name in {"deepspeed", "ds", "deepspeed.launcher.runner"} for word in _words(runner))
        return [parent, runner] if is_runner else [parent]
    return [parent] if any(Path(word).name in _AGENTS for word in words) else []


def said_to_runner(name: str) -> str | None:
    """A variable in the environment of DeepSpeed's runner on this machine; None if it is not set or unknown."""
    above = launchers(os.getpid())
    if len(above) < 2:
        return None
    with suppress(OSError):
        for entry in Path(f"/proc/{above[1]}/environ").read_bytes().split(b"\0"):
            key, _, value = entry.partition(b"=")
            if key == name.encode():
                return value.decode(errors="replace")
    return None


def end_with_launchers() -> None:
    """Send SIGTERM to this process when one of its launchers ends. Does nothing if a shell or Slurm started it."""
    above = launchers(os.getpid())
    if not above:
        return
    known = {pid: began for pid in above if (began := started(pid))}
    if LAUNCH in _words(above[0]):
        die_with_parent(signal.SIGTERM, above[0])
    threading.Thread(target=_watch, args=(known,), name="launchers", daemon=True).start()


def _watch(known: dict[int, str]) -> None:
    while all(started(pid) == began for pid, began in known.items()):
        time.sleep(_LOOK_S)
    with suppress(OSError, ValueError):
        print("mmae: the launcher of this rank is gone: saving, then it ends too", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)


def _words(pid: int) -> list[str]:
    """The first words of a process's command: the program, and the module that Python runs."""
    return command_words(pid)[:5]
