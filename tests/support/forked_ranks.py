"""Ranks as forks of one process that has imported torch: each by itself would import it for seconds."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Final

from tests.support.commands import Finished, free_port

_DEADLINE: Final = 600
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["torch.distributed", "mmae.distributed.preflight"])


def run_ranks(
    work: Callable[..., None], arguments: Sequence[Sequence[Any]], folder: Path, **environment: str
) -> list[Finished]:
    """Run ranks that meet on this machine, one for each of the arguments; how each ended.

    Args:
        work: a function of a module. What it prints is what the rank says.
        folder: for what ranks say; it holds nothing else.
        environment: variables beside RANK and the meeting place.
    """
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1", **environment}
    ranks: list[ForkServerProcess] = []
    try:
        for rank, words in enumerate(arguments):
            told = {**shared, "RANK": str(rank)}
            process = _context.Process(target=_run, args=(work, words, told, str(folder / str(rank))))
            process.start()
            ranks.append(process)
        for process in ranks:
            process.join(_DEADLINE)
    finally:
        for process in ranks:
            process.kill()
            process.join()
    said = [[Path(f"{folder / str(rank)}.{kind}").read_text() for kind in ("out", "err")] for rank in range(len(ranks))]
    return [
        Finished(-1 if process.exitcode is None else process.exitcode, *texts)
        for process, texts in zip(ranks, said, strict=True)
    ]


def _run(work: Callable[..., None], words: Sequence[Any], environment: Mapping[str, str], name: str) -> None:
    for descriptor, kind in ((1, "out"), (2, "err")):
        file = os.open(f"{name}.{kind}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
        os.close(file)
    for key in os.environ:
        if key.endswith("_SOCKET_IFNAME"):
            del os.environ[key]
    os.environ.update(environment)
    work(*words)
