"""One rank of the all-reduce that measures the network. An agent starts it: `python -m mmae.doctor.agent.all_reduce`.

The agent sets the variables that a launcher sets for a rank, and the rank prepares itself as that of a training does.
The first line of its input is its task; it ends when its input ends. Lines with the task's token report its progress.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mmae.doctor.agent.messages import parse, parse_json
from mmae.terminal.error_line import first_line

REPEATS: Final = 5
LEAST_BYTES: Final = 1 << 20
_GROWTH: Final = 4
_FLOAT: Final = 4
PHASES: Final = ("start", "meet", "first", "measure", "done", "failed")
"""Loading torch; meeting the other ranks; a first all-reduce; the timed ones."""


@dataclass(frozen=True)
class Task:
    """The task of a rank.

    Attributes:
        token: marks its lines, and its keys in the store.
        address, port: of the store; the first rank keeps it, on the socket `listener` (a descriptor; otherwise -1).
        meeting_place: where a training's ranks would meet; it decides which interface is used.
        most_bytes: largest number of bytes to reduce at once.
        seconds: approximate time for the measurement.
        limit_s: seconds after which the kernel ends the process, wherever it hangs.
    """

    token: str
    rank: int
    world: int
    backend: str
    address: str
    port: int
    listener: int
    meeting_place: str
    most_bytes: int
    seconds: float
    limit_s: float


def main() -> None:
    task = parse(Task, parse_json(sys.stdin.readline()))
    # The kernel's timer also works while a library hangs and Python code cannot run.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, task.limit_s)
    threading.Thread(target=_end_with_input, name="input", daemon=True).start()
    try:
        size, seconds = _work(task)
    except Exception as error:  # the agent reports it
        _say(task, "failed", why=first_line(error)[:300])
    else:
        _say(task, "done", bytes=size, seconds=seconds)
    # The first rank keeps the store, and others may still run: all wait for the end of their input.
    threading.Event().wait()


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


def _say(task: Task, phase: str, **more: object) -> None:
    print(task.token, json.dumps({"phase": phase, **more}), flush=True)


def _work(task: Task) -> tuple[int, list[float]]:
    _say(task, "start")
    from datetime import timedelta

    import torch
    import torch.distributed as dist
    from torch._C._distributed_c10d import PrefixStore, TCPStore

    from mmae.distributed.process_group import prepare

    _say(task, "meet")
    limit = timedelta(seconds=task.limit_s)
    first = task.rank == 0
    store = TCPStore(
        task.address, task.port, is_master=first, wait_for_workers=False, timeout=limit,
        master_listen_fd=task.listener if first else None,
    )  # fmt: skip
    prepare()
    device = torch.device("cuda", torch.cuda.current_device()) if task.backend == "nccl" else torch.device("cpu")
    dist.init_process_group(
        task.backend, store=PrefixStore(task.token, store), rank=task.rank, world_size=task.world, timeout=limit
    )
    _say(task, "first")
    numbers = torch.ones(max(task.most_bytes, LEAST_BYTES) // _FLOAT, device=device)
    dist.all_reduce(numbers[: task.world])
    if any(sum_ != task.world for sum_ in numbers[: task.world].tolist()):
        raise RuntimeError(f"the sum of {task.world} ones was {numbers[: task.world].tolist()}")
    _say(task, "measure")

    def timed(size: int) -> float:
        """Seconds of the slowest rank, the same on all ranks."""
        part = numbers[: size // _FLOAT].zero_()
        dist.barrier()
        began = time.perf_counter()
        dist.all_reduce(part)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took = torch.tensor([time.perf_counter() - began], dtype=torch.float64, device=device)
        dist.all_reduce(took, op=dist.ReduceOp.MAX)
        return float(took.item())

    return measured(timed, task.most_bytes, task.seconds)


def measured(timed: Callable[[int], float], most_bytes: int, seconds: float) -> tuple[int, list[float]]:
    """The largest size up to `most_bytes` whose repetitions fit into the time, and the seconds of each repetition.

    Args:
        timed: reduces so many bytes, and returns the same seconds on every rank, so that all choose the same size.
    """
    size = min(LEAST_BYTES, most_bytes)
    while True:
        # The first call allocates buffers of this size.
        timed(size)
        took = timed(size)
        larger = min(_GROWTH * size, most_bytes)
        if larger == size or took * larger / size * (REPEATS + 2) > seconds:
            break
        size = larger
    return size, [timed(size) for _ in range(REPEATS)]


def bus_bandwidth(size: int, seconds: float, ranks: int) -> float:
    """Bytes a second on the busiest link: nccl-tests' busbw = algbw * 2 (n - 1) / n (its doc/PERFORMANCE.md)."""
    return size / seconds * 2 * (ranks - 1) / ranks


if __name__ == "__main__":
    main()
