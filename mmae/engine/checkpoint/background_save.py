"""A save between the moment its content is fixed and its end: in the background, or at once."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from mmae.disk.files import write_whole
from mmae.disk.regular_file import read_regular_text
from mmae.distributed.collectives import rank, world
from mmae.engine.checkpoint.deepspeed_writer import Written
from mmae.engine.checkpoint.hashed_file import Entry

_POLL_S: Final = 0.1


@dataclass(frozen=True)
class SaveResult:
    """How a save ended.

    Attributes:
        path: the checkpoint; None where the save failed.
        reason: why the save failed; empty where it did not.
        rank: the rank that could not write.
        seconds: from the start of the save to its end.
        stalled_seconds: how long training stood still meanwhile.
    """

    step: int
    path: Path | None
    reason: str = ""
    rank: int = 0
    size: int = 0
    seconds: float = 0.0
    stalled_seconds: float = 0.0


class RunningSave:
    """One running save. Its methods run on every rank, `settle` on rank 0."""

    def __init__(self, write: Any, temporary: Path, commit_files: Any) -> None:
        self._write, self._commit = write, commit_files
        self._temporary = temporary
        self._notes = temporary.with_name(f"{temporary.name}.notes")
        self._own = rank()
        self._world = world()
        self._done_writing = threading.Event()
        self._leave = threading.Event()
        self._results: list[Written] | None = None
        self._outcome: SaveResult | None = None

    def start(self, planned: SaveResult, begun: float) -> None:
        """Write and commit in a thread."""
        self._planned, self._begun = replace(planned, stalled_seconds=time.monotonic() - begun), begun
        # Not a daemon: Python waits for the thread when the process ends.
        self._thread = threading.Thread(target=self._run, name="checkpoint")
        self._thread.start()

    def written(self) -> Written:
        """What this rank wrote. Waits until it has."""
        self._done_writing.wait()
        if self._own:
            # Its note must be written too: a late note would be taken for one of the next save.
            self._thread.join()
        return self._result

    def outcome(self, results: list[Written]) -> SaveResult:
        """How the save ended. Waits until it has."""
        self._results = results
        self._leave.set()
        self._thread.join()
        assert self._outcome is not None
        return self._outcome

    def abandon(self) -> None:
        """Wait for this rank's files, and for the other ranks' as long as they may still be written."""
        self._done_writing.wait()
        self._thread.join(timeout=30.0)
        self._leave.set()
        self._thread.join()

    def settle(self, results: list[Written], planned: SaveResult) -> SaveResult:
        """Commit if every rank could write; otherwise remove what was written."""
        outcome = planned
        failed = next((number for number, result in enumerate(results) if result.error), None)
        if failed is not None:
            outcome = replace(planned, path=None, reason=results[failed].error, rank=failed)
        else:
            files = {name: entry for result in results for name, entry in result.files.items()}
            try:
                self._commit(files)
                outcome = replace(planned, size=sum(entry.size for entry in files.values()))
            except OSError as error:
                outcome = replace(planned, path=None, reason=f"{error.filename}: {error.strerror}")
        shutil.rmtree(self._notes, ignore_errors=True)
        if outcome.path is None:
            shutil.rmtree(self._temporary, ignore_errors=True)
        return outcome

    def _run(self) -> None:
        try:
            self._result: Written = self._write()
        except Exception as error:  # the ranks tell one another at the next save
            self._result = Written(error=repr(error))
        self._done_writing.set()
        self._note()
        if self._own == 0:
            try:
                outcome = self._settled()
            except Exception as error:  # told to all ranks at the next save
                outcome = replace(self._planned, path=None, reason=str(error))
            self._outcome = replace(outcome, seconds=time.monotonic() - self._begun)

    def _settled(self) -> SaveResult:
        results = self._all_results()
        if results is None:
            return replace(self._planned, path=None, reason="training ended before all ranks had written")
        return self.settle(results, self._planned)

    def _note(self) -> None:
        """Tell rank 0 by a file. If that fails, rank 0 learns it at the next save."""
        try:
            self._notes.mkdir(exist_ok=True)
            write_whole(self._notes / str(self._own), json.dumps(asdict(self._result)))
        except OSError:
            return

    def _all_results(self) -> list[Written] | None:
        """Every rank's results, from notes or from `outcome`; None where the process ends without them."""
        while not self._leave.is_set():
            names = [str(number) for number in range(self._world)]
            # List the folder: network file systems cache for long that a single name did not exist.
            if self._notes.is_dir() and set(names) <= set(os.listdir(self._notes)):
                return [_read_note(self._notes / name) for name in names]
            self._leave.wait(_POLL_S)
        return self._results


def _read_note(note: Path) -> Written:
    told = json.loads(read_regular_text(note))
    return Written({name: Entry(**entry) for name, entry in told["files"].items()}, told["error"])
