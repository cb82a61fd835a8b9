"""Many trainings in one living process group: starting ranks takes longer than a small training does.

As a program (`deepspeed --module tests.support.group FOLDER OWNER`) it runs the jobs that it finds in a folder, one
after another, through `mmae.run.spec` and `mmae.train`, as `mmae.train` itself does. As a module it starts that program
with the first jobs, and gives it those of later tests too.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Final
from unittest.mock import patch

from mmae.disk.files import write_whole
from mmae.processes import started
from tests.support.commands import DEADLINE, command_environment, free_port
from tests.support.paths import ROOT

_END: Final = "end"
_POLL_S: Final = 0.05


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        run: its run folder.
        ds: packaged DeepSpeed JSON.
        overrides: of the debug recipe.
        copy_of: a run folder to start from a copy of.
        resume: what `--resume` says.
        fresh: whether `--fresh` is said.
        around: `module:function` of a context manager that each rank trains within; it is given the run's folder.
        compiler: what compiles where `train.compile` is true, instead of torch's own, which takes a minute.
    """

    run: str
    ds: str
    overrides: tuple[str, ...]
    copy_of: str | None = None
    compiler: str | None = None
    resume: str | None = None
    fresh: bool = False
    around: str | None = None


@dataclass(frozen=True)
class Done:
    """How a job ended."""

    run: str
    status: int
    error: str
    seconds: float


def run_jobs(jobs: Sequence[Job], ranks: int, cwd: Path) -> dict[str, Done]:
    """Run jobs in the living group of so many CPU ranks; how each ended, by run folder."""
    if not jobs:
        return {}
    group = _living.get(ranks) or _Group(ranks)
    _living[ranks] = group
    try:
        ended = group.run(jobs, cwd)
    except BaseException:
        # It may be in the middle of a job.
        _living.pop(ranks).end(patience=0)
        raise
    return {end.run: end for end in ended}


def end_groups() -> None:
    """End the groups that this process started."""
    while _living:
        _living.popitem()[1].end()


class _Group:
    """A group that works through the jobs that are put into its folder: N.json, answered by N.results."""

    def __init__(self, ranks: int) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=f"group-of-{ranks}-"))
        self._given = 0
        launcher = ["deepspeed", "--num_gpus", str(ranks), "--master_port", str(free_port())]
        words = [*launcher, "--module", "tests.support.group", str(self._folder), str(os.getpid())]
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                words, cwd=self._folder, env=command_environment(PYTHONPATH=str(ROOT)), stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    @property
    def _output(self) -> Path:
        return self._folder / "output"

    def run(self, jobs: Sequence[Job], cwd: Path) -> list[Done]:
        number, self._given = self._given, self._given + 1
        write_whole(
            self._folder / f"{number}.json", json.dumps({"cwd": str(cwd), "jobs": [asdict(job) for job in jobs]})
        )
        results, end = self._folder / f"{number}.results", time.monotonic() + DEADLINE * len(jobs)
        while not results.is_file():
            assert self._process.poll() is None, self._said()
            assert time.monotonic() < end, self._said()
            time.sleep(_POLL_S)
        return [Done(**line) for line in json.loads(results.read_text())]

    def end(self, patience: float = 30) -> None:
        (self._folder / _END).touch()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _said(self) -> str:
        return self._output.read_text(errors="replace")[-12_000:]


_living: dict[int, _Group] = {}
"""By number of ranks."""


def _run(job: Job) -> Done:
    import torch.distributed as dist

    from mmae.errors import InputError
    from mmae.run.locking.lock import held
    from mmae.run.spec import make_run_spec
    from mmae.train import train

    began = time.monotonic()
    if job.copy_of is not None and dist.get_rank() == 0:
        shutil.copytree(job.copy_of, job.run)
    dist.barrier()
    status, error = 0, ""
    try:
        overrides = [*job.overrides, f"run.dir={job.run}"]
        spec = make_run_spec("debug", job.ds, overrides, dist.get_world_size(), resume=job.resume, fresh=job.fresh)
        # Elsewhere joining the group stands here: no rank writes the run's folder while another looks at it.
        dist.barrier()
        with _compiling_by(job.compiler), _around(job), held(spec.folder.path) as lock:
            status = train(spec, lock)
    except InputError as refused:
        status, error = 2, str(refused)
    dist.barrier()
    gc.collect()
    return Done(job.run, status, error, round(time.monotonic() - began, 2))


def _around(job: Job) -> AbstractContextManager[None]:
    if job.around is None:
        return nullcontext()
    module, _, name = job.around.partition(":")
    context: AbstractContextManager[None] = getattr(import_module(module), name)(Path(job.run))
    return context


@contextmanager
def _compiling_by(compiler: str | None) -> Iterator[None]:
    import torch

    from mmae.engine import build, module

    # One process runs many trainings: what one compiled must not count as another's.
    torch.compiler.reset()
    compile_parts = partial(module.compile_parts, backend=compiler or "inductor")
    with patch.object(build, "compile_parts", compile_parts):
        yield


def _work_through(folder: Path, owner: int, rank: int) -> None:
    """Run jobs until the end is told, or the process that gives them has ended."""
    began, number = started(owner), 0
    while not (folder / _END).exists() and started(owner) == began:
        file = folder / f"{number}.json"
        if not file.exists():
            time.sleep(_POLL_S)
            continue
        given = json.loads(file.read_text())
        os.chdir(given["cwd"])
        ended = [asdict(_run(Job(**job))) for job in given["jobs"]]
        if rank == 0:
            write_whole(folder / f"{number}.results", json.dumps(ended))
        number += 1


def main() -> None:
    """A rank of a group."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--local_rank", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("owner", type=int)
    args = parser.parse_args()
    from mmae.distributed.process_group import join, leave
    from mmae.engine.telemetry.run_log import quiet_libraries

    quiet_libraries()
    _work_through(args.folder, args.owner, join())
    leave()


if __name__ == "__main__":
    main()
