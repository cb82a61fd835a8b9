"""From the words given to `launchers/single_node.sh` to the `deepspeed` command that it runs, with all checks."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mmae.distributed.devices import DEVICES, VISIBLE
from mmae.errors import InputError
from mmae.launch.entry import entry
from mmae.launch.run_dir import training_config
from mmae.launch.visible_devices import Devices, choose

RESTARTS: Final = "--restarts"


@dataclass(frozen=True)
class Start:
    """What the launcher runs.

    Attributes:
        command: `deepspeed` and its words.
        restarts: how often it may start again when a rank was lost.
        note: a line for people; empty if nothing is unusual.
    """

    command: list[str]
    restarts: int
    note: str


def plan_start(words: Sequence[str], environment: Mapping[str, str], count: Callable[[], int], port: int) -> Start:
    """Check everything that can be checked before ranks are started.

    Args:
        words: `--restarts N` if wanted, then `--config` and the other words of the training.
        count: GPUs that torch can use; not called where the environment names them.
        port: where the ranks meet.

    Raises:
        InputError: anything is not as it must be.
    """
    restarts, training = _restarts(words)
    verbose = training_config(training).log.verbose
    devices = choose(environment, count)
    command = [*_environment(devices, environment), "deepspeed", *([] if verbose else ["--log_level", "error"])]
    command += ["--include", included] if (included := devices.include()) else ["--num_gpus", str(devices.ranks)]
    command += ["--master_port", str(port), "--module", "mmae.train", *training]
    return Start(command, restarts, devices.note)


def _restarts(words: Sequence[str]) -> tuple[int, list[str]]:
    if list(words[:1]) != [RESTARTS]:
        return 0, list(words)
    if len(words) < 2 or not re.fullmatch(r"\d{1,6}", words[1], re.ASCII):
        raise InputError(f"{RESTARTS} needs a number, as in {RESTARTS} 3")
    return int(words[1]), list(words[2:])


def _environment(devices: Devices, environment: Mapping[str, str]) -> list[str]:
    """Words before the command that tell the ranks their devices, where DeepSpeed's own words cannot."""
    told: list[str] = []
    if VISIBLE in environment:
        # DeepSpeed would say that it ignores it; an empty one it leaves alone.
        told += [f"{VISIBLE}="] if devices.on_cpu else ["-u", VISIBLE]
    if devices.names is not None and not devices.include():
        told.append(f"{DEVICES}={','.join(devices.names)}")
    if devices.on_cpu and "DS_ACCELERATOR" not in environment:
        told.append("DS_ACCELERATOR=cpu")
    return ["env", *told] if told else []


def free_port() -> int:
    """A port of its own: another training on this machine may hold DeepSpeed's default one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def gpus_of_torch() -> int:
    """GPUs that torch can use here; takes seconds."""
    import torch

    return torch.cuda.device_count()


@entry
def main(out: str, *words: str) -> int:
    """Write into the folder `out` what the shell goes on with: files of NUL-ended words."""
    start = plan_start(words, os.environ, gpus_of_torch, free_port())
    for name, values in (("command", start.command), ("facts", [str(start.restarts)])):
        Path(out, name).write_text("".join(f"{value}\0" for value in values), encoding="utf-8")
    if start.note:
        print(f"single_node.sh: {start.note}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
