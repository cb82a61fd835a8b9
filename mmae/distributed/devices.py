"""The GPUs of a rank: those that its launcher was given, however DeepSpeed numbers them, and one for each rank."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, MutableMapping
from typing import Final

from mmae.distributed.launcher_process import said_to_runner
from mmae.errors import InputError

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
DEVICES: Final = "MMAE_DEVICES"
"""The value of `VISIBLE` that our launchers want on their ranks. DeepSpeed overwrites `VISIBLE` with numbers."""
_BY_DEEPSPEED: Final = "CROSS_RANK"
"""DeepSpeed's launch process sets it together with `VISIBLE`, also on machines without GPUs."""


def usable_gpus(deadline: float | None = None, errors: int | None = None) -> int:
    """Number of GPUs that torch can use here. A process of its own asks torch: this one stays small, and answers soon.

    Args:
        deadline: seconds that it may take.
        errors: what `subprocess` does with the lines that torch writes to stderr; None: they are shown.

    Raises:
        OSError, ValueError, subprocess.SubprocessError: torch cannot be used, or took too long.
    """
    words = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=errors, text=True, timeout=deadline, check=True)
    return int(done.stdout.split()[-1])


def take_given(environment: MutableMapping[str, str]) -> None:
    """Undo DeepSpeed's numbering. Call this before the first use of CUDA."""
    if (given := environment.get(DEVICES)) is not None:
        environment[VISIBLE] = given


def check_own_devices(environment: Mapping[str, str]) -> None:
    """`check_devices` of this process.

    Raises:
        InputError: as there.
    """
    import torch

    check_devices(environment, torch.cuda.device_count(), said_to_runner(VISIBLE))


def check_devices(environment: Mapping[str, str], count: int, given: str | None = None) -> None:
    """Check that this rank has a GPU of its own, and one that was given.

    Args:
        count: number of GPUs that torch can use.
        given: the value of `VISIBLE` at DeepSpeed's start; None if it was not set or is unknown.

    Raises:
        InputError: the training must be started in another way, which the message says.
    """
    visible = environment.get(VISIBLE, "")
    own = environment.get(DEVICES)
    if not count:
        named = own if own is not None else "" if _BY_DEEPSPEED in environment else visible
        if named.strip() and named.strip()[0] not in "-NnVv":
            raise InputError(
                f"{VISIBLE}={named} names GPUs, and torch can use none of them: look at nvidia-smi -L, "
                f"or set {VISIBLE}= (empty) to train on the CPU"
            )
        return
    if own is None and given is not None and not set(visible.split(",")) <= set(given.replace(" ", "").split(",")):
        raise InputError(
            f"deepspeed was given {VISIBLE}={given}, and would use {visible}: start with launchers/single_node.sh, "
            f"which keeps to it, or with deepspeed --include localhost:NUMBERS"
        )
    local = int(environment.get("LOCAL_RANK", "0"))
    if local >= count:
        raise InputError(
            f"rank {local + 1} of this node has no GPU: {count} can be used ({VISIBLE}={visible or 'not set'}), "
            "and ranks cannot share one: start as many ranks a node as there are GPUs"
        )
