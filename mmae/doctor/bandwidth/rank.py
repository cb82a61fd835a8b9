"""One rank of the all-reduce that measures the network. A launcher starts it in place of `mmae.train`.

It joins the others as a rank of a training does. It is two processes: one loads torch and reduces; the other stays
small, and reports how the first one ends. DeepSpeed ends all ranks of a host when one ends, before they could report.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from mmae.distributed.devices import take_given
from mmae.distributed.one_node import store_on_loopback
from mmae.distributed.process_group import leave, prepare
from mmae.processes import die_with_parent
from mmae.terminal.error_line import first_line

if TYPE_CHECKING:
    import torch

MODULE: Final = "mmae.doctor.bandwidth.rank"
MARK: Final = "mmae-bandwidth-rank "
"""Begins each report on stdout: pdsh and other programs may print before it, and between reports."""
REPEATS: Final = 5
LEAST_BYTES: Final = 1 << 20
RUNS: Final = -1000
"""Stands for the exit status of a process that still runs."""
PHASES: Final = ("launch", "start", "meet", "first", "measure", "done", "failed")
"""Not started yet; loading torch; meeting the other ranks; a first all-reduce; the timed ones."""
_GROWTH: Final = 4
_FLOAT: Final = 4
_MOST_WORDS: Final = 300
_TURN_S: Final = 0.5
"""DeepSpeed ends the processes of a rank one after the other, within moments."""


@dataclass(frozen=True)
class RankSaid:
    """The progress of a rank, as its reports tell it.

    Attributes:
        phase: the last of `PHASES` that it has reached.
        why: the reason of its failure.
        interface: the one over which it meets the others; "" if the libraries choose.
        status: exit status of the process that reduces.
    """

    rank: int
    phase: str = "launch"
    why: str = ""
    interface: str = ""
    bytes: int = 0
    seconds: list[float] = field(default_factory=list)
    status: int = RUNS


@dataclass(frozen=True)
class Task:
    """The task of a rank.

    Attributes:
        most_bytes: largest number of bytes to reduce at once.
        seconds: approximate time for the measurement.
        limit_s: seconds after which the kernel ends the rank, wherever it hangs.
    """

    backend: str
    most_bytes: int
    seconds: float
    limit_s: float

    def words(self) -> list[str]:
        """The words that a launcher starts the rank with."""
        told = {name: str(value) for name, value in vars(self).items()}
        return ["--module", MODULE, *(f"--{name}={value}" for name, value in told.items())]


def task_of(words: Sequence[str]) -> Task:
    """The task in the words of a rank, among which DeepSpeed has put `--local_rank`."""
    parser = argparse.ArgumentParser(prog=MODULE, allow_abbrev=False)
    parser.add_argument("--local_rank")
    parser.add_argument("--backend", required=True)
    parser.add_argument("--most_bytes", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--limit_s", type=float, required=True)
    said = parser.parse_args(words)
    return Task(said.backend, said.most_bytes, said.seconds, said.limit_s)


def main(words: Sequence[str]) -> int:
    task = task_of(words)
    die_with_parent(signal.SIGTERM, os.getppid())
    # The kernel's timer also works while a library hangs and Python code cannot run.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, task.limit_s)
    _report(phase="start")
    reporter = os.getpid()
    worker = os.fork()
    if worker == 0:
        die_with_parent(signal.SIGKILL, reporter)
        return _work(task)
    if status := os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]):
        time.sleep(_TURN_S)
        _report(status=status)
        signal.pause()
    return 0


def _report(**news: object) -> None:
    # In one piece, because other ranks write to the same pipe.
    os.write(1, f"{MARK}{json.dumps({'rank': int(os.environ['RANK']), **news})}\n".encode())


def _work(task: Task) -> int:
    try:
        size, seconds = _reduce(task)
    except Exception as error:  # the doctor says it
        _report(phase="failed", why=first_line(error)[:_MOST_WORDS])
        # DeepSpeed would end the other ranks of this host with this one.
        signal.pause()
    _report(phase="done", bytes=size, seconds=seconds, interface=os.environ.get("GLOO_SOCKET_IFNAME", ""))
    leave()
    return 0


def meet(backend: str, limit_s: float) -> torch.device:
    """Join the process group as `mmae.distributed.process_group.join` does, but without building DeepSpeed's ops."""
    import torch
    import torch.distributed as dist

    take_given(os.environ)
    prepare()
    device = torch.device("cuda", torch.cuda.current_device()) if backend == "nccl" else torch.device("cpu")
    with store_on_loopback():
        dist.init_process_group(
            backend, timeout=timedelta(seconds=limit_s), device_id=device if backend == "nccl" else None
        )
    return device


def _reduce(task: Task) -> tuple[int, list[float]]:
    import torch
    import torch.distributed as dist

    _report(phase="meet")
    device, world = meet(task.backend, task.limit_s), int(os.environ["WORLD_SIZE"])
    _report(phase="first")
    numbers = torch.ones(max(task.most_bytes, LEAST_BYTES) // _FLOAT, device=device)
    dist.all_reduce(numbers[:world])
    if any(sum_ != world for sum_ in numbers[:world].tolist()):
        raise RuntimeError(f"the sum of {world} ones was {numbers[:world].tolist()}")
    _report(phase="measure")

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
    raise SystemExit(main(sys.argv[1:]))
