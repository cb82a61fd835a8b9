"""`launchers/single_node.sh`: from its words to the `deepspeed` command, with all checks, and the launch itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mmae.distributed.devices import DEVICES, VISIBLE, usable_gpus
from mmae.distributed.network_interface import free_port
from mmae.errors import InputError
from mmae.launch.entry import entry, is_dry_run, remember_call, take_restarts
from mmae.launch.supervision.local_ranks import LocalRanks
from mmae.launch.supervision.supervise import supervise
from mmae.launch.training_words import program_of
from mmae.launch.visible_devices import Devices, choose

SCRIPT: Final = "single_node.sh"


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
        words: `--restarts N` if wanted, then `--config` and the other words of the training, or of another program.
        count: counts the GPUs that torch can use; not called where the environment names them.
        port: port at which the ranks meet.

    Raises:
        InputError: a check fails.
    """
    restarts, others = take_restarts(words)
    program = program_of(others)
    devices = choose(environment, count)
    command = [*_environment(devices, environment), "deepspeed", *([] if program.verbose else ["--log_level", "error"])]
    command += ["--include", included] if (included := devices.include()) else ["--num_gpus", str(devices.ranks)]
    command += ["--master_port", str(port), "--module", program.module, *program.words]
    return Start(command, restarts, devices.note)


def _environment(devices: Devices, environment: Mapping[str, str]) -> list[str]:
    """Words before the command that give the ranks their devices where DeepSpeed's options cannot."""
    told: list[str] = []
    if VISIBLE in environment:
        # DeepSpeed would print that it ignores this variable; it accepts an empty one.
        told += [f"{VISIBLE}="] if devices.on_cpu else ["-u", VISIBLE]
    if devices.names is not None and not devices.include():
        told.append(f"{DEVICES}={','.join(devices.names)}")
    if devices.on_cpu and "DS_ACCELERATOR" not in environment:
        told.append("DS_ACCELERATOR=cpu")
    return ["env", *told] if told else []


def gpus_of_torch() -> int:
    """GPUs that torch can use here.

    Raises:
        InputError: torch cannot be used.
    """
    try:
        return usable_gpus()
    except subprocess.CalledProcessError:
        why = "torch cannot be imported (see above): install mmae with what it needs, as README says"
        raise InputError(why) from None


@entry
def main(*words: str) -> int:
    start = plan_start(words, os.environ, gpus_of_torch, free_port())
    if start.note:
        print(f"{SCRIPT}: {start.note}", file=sys.stderr)
    if is_dry_run(start.command):
        return 0
    remember_call(SCRIPT, words, variables=("GPUS", "RANKS"))
    return supervise(LocalRanks(SCRIPT, start.command), start.restarts)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
