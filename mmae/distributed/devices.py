"""The GPUs of a rank: those that its launcher was given, however DeepSpeed numbers them, and one of them for itself."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Final

from mmae.distributed.launcher_process import said_to_runner
from mmae.errors import InputError

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
DEVICES: Final = "MMAE_DEVICES"
"""What our launchers want `VISIBLE` to be on their ranks, where DeepSpeed would write numbers of its own."""
_BY_DEEPSPEED: Final = "CROSS_RANK"
"""DeepSpeed's launch process sets it, and with it `VISIBLE`, whether there are GPUs or not."""


def take_given(environment: MutableMapping[str, str]) -> None:
    """Undo DeepSpeed's numbering. To be called before CUDA is first asked for anything."""
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
    """A rank has a GPU of its own, and one that was given.

    Args:
        count: GPUs that torch can use.
        given: what `VISIBLE` said where DeepSpeed was started; None: nothing, or it is not known.

    Raises:
        InputError: another start than this one would be right.
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
