"""The model of a job in each of its processes: which device it is on, how many cores it uses, and which model it is."""

from __future__ import annotations

import hashlib
import os
from multiprocessing import current_process
from typing import TYPE_CHECKING

from mmae.errors import InputError

if TYPE_CHECKING:
    from mmae.inference.raw_encoder import RawEncoder


def devices_of(processes: int | None) -> tuple[str, ...]:
    """One device a process: GPUs in turn, or the CPU.

    Raises:
        InputError: fewer than one process, or more than the machine can use.
    """
    import torch

    gpus = torch.cuda.device_count()
    most = gpus or len(os.sched_getaffinity(0))
    count = (gpus or 1) if processes is None else processes
    if not 1 <= count <= most:
        raise InputError(f"--processes {count}: give 1 to {most} here: one a {'GPU' if gpus else 'core'} at most")
    return tuple(f"cuda:{number}" if gpus else "cpu" for number in range(count))


def load_here(model: str, trust: bool, devices: tuple[str, ...]) -> RawEncoder:
    """The model on the device of this process; processes on the CPU share its cores.

    Raises:
        InputError: as `load_encoder`.
    """
    import torch

    from mmae.inference.raw_encoder import load_encoder

    if len(devices) > 1 and devices[0] == "cpu":
        # Each process would otherwise start as many threads as there are cores.
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // len(devices)))
    return load_encoder(model, trust=trust, device=devices[process_number() % len(devices)])


def model_hash(model: str) -> str:
    """The hash of a model's weights and configuration: the same name may hold another model tomorrow."""
    from mmae.inference.model_location import model_folder
    from mmae.model.saved.saved_config import CONFIG_NAME
    from mmae.model.saved.saved_model import WEIGHTS_NAME

    # Band statistics are part of the configuration, and change vectors.
    folder, found = model_folder(model), ""
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        with (folder / name).open("rb") as file:
            found += hashlib.file_digest(file, "blake2b").hexdigest()
    return hashlib.blake2b(found.encode()).hexdigest()


def model_name(model: str) -> str:
    """The last part of a folder's path, also of `.`, or of a name on the hub."""
    return os.path.basename(os.path.abspath(model))


def process_number() -> int:
    """Which worker this is, from 0; 0 in a process that nobody spawned."""
    _, _, number = current_process().name.rpartition("-")
    return int(number) - 1 if number.isdecimal() else 0
