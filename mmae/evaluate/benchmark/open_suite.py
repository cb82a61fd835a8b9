"""The suites by name: which tasks they have, and how a task of one is opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmae.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from mmae.evaluate.benchmark.tasks.benchmark_task import BenchmarkTask
    from mmae.modalities import S2Level

SUITES: Final = ("geobench1", "mmearth-bench")


def task_names(suite: str) -> tuple[str, ...]:
    """The tasks of a suite.

    Raises:
        InputError: there is no such suite.
    """
    if suite == "geobench1":
        from mmae.evaluate.benchmark.geobench.task_table import TASKS

        return tuple(TASKS)
    if suite == "mmearth-bench":
        from mmae.evaluate.benchmark.mmearth_bench.bench_layout import TASKS as BENCH_TASKS

        return tuple(BENCH_TASKS)
    raise InputError(f"suite {suite!r} is not known{did_you_mean(suite, SUITES)}")


def open_task(
    suite: str, data: Path, name: str, partition: str = "default", level: S2Level | None = None
) -> BenchmarkTask:
    """Open a task of a suite for reading.

    Args:
        data: the suite's folder.
        partition: of the task's samples, as the suite spells it.
        level: of the Sentinel-2 images, if it is known better than the suite says.

    Raises:
        InputError: there is no such suite, task or partition, or files are missing or damaged.
    """
    if name not in task_names(suite):
        raise InputError(f"{suite} has no task {name!r}{did_you_mean(name, task_names(suite))}")
    if suite == "geobench1":
        from mmae.evaluate.benchmark.geobench.geobench_task import open_geobench

        return open_geobench(data, name, partition, level)
    from mmae.evaluate.benchmark.mmearth_bench.bench_task import open_bench

    return open_bench(data, name, partition, level)
