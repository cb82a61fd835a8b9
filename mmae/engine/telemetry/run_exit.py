"""Every end of a training: pending records are written, and a failure says where to look."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, cast

import torch
import torch.distributed as dist

from mmae.addresses import hide_in_text, secrets_of
from mmae.distributed.collectives import is_of_communication
from mmae.distributed.process_group import is_local_main
from mmae.engine.telemetry.oom_advice import explained, is_out_of_memory
from mmae.engine.telemetry.rank_log import RankLog
from mmae.engine.telemetry.run_log import RunLog
from mmae.errors import DoesNotFitError, InputError
from mmae.run.folder import RunFolder
from mmae.run.log_reader import END, ends_in_a_torn_line, line_of, new_record
from mmae.run.spec import RunSpec
from mmae.terminal.edge import ending
from mmae.terminal.error_line import say_error, typed_line

_SAID: Final = "(see this rank's log file)"


def was_said(error: BaseException) -> bool:
    """Whether a training has already reported this error."""
    return _SAID in getattr(error, "__notes__", ())


def write_end(log: Path, step: int, error: str) -> None:
    """Record in log.jsonl that the training ended by another rank's failure, without the run's `RunLog`.

    The rank that has the `RunLog` may be the lost one, or hang in a call to the others. A log that cannot be written
    costs the record.
    """
    line = line_of(new_record(END, step=step, why="error", error=error))
    with suppress(OSError):
        begin = b"\n" if ends_in_a_torn_line(log) else b""
        with log.open("ab", buffering=0) as file:
            file.write(begin + line)


class Started(Protocol):
    """What is known of a start: its folder, and its configuration (`data.locations`)."""

    @property
    def folder(self) -> RunFolder: ...

    @property
    def config(self) -> Any: ...


class Stepping(Protocol):
    """Records of steps that have not been written yet, and the last step."""

    @property
    def step(self) -> int: ...

    def arrived(self) -> Iterable[dict[str, Any]]: ...


class Observer(Protocol):
    """What is open while steps are made."""

    @property
    def records(self) -> Stepping: ...

    def close(self) -> None: ...


Explain = Callable[[BaseException, bool], DoesNotFitError]
"""The message after out-of-memory, and whether that was within a step."""


class RunEnd:
    """A context around a training.

    Errors pass through it unchanged, except out-of-memory, which becomes a `DoesNotFitError` with advice.
    """

    def __init__(self, spec: Started, watched: bool = False, explain: Explain | None = None) -> None:
        """Collect this rank's messages from now on.

        Args:
            watched: a watchdog runs. It records the end where another rank is at fault.
            explain: makes the message after out-of-memory; None: that of `mmae train`.
        """
        self._spec, self._watched, self._explain = spec, watched, explain
        self._secrets = secrets_of(spec.config.data.locations)
        self._rank_log = RankLog(dist.get_rank(), is_local_main(), self._secrets)
        self._log: RunLog | None = None
        self._observer: Observer | None = None

    def open(self, log: RunLog, observer: Observer) -> None:
        """Write into the run's folder from now on: this start has taken it over."""
        self._rank_log.open(self._spec.folder.logs)
        self._log, self._observer = log, observer

    def __enter__(self) -> RunEnd:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        ended = error
        if error is not None and is_out_of_memory(error):
            ended = self._explained(error)
        told = ending(ended) if isinstance(ended, Exception) else None
        if isinstance(ended, Exception) and told is None:
            self._rank_log.failed(ended, by_another=is_of_communication(ended))
            ended.add_note(_SAID)
        if ended is not None and told is not None:
            if not isinstance(ended, InputError):
                self._rank_log.record(ended)
            if not isinstance(ended, DoesNotFitError) and self._found_alone():
                # The other ranks may never reach this error.
                say_error(f"mmae: error: rank {dist.get_rank()}: {told.line.removeprefix('error: ')}")
        for close in (self._write_records, self._write_end, self._close):
            # A later error must not hide the first one.
            with suppress(Exception):
                close(ended)
        self._rank_log.close()
        if isinstance(ended, DoesNotFitError) and ended is not error:
            raise ended from error

    def _found_alone(self) -> bool:
        """Whether this rank met the error first, in the middle of training, and is not the main one of its node."""
        return self._log is not None and not is_local_main() and self._rank_log.is_first()

    def _write_records(self, error: BaseException | None) -> None:
        if error is not None and self._observer is not None and self._log is not None:
            # A failed device may never compute the others.
            for record in self._observer.records.arrived():
                self._log.write("train", **record)

    def _write_end(self, error: BaseException | None) -> None:
        if error is None or (self._watched and is_of_communication(error)):
            return
        if self._observer is not None and self._log is not None:
            said = hide_in_text(typed_line(error), self._secrets)
            self._log.write(END, step=self._observer.records.step, why="error", error=said)

    def _close(self, _error: BaseException | None) -> None:
        if self._observer is not None:
            self._observer.close()
        if self._log is not None:
            self._log.close()

    def _explained(self, error: BaseException) -> DoesNotFitError:
        in_a_step = self._observer is not None
        if self._explain is not None:
            return self._explain(error, in_a_step)
        spec = cast(RunSpec, self._spec)
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "the host"
        return explained(error, spec.split, spec.config.train, spec.zero_stage, dist.get_rank(), device, in_a_step)
