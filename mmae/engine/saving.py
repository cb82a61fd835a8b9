"""Saving checkpoints while training: whole or not at all, agreed by all ranks, and never the end of a training.

Every rank writes its files, hashed and synced, into a folder with a dot in front, and tells the others. Only if all
could, rank 0 writes the manifest and gives the folder its final name. With `checkpoint.asynchronous` the files are
held in memory and a thread writes them: rank 0's thread learns from small files how the others' went, because ranks
talk to one another from their main threads only.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml
from safetensors.torch import save as to_safetensors

from mmae.engine.checkpoint import state_at
from mmae.engine.checkpoint_store import (
    SAVING,
    commit,
    name_of,
    newest_first,
    pointed_at,
    recover,
    remove,
    size_of,
    step_of,
)
from mmae.engine.generators import generator_state
from mmae.engine.hashed_file import Entry
from mmae.engine.keep import superfluous
from mmae.engine.plan import Plan
from mmae.engine.run_folder import without_passwords, write_whole
from mmae.engine.run_lock import RunLock
from mmae.engine.state_writer import Written, write_through
from mmae.engine.together import gather, on_rank_0, rank, world
from mmae.engine.train_state import BAND_STATS, CONFIG, STATE
from mmae.engine.untrained import UNTRAINED, untrained_tensors
from mmae.errors import InputError

_POLL_S: Final = 0.1


@dataclass(frozen=True)
class Saved:
    """How a save ended.

    Attributes:
        path: the checkpoint; None where the save failed.
        reason: why it failed, in words; empty where it did not.
        rank: that could not write.
        seconds: from the start of the save to its end.
        stalled_seconds: of these, how long training stood still.
    """

    step: int
    path: Path | None
    reason: str = ""
    rank: int = 0
    size: int = 0
    seconds: float = 0.0
    stalled_seconds: float = 0.0


class Saver:
    """Saves a training's checkpoints. Every rank has one, and calls `save` and `finish` at the same steps."""

    def __init__(self, engine: Any, plan: Plan, resumed_from: Path | None = None, lock: RunLock | None = None) -> None:
        """Saving goes through this from now on.

        Args:
            resumed_from: is kept, whatever the rules say.
            lock: of the run's folder; what it is released by waits for what is being written.
        """
        self._engine, self._plan = engine, plan
        self._resumed_from, self._lock = resumed_from, lock
        self._writer = write_through(engine)
        self._flight: _Flight | None = None
        self.last = resumed_from
        """The newest checkpoint that is known to be whole."""
        if lock is not None:
            lock.before_release(self.wait)

    def save(self, step: int) -> list[Saved]:
        """Save, or begin to. Collective.

        Returns:
            the saves that have ended since the last call: at most the one before and this one.

        Raises:
            InputError: another start has taken over the run's folder.
        """
        begun = time.monotonic()
        ended = self.finish()
        plan, checkpoints = self._plan, self._plan.folder.checkpoints
        final = checkpoints / name_of(step)
        temporary = checkpoints / f"{SAVING}{final.name}"
        refused = on_rank_0(lambda: self._make_room(temporary))
        if refused:
            return [*ended, Saved(step, None, refused, seconds=time.monotonic() - begun)]
        background = plan.config.checkpoint.asynchronous
        self._write(step, temporary, background)
        flight = _Flight(self._writer.finish, temporary, lambda files: self._commit(temporary, final, files))
        if background:
            flight.start(Saved(step, final), begun)
            self._flight = flight
            return ended
        results = gather(self._writer.finish())
        outcome = on_rank_0(lambda: flight.settle(results, Saved(step, final)))
        seconds = time.monotonic() - begun
        return [*ended, self._known(replace(outcome, seconds=seconds, stalled_seconds=seconds))]

    def finish(self) -> list[Saved]:
        """Wait for the save that is under way, if one is. Collective.

        Returns:
            how it ended, agreed by all ranks; empty where none was under way.
        """
        flight, self._flight = self._flight, None
        if flight is None:
            return []
        begun = time.monotonic()
        results = gather(flight.written())
        outcome = on_rank_0(lambda: flight.outcome(results))
        stalled = outcome.stalled_seconds + time.monotonic() - begun
        return [self._known(replace(outcome, stalled_seconds=stalled, seconds=max(stalled, outcome.seconds)))]

    def must_have(self, step: int) -> None:
        """Make sure that a training which ends at this step has it saved.

        Raises:
            InputError: its save failed, and what to do.
        """
        if self.last is None or step_of(self.last) != step:
            raise InputError(
                f"{self._plan.folder.checkpoints}: the last step ({step}) could not be saved: make room and start "
                f"again; that goes on from {self.last or 'the beginning'}"
            )

    def wait(self) -> None:
        """Let this rank's part of a save that is under way come to its end. Not collective; for a way out."""
        if self._flight is not None:
            self._flight.abandon()

    def _known(self, outcome: Saved) -> Saved:
        self.last = outcome.path or self.last
        return outcome

    def _make_room(self, temporary: Path) -> str:
        """Why a save cannot begin; empty, and the folder to write into is there, if it can."""
        checkpoints = temporary.parent
        try:
            if self._lock is not None:
                self._lock.check()
            checkpoints.mkdir(parents=True, exist_ok=True)
            recover(checkpoints)
            before = newest_first(checkpoints)
            needed = size_of(before[0]) if before else 0
            free = shutil.disk_usage(checkpoints).free
            if free < needed:
                return f"{checkpoints}: {free:,} bytes are free, the last checkpoint took {needed:,}: free some space"
            temporary.mkdir()
        except OSError as error:
            return f"{checkpoints}: {error.strerror or error}"
        return ""

    def _write(self, step: int, temporary: Path, in_memory: bool) -> None:
        """Have every file of this rank written, or held in memory. Collective."""
        writer, plan, own = self._writer, self._plan, rank()
        writer.begin(temporary, in_memory)
        try:
            self._engine.save_checkpoint(
                str(temporary.parent),
                tag=temporary.name,
                # Without this, stages 1 and 2 cannot be converted to another world size later.
                client_state={"universal_checkpoint_info": {"universal_checkpoint_version": 0.2}},
                save_latest=False,
            )
        except OSError as error:
            # All that does not go through the writer is a copy of NVMe files: go through what the other ranks do after.
            writer.fail(error, temporary)
            _end_of_deepspeeds_save(self._engine)
        writer.adopt(temporary / "offloaded_tensors" / f"rank{own:02d}")
        _put(writer, temporary / f"rng_rank_{own}.safetensors", to_safetensors(generator_state()))
        untrained = untrained_tensors(self._engine.module)
        if own:
            return
        if untrained:
            _put(writer, temporary / UNTRAINED, to_safetensors(untrained))
        _put(writer, temporary / CONFIG, yaml.safe_dump(without_passwords(plan.config), sort_keys=False).encode())
        _put(writer, temporary / BAND_STATS, (json.dumps(plan.band_stats) + "\n").encode())
        _put(writer, temporary / STATE, (json.dumps(asdict(state_at(plan, step)), indent=2) + "\n").encode())

    def _commit(self, temporary: Path, final: Path, files: dict[str, Entry]) -> None:
        if self._lock is not None:
            self._lock.check()
        commit(temporary, final, files)
        # The checkpoint is there: whether others can be removed does not change that. It is tried again next time.
        with suppress(OSError):
            self._thin_out(final)

    def _thin_out(self, final: Path) -> None:
        config, checkpoints = self._plan.config.checkpoint, final.parent
        steps = {step: path for path in newest_first(checkpoints) if (step := step_of(path)) is not None}
        stays = (final, checkpoints / pointed_at(checkpoints), self._resumed_from)
        kept = {path.absolute() for path in stays if path is not None}
        needed = {step for step, path in steps.items() if path.absolute() in kept}
        for step in superfluous(steps, config.keep_last, config.keep_every, needed):
            with suppress(OSError):
                remove(steps[step])


class _Flight:
    """A save between the writing of its files and its end. Its methods run on every rank, `settle` on rank 0."""

    def __init__(self, write: Any, temporary: Path, commit_files: Any) -> None:
        self._write, self._commit = write, commit_files
        self._temporary = temporary
        self._notes = temporary.with_name(f"{temporary.name}.notes")
        self._own = rank()
        self._world = world()
        self._done_writing = threading.Event()
        self._leave = threading.Event()
        self._results: list[Written] | None = None
        self._outcome: Saved | None = None

    def start(self, planned: Saved, begun: float) -> None:
        """Write and commit in a thread."""
        self._planned, self._begun = replace(planned, stalled_seconds=time.monotonic() - begun), begun
        # Not a daemon: a process that ends lets it finish.
        self._thread = threading.Thread(target=self._run, name="checkpoint")
        self._thread.start()

    def written(self) -> Written:
        """What this rank wrote; waits for it."""
        self._done_writing.wait()
        if self._own:
            # Its note too: a late one would lie in the next save's way.
            self._thread.join()
        return self._result

    def outcome(self, results: list[Written]) -> Saved:
        """How the save ended; waits for it."""
        self._results = results
        self._leave.set()
        self._thread.join()
        assert self._outcome is not None
        return self._outcome

    def abandon(self) -> None:
        """Wait for this rank's files; the others' are waited for as long as they may still be written."""
        self._done_writing.wait()
        self._thread.join(timeout=30.0)
        self._leave.set()
        self._thread.join()

    def settle(self, results: list[Written], planned: Saved) -> Saved:
        """Commit if every rank could write, else take away what was written."""
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

    def _settled(self) -> Saved:
        results = self._all_results()
        if results is None:
            return replace(self._planned, path=None, reason="training ended before all ranks had written")
        return self.settle(results, self._planned)

    def _note(self) -> None:
        """Tell rank 0 by a file; where that fails, it learns at the next save."""
        try:
            self._notes.mkdir(exist_ok=True)
            write_whole(self._notes / str(self._own), json.dumps(asdict(self._result)))
        except OSError:
            return

    def _all_results(self) -> list[Written] | None:
        """Every rank's, from their notes or from `outcome`; None where the process is leaving without them."""
        while not self._leave.is_set():
            names = [str(number) for number in range(self._world)]
            # A listing: network file systems remember for long that a single name was not there.
            if self._notes.is_dir() and set(names) <= set(os.listdir(self._notes)):
                return [_read_note(self._notes / name) for name in names]
            self._leave.wait(_POLL_S)
        return self._results


def _read_note(note: Path) -> Written:
    told = json.loads(note.read_text(encoding="utf-8"))
    return Written({name: Entry(**entry) for name, entry in told["files"].items()}, told["error"])


def _put(writer: Any, path: Path, data: bytes) -> None:
    writer.put(path, lambda file: file.write(data))


def _end_of_deepspeeds_save(engine: Any) -> None:
    import torch.distributed as dist

    if engine._optimizer_has_ckpt_event_epilogue():
        engine.optimizer.checkpoint_event_epilogue()
    dist.barrier()
