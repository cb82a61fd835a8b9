"""What the ranks of a real engine hold: counted tensor by tensor, on CPUs.

As a program (`deepspeed --module tests.support.held_bytes JOBS RESULTS`) it builds an engine for each job of a JSON
file and takes two steps of one tile a micro-batch. As a module it starts that program.
"""

from __future__ import annotations

import gc
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.support.commands import free_port, run_as_rank, run_command
from tests.support.paths import ROOT

BUCKET = 500_000
"""Numbers a bucket, instead of the packaged files' hundreds of millions, beside which these models would vanish."""


@dataclass(frozen=True)
class Job:
    """An engine: encoder size, packaged DeepSpeed JSON, precision, micro-batches a step, what they add up in, what
    does not learn, and its optimiser."""

    size: str
    file: str
    precision: str = "bf16"
    accumulation: int = 1
    sums: str | None = None
    frozen: str | None = None
    optimizer: str = "adamw"

    @property
    def overrides(self) -> list[str]:
        said = [f"model.size={self.size}", f"train.precision={self.precision}", "train.micro_batch=1"]
        said.append(f"train.optimizer={self.optimizer}")
        said += [f"train.frozen=[{self.frozen}]"] if self.frozen else []
        return said + ([f"train.grad_accumulation_dtype={self.sums}"] if self.sums else [])


@dataclass(frozen=True)
class Held:
    """Bytes of one rank.

    Attributes:
        steady: between two steps.
        optimiser: at most while weights are updated.
        checkpoint: on disk, all ranks' together.
        carried: in a step, the second one (`carried_bytes.Carried`).
    """

    steady: int
    optimiser: int
    checkpoint: int
    carried: int


def held_by(jobs: Sequence[Job], ranks: int, cwd: Path) -> list[Held]:
    """By rank 0, job by job."""
    (cwd / "jobs.json").write_text(json.dumps([asdict(job) for job in jobs]))
    launcher = ["deepspeed", "--num_gpus", str(ranks), "--master_port", str(free_port())]
    done = run_command(
        *launcher, "--module", "tests.support.held_bytes", "jobs.json", "held.json",
        cwd=cwd, PYTHONPATH=str(ROOT), deadline=1800,
    )  # fmt: skip
    assert done.status == 0, done.out[-2000:] + done.err[-6000:]
    return [Held(**each) for each in json.loads((cwd / "held.json").read_text())]


def merged_config(job: Job, world: int) -> tuple[Any, Any, dict[str, Any]]:
    """The recipe, the packaged ZeRO section with small buckets, and what DeepSpeed is given."""
    from mmae.config.batch_split import BatchSplit
    from mmae.config.deepspeed import load_deepspeed_json, merge, settled
    from mmae.config.recipe_file import load_config

    split = BatchSplit(1, job.accumulation, world)
    config = load_config("debug", [*job.overrides, f"train.global_batch={split.global_batch}"])
    path, said_json = load_deepspeed_json(job.file)
    parsed = settled(said_json, config.train, world)
    keys = ("reduce_bucket_size", "allgather_bucket_size", "stage3_prefetch_bucket_size")
    said = parsed.zero_optimization.model_fields_set
    small = parsed.zero_optimization.model_copy(update={key: BUCKET for key in keys if key in said})
    merged = merge(path, parsed, config.train, split)
    merged["zero_optimization"] = small.model_dump(exclude_unset=True) | {
        key: merged["zero_optimization"][key] for key in ("stage", "memory_efficient_linear")
    }
    return config, small, merged


def _measure(job: Job, folder: Path) -> Held:
    import torch
    import torch.distributed as dist

    from mmae.engine.build import build_engine
    from mmae.engine.checkpoint.conversion.reshape import _blank
    from tests.support.carried_bytes import carried_bytes
    from tests.support.live_bytes import LiveBytes

    config, _, merged = merged_config(job, dist.get_world_size())
    gc.collect()
    with LiveBytes() as live:
        engine = build_engine(config, merged, load_initial=False)
        inputs, plan = _blank(config.model, engine.device)
        count_O = torch.ones(len(config.model.outputs))
        for _ in range(2):
            with carried_bytes() as carried:
                for _ in range(job.accumulation):
                    loss, *_ = engine(inputs, plan, count_O, 1.0)
                    engine.backward(loss, scale_wrt_gas=False)
                    del loss
                    live.forget_peak()
                    engine.step()
        gc.collect()
        steady, peak = live.now, live.peak
    engine.save_checkpoint(str(folder), tag="x", client_state={}, save_latest=False)
    dist.barrier()
    checkpoint = sum(path.stat().st_size for path in (folder / "x").iterdir())
    dist.barrier()
    engine.destroy()
    if dist.get_rank() == 0:
        shutil.rmtree(folder)
    return Held(steady, peak, checkpoint, carried.ways)


def _measure_all(jobs: list[dict[str, Any]], results: Path, rank: int) -> None:
    """Rank 0 writes what it holds."""
    held = [_measure(Job(**job), Path(f"job-{number}")) for number, job in enumerate(jobs)]
    if rank == 0:
        results.write_text(json.dumps([asdict(each) for each in held]))


if __name__ == "__main__":
    sys.exit(run_as_rank(_measure_all))
