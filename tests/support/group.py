"""Many trainings in one living process group: starting ranks takes longer than a small training does.

As a program (`deepspeed --module tests.support.group JOBS RESULTS`) it runs the jobs of a JSON file one after
another through `mmae.run.spec` and `mmae.train`, as `mmae.train` itself does. As a module it starts that program.
"""

from __future__ import annotations

import gc
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.support.commands import run_as_rank


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
    """Run jobs in one group of CPU ranks; how each ended, by run folder."""
    from tests.support.commands import free_port, run_command
    from tests.support.paths import ROOT

    if not jobs:
        return {}
    name = f"jobs-{ranks}-{time.monotonic_ns()}"
    (cwd / f"{name}.json").write_text(json.dumps([asdict(job) for job in jobs]))
    launcher = ["deepspeed", "--num_gpus", str(ranks), "--master_port", str(free_port())]
    done = run_command(
        *launcher, "--module", "tests.support.group", f"{name}.json", f"{name}.results",
        cwd=cwd, PYTHONPATH=str(ROOT), deadline=3600,
    )  # fmt: skip
    results = cwd / f"{name}.results"
    assert results.is_file(), done.out + done.err
    ended = [Done(**json.loads(line)) for line in results.read_text().splitlines()]
    assert len(ended) == len(jobs), done.out[-4000:] + done.err[-8000:]
    return {end.run: end for end in ended}


def _run(job: Job) -> Done:
    import torch.distributed as dist

    from mmae.errors import InputError
    from mmae.run.lock import held
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


def _run_all(jobs: list[dict[str, Any]], file: Path, rank: int) -> None:
    """Rank 0 writes a line a job."""
    with file.open("a", buffering=1) if rank == 0 else open("/dev/null", "w") as results:
        for job in jobs:
            results.write(json.dumps(asdict(_run(Job(**job)))) + "\n")


if __name__ == "__main__":
    sys.exit(run_as_rank(_run_all))
