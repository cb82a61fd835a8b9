"""One rank of the all-reduce that measures the network: `python -m mmae.doctor.agent.all_reduce`, started by a host's
agent.

The first line of its input says what to do; it ends when its input does. What it prints behind the task's token says
how far it has come.
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
"""Loading torch; finding all others; an all-reduce at all; those that count."""


@dataclass(frozen=True)
class Task:
    """What a rank is to do.

    Attributes:
        token: marks its lines, and its keys in the store.
        device: GPU of its host.
        address, port: of the store; the first rank keeps it, on the socket `listener` (a descriptor; -1 elsewhere).
        interface: of gloo, unless the environment says one.
        most_bytes: to reduce at once.
        seconds: that measuring may take, about.
        limit_s: after which it is ended, whatever it hangs in.
    """

    token: str
    rank: int
    world: int
    device: int
    backend: str
    address: str
    port: int
    listener: int
    interface: str
    most_bytes: int
    seconds: float
    limit_s: float


def main() -> None:
    task = parse(Task, parse_json(sys.stdin.readline()))
    # By the kernel: a library may hang where Python gets no turn.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, task.limit_s)
    threading.Thread(target=_end_with_input, name="input", daemon=True).start()
    if task.interface:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", task.interface)
    try:
        size, seconds = _work(task)
    except Exception as error:  # told to who asked
        _say(task, "failed", why=first_line(error)[:300])
    else:
        _say(task, "done", bytes=size, seconds=seconds)
    # The first rank keeps the store, and others may not be done: all stay until they are told.
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

    _say(task, "meet")
    limit = timedelta(seconds=task.limit_s)
    first = task.rank == 0
    store = TCPStore(
        task.address, task.port, is_master=first, wait_for_workers=False, timeout=limit,
        master_listen_fd=task.listener if first else None,
    )  # fmt: skip
    device = torch.device("cpu")
    if task.backend == "nccl":
        device = torch.device("cuda", task.device)
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)
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
        """The slowest rank's seconds, which all ranks are told."""
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
    """The largest size up to `most_bytes` whose repetitions end in time, and what each took.

    Args:
        timed: reduces so many bytes; the same answer on every rank, so that all choose alike.
    """
    size = min(LEAST_BYTES, most_bytes)
    while True:
        # Once to warm up: buffers of a size are made when it is first seen.
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
