"""Watches the steps of a training: one observer for damaged tiles, samples, records and a profile.

The loop in `mmae/train.py` calls it before, within and after each step. It changes nothing that is learned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from mmae.distributed.watchdog import Watchdog
from mmae.engine.engine_protocol import Engine
from mmae.engine.step import Prepared, StepStats
from mmae.engine.telemetry.damage_log import DamageLog
from mmae.engine.telemetry.profiler import StepProfiler
from mmae.engine.telemetry.run_log import RunLog
from mmae.engine.telemetry.sample_log import SampleLog
from mmae.engine.telemetry.step_records import Record, StepRecords
from mmae.engine.telemetry.step_timer import StepTimer
from mmae.run.spec import RunSpec
from mmae.types import Batch


class StepObserver:
    """Every rank has one. Steps are counted from 1.

    Attributes:
        clock: measures waiting for data, and pauses.
        damage: names damaged tiles.
        records: makes the records of log.jsonl.
    """

    def __init__(self, spec: RunSpec, engine: Engine, log: RunLog, rank: int, step: int, watchdog: Watchdog) -> None:
        """Watch the steps after `step`."""
        config, folder = spec.config, spec.folder
        self._profiled = config.train.profiled
        self._watchdog = watchdog
        self.clock = StepTimer(step)
        self.damage = DamageLog(folder.path, rank)
        self.records = StepRecords(spec, engine, self.clock, self.damage)
        self._samples = SampleLog(folder.path, rank, config.log.samples)
        self._profiler = StepProfiler(folder.profiles, self._profiled if rank == 0 else None, log.say)

    def begins(self, step: int) -> None:
        """A step begins: its data are fetched next."""
        self._profiler.before(step)

    def takes(self, step: int, batches: Sequence[Batch], prepared: Prepared) -> None:
        """The engine is about to take a step on these micro-batches."""
        self.damage.write(step, batches)
        # Samples are filed under the number of steps that are done.
        self._samples.write(step - 1, batches, prepared)
        self.records.before()

    def made(self, step: int, stats: StepStats, skipped: Tensor, skipped_steps: Tensor, wanted: bool) -> None:
        """A step has been queued on the device. The arguments are those of `StepRecords.add`."""
        self.records.add(step, stats, skipped, skipped_steps, wanted)
        if self._profiled and step == self._profiled[1]:
            # Writing a trace may take longer than a step.
            self._watchdog.at(step, "save")
        self._profiler.after(step)

    def read(self, step: int, everything: bool) -> Iterator[Record]:
        """Records that can be read after this step without waiting; `everything`: all records, after a wait."""
        return self.records.drain() if everything else self.records.due(step)

    def close(self) -> None:
        """End what is open. Also after an error, and more than once."""
        self._profiler.close()
        self.records.close()
        self._samples.close()
