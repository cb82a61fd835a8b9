"""The process group: made once, from the variables that a launcher sets."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mmae.distributed.launch_environment import local_world_size
from mmae.distributed.network_interface import choose_interface, free_port
from mmae.distributed.one_node import meet_here, store_on_loopback

_GLOO_THREAD: Final = "pt_gloo_runloop"
_QUIET_S: Final = 0.1
_LET_GO_S: Final = 10.0


def is_local_main() -> bool:
    """True on the first rank of each node, which prints for its node."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def join() -> int:
    """Join the process group (NCCL on GPUs, gloo on CPUs); a process started by hand is a group of its own.

    Returns:
        this process's rank.
    """
    import deepspeed
    import torch.distributed as dist

    if "RANK" not in os.environ:
        os.environ.update(
            RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port())
        )
    prepare()
    with store_on_loopback(), _without_shared_buffers():
        deepspeed.init_distributed(verbose=False)
    return dist.get_rank()


def join_and_talk() -> int:
    """As `join`, and returns after the ranks have reached one another: NCCL connects them at their first collective."""
    from mmae.distributed.collectives import gather

    rank = join()
    gather(rank)
    return rank


def prepare() -> None:
    """Choose this rank's network interface, GPU and number of threads, from the variables that a launcher sets."""
    import torch

    meet_here(os.environ)
    choose_interface(os.environ)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    elif "OMP_NUM_THREADS" not in os.environ:
        # Each rank would start as many threads as there are cores, and they would slow one another down.
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // local_world_size(os.environ)))


def leave() -> None:
    """Leave the process group; not doing so makes torch warn at exit."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
        _wait_for_gloo()


def _wait_for_gloo() -> None:
    """Wait until gloo's threads are idle: they may outlive the group.

    They free the tensors of the last gather. For that they need Python's lock, and a thread that asks for it while the
    interpreter ends aborts the process. Seen with torch 2.14.
    """
    until = time.monotonic() + _LET_GO_S
    before, now = None, _gloo_threads()
    # While this thread sleeps, Python's lock is free: a thread that waits for it moves on, or is seen to run.
    while time.monotonic() < until and (now != before or any(state != "S" for state, _ in now.values())):
        time.sleep(_QUIET_S)
        before, now = now, _gloo_threads()


def _gloo_threads() -> dict[str, tuple[str, str]]:
    """State of each thread, and how often it has waited; empty if the system does not say."""
    found = {}
    for status in Path("/proc/self/task").glob("*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except OSError:
            continue
        if fields["Name"].strip() == _GLOO_THREAD:
            found[status.parent.name] = fields["State"].strip()[0], fields["voluntary_ctxt_switches"].strip()
    return found


@contextmanager
def _without_shared_buffers() -> Iterator[None]:
    """Keep DeepSpeed from making a file of 69 MB a rank in /dev/shm, which it never removes.

    Where all ranks of a group are CPU ranks of this node, as LOCAL_SIZE tells it, DeepSpeed makes one for an
    all-reduce of its own, which only its tensor parallelism calls. Seen with deepspeed 0.19.8.
    """
    local_size = os.environ.pop("LOCAL_SIZE", None)
    try:
        yield
    finally:
        if local_size is not None:
            os.environ["LOCAL_SIZE"] = local_size
