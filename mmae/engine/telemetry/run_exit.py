"""How a training ends, whichever way: what was recorded is written, and a failure says where to look."""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType
from typing import Final

import torch
import torch.distributed as dist

from mmae.addresses import hide_in_text, secrets_of
from mmae.distributed.process_group import is_local_main
from mmae.distributed.watchdog import is_of_communication
from mmae.engine.telemetry.oom_advice import explained, is_out_of_memory
from mmae.engine.telemetry.profiler import StepProfiler
from mmae.engine.telemetry.rank_log import RankLog
from mmae.engine.telemetry.run_log import RunLog
from mmae.engine.telemetry.step_records import StepRecords
from mmae.errors import DoesNotFitError, InputError
from mmae.run.spec import RunSpec
from mmae.terminal.error_line import say_error, typed_line

_SAID: Final = "(see this rank's log file)"


def was_said(error: BaseException) -> bool:
    """Whether a training has said that it ended by this error."""
    return _SAID in getattr(error, "__notes__", ())


class RunEnd:
    """Stands around a training, and is told of its parts as they are made.

    An error leaves it as it came, but for one of memory, which becomes an `DoesNotFitError` with advice.
    """

    def __init__(self, spec: RunSpec, watched: bool = False) -> None:
        """Stand around a training.

        Args:
            watched: who watches the ranks records it where another rank is at fault (`watchdog`).
        """
        self._spec, self._watched = spec, watched
        self._secrets = secrets_of(spec.config.data.locations)
        self._rank_log = RankLog(dist.get_rank(), is_local_main(), self._secrets)
        self._log: RunLog | None = None
        self._records: StepRecords | None = None
        self._profile: StepProfiler | None = None

    def open(self, log: RunLog, records: StepRecords, profile: StepProfiler) -> None:
        """From now on the run's folder is this start's own."""
        self._rank_log.open(self._spec.folder.logs)
        self._log, self._records, self._profile = log, records, profile

    def __enter__(self) -> RunEnd:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        ended = error
        if error is not None and is_out_of_memory(error):
            ended = self._explained(error)
        if isinstance(ended, Exception) and not isinstance(ended, InputError):
            self._rank_log.failed(ended, by_another=is_of_communication(ended))
            ended.add_note(_SAID)
        if isinstance(ended, InputError) and not isinstance(ended, DoesNotFitError) and self._found_alone():
            # The others may never come to it.
            say_error(f"mmae: error: rank {dist.get_rank()}: {ended}")
        for close in (self._write_records, self._write_end, self._close):
            # An error's own report must not be hidden by another of what it broke.
            with suppress(Exception):
                close(ended)
        self._rank_log.close()
        if isinstance(ended, DoesNotFitError) and ended is not error:
            raise ended from error

    def _found_alone(self) -> bool:
        """In the middle of training, by a rank that does not speak for its node."""
        return self._log is not None and not is_local_main() and self._rank_log.is_first()

    def _write_records(self, error: BaseException | None) -> None:
        if error is not None and self._records is not None and self._log is not None:
            # A device that has failed may never come to the rest.
            for record in self._records.arrived():
                self._log.write("train", **record)

    def _write_end(self, error: BaseException | None) -> None:
        if error is None or (self._watched and is_of_communication(error)):
            return
        if self._records is not None and self._log is not None:
            said = hide_in_text(typed_line(error), self._secrets)
            self._log.write("end", step=self._records.step, why="error", error=said)

    def _close(self, _error: BaseException | None) -> None:
        if self._profile is not None:
            self._profile.close()
        if self._records is not None:
            self._records.close()
        if self._log is not None:
            self._log.close()

    def _explained(self, error: BaseException) -> DoesNotFitError:
        spec = self._spec
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "the host"
        in_a_step = self._records is not None
        return explained(error, spec.split, spec.config.train, spec.zero_stage, dist.get_rank(), device, in_a_step)
