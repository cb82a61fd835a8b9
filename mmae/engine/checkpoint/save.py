"""Saves checkpoints while training: whole or not at all, agreed by all ranks. A failed save does not end the training.

Every rank writes its files, hashed and synced, into a folder with a dot in front, and tells the others. Only if all
ranks could write, rank 0 writes the manifest and gives the folder its final name. With `checkpoint.asynchronous` the
files are held in memory and a thread writes them. Ranks communicate from their main threads only, so the other ranks
tell rank 0's thread by small files whether they could write.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from safetensors.torch import save as to_safetensors

from mmae.distributed.collectives import gather, on_rank_0, rank
from mmae.engine.checkpoint.background_save import RunningSave, SaveResult
from mmae.engine.checkpoint.contents.average_state import KeptAverage, average_file
from mmae.engine.checkpoint.contents.frozen_state import FROZEN_TENSORS, frozen_tensors
from mmae.engine.checkpoint.contents.rng_state import generator_state
from mmae.engine.checkpoint.contents.train_state import TrainState
from mmae.engine.checkpoint.deepspeed_writer import StateWriter
from mmae.engine.checkpoint.hashed_file import Entry
from mmae.engine.checkpoint.load import state_at
from mmae.engine.checkpoint.store import SAVING, commit, outside_retention, pointed_at, recover, remove, size_of
from mmae.engine.deepspeed_internals.checkpoint_engine import end_failed_save, replace_writer
from mmae.engine.engine_protocol import Engine
from mmae.errors import InputError
from mmae.run.best_checkpoint import best_checkpoint, is_better
from mmae.run.folder import recipe_text
from mmae.run.layout import AVERAGE, BAND_STATS, CONFIG, RNG_STATES, STATE, name_of, newest_first, of_rank, step_of
from mmae.run.locking.lock import RunLock
from mmae.run.spec import RunSpec


class Saver:
    """Saves a training's checkpoints. Every rank has one, and calls `save` and `finish` at the same steps."""

    def __init__(
        self,
        engine: Engine,
        spec: RunSpec,
        resumed_from: Path | None = None,
        lock: RunLock | None = None,
        average: KeptAverage | None = None,
    ) -> None:
        """From now on the engine saves through this object.

        Args:
            resumed_from: a checkpoint that is kept, whatever the retention rules say.
            lock: the lock of the run's folder. It is not released before a running save has ended.
            average: the averaged weights, which are saved too.
        """
        self._engine, self._spec, self._average = engine, spec, average
        self._resumed_from, self._lock = resumed_from, lock
        self._writer = StateWriter()
        replace_writer(engine, self._writer)
        self._flight: RunningSave | None = None
        self._unreported: list[SaveResult] = []
        self.last = resumed_from
        """The newest whole checkpoint."""
        if lock is not None:
            lock.before_release(self.wait)

    def is_new_best(self, scores: Mapping[str, float]) -> bool:
        """Whether these scores, which every rank has, make a checkpoint the best one. Collective."""
        config, score = self._spec.config, self._spec.config.checkpoint.keep_best
        if score is None or score not in scores:
            return False
        # A running save may hold the best so far.
        self._unreported = self.finish()

        def beats() -> bool:
            try:
                best = best_checkpoint(self._spec.folder.checkpoints, score, config.eval.protocol)
            except OSError:  # One checkpoint more does no harm.
                return True
            return best is None or is_better(score, scores[score], best.value)

        return on_rank_0(beats)

    def save(self, step: int, scores: Mapping[str, float] = MappingProxyType({})) -> list[SaveResult]:
        """Save, or begin a save. Collective.

        Args:
            scores: of this step, by name (`mmae.config.score_names`).

        Returns:
            the saves that have ended since the last call: at most the one before and this one.

        Raises:
            InputError: another start has taken over the run's folder.
        """
        begun = time.monotonic()
        ended = self.finish()
        spec, checkpoints = self._spec, self._spec.folder.checkpoints
        final = checkpoints / name_of(step)
        temporary = checkpoints / f"{SAVING}{final.name}"
        refused = on_rank_0(lambda: self._make_room(temporary))
        if refused:
            return [*ended, SaveResult(step, None, refused, seconds=time.monotonic() - begun)]
        background = spec.config.checkpoint.asynchronous
        self._write(state_at(spec, step, scores), temporary, background)
        flight = RunningSave(self._writer.finish, temporary, lambda files: self._commit(temporary, final, files))
        if background:
            flight.start(SaveResult(step, final), begun)
            self._flight = flight
            return ended
        results = gather(self._writer.finish())
        outcome = on_rank_0(lambda: flight.settle(results, SaveResult(step, final)))
        seconds = time.monotonic() - begun
        return [*ended, self._known(replace(outcome, seconds=seconds, stalled_seconds=seconds))]

    def finish(self) -> list[SaveResult]:
        """Wait for the running save, if there is one. Collective.

        Returns:
            the saves that have ended and were not returned yet, as all ranks agreed.
        """
        flight, self._flight = self._flight, None
        before, self._unreported = self._unreported, []
        if flight is None:
            return before
        begun = time.monotonic()
        results = gather(flight.written())
        outcome = on_rank_0(lambda: flight.outcome(results))
        stalled = outcome.stalled_seconds + time.monotonic() - begun
        return [*before, self._known(replace(outcome, stalled_seconds=stalled, seconds=max(stalled, outcome.seconds)))]

    def must_have(self, step: int) -> None:
        """Make sure that a training which ends at this step has it saved.

        Raises:
            InputError: its save failed, and what to do.
        """
        if self.last is None or step_of(self.last) != step:
            raise InputError(
                f"{self._spec.folder.checkpoints}: the last step ({step}) could not be saved: make room and start "
                f"again; that goes on from {self.last or 'the beginning'}"
            )

    def wait(self) -> None:
        """Wait for this rank's part of a running save. Not collective: for a training that ends by an error."""
        if self._flight is not None:
            self._flight.abandon()

    def _known(self, outcome: SaveResult) -> SaveResult:
        self.last = outcome.path or self.last
        return outcome

    def _make_room(self, temporary: Path) -> str:
        """Make the folder to write into. Returns why the save cannot begin; empty where it can."""
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

    def _write(self, state: TrainState, temporary: Path, in_memory: bool) -> None:
        """Have every file of this rank written, or held in memory. Collective."""
        writer, spec, own = self._writer, self._spec, rank()
        writer.begin(temporary, in_memory)
        try:
            self._engine.save_checkpoint(
                str(temporary.parent),
                tag=temporary.name,
                # Without this, a checkpoint of stage 1 or 2 cannot be converted to another world size.
                client_state={"universal_checkpoint_info": {"universal_checkpoint_version": 0.2}},
                save_latest=False,
            )
        except OSError as error:
            # Only the copy of NVMe files does not use the writer. The collective calls after it must still be made.
            writer.fail(error, temporary)
            end_failed_save(self._engine)
        writer.adopt(temporary / "offloaded_tensors" / f"rank{own:02d}")
        _put(writer, temporary / of_rank(RNG_STATES, own), to_safetensors(generator_state()))
        averaged = average_file(self._average) if self._average is not None else None
        if averaged is not None:
            _put(writer, temporary / of_rank(AVERAGE, own), averaged)
        frozen = frozen_tensors(self._engine.module)
        if own:
            return
        if frozen:
            _put(writer, temporary / FROZEN_TENSORS, to_safetensors(frozen))
        _put(writer, temporary / CONFIG, recipe_text(spec.config).encode())
        _put(writer, temporary / BAND_STATS, (json.dumps(spec.band_stats) + "\n").encode())
        _put(writer, temporary / STATE, (json.dumps(asdict(state), indent=2) + "\n").encode())

    def _commit(self, temporary: Path, final: Path, files: dict[str, Entry]) -> None:
        if self._lock is not None:
            self._lock.check()
        commit(temporary, final, files)
        # The checkpoint is there, whether or not older ones can be removed. The next save tries again.
        with suppress(OSError):
            self._thin_out(final)

    def _thin_out(self, final: Path) -> None:
        config, checkpoints = self._spec.config.checkpoint, final.parent
        steps = {step: path for path in newest_first(checkpoints) if (step := step_of(path)) is not None}
        stays = (final, checkpoints / pointed_at(checkpoints), self._resumed_from)
        kept = {path.absolute() for path in stays if path is not None}
        needed = {step for step, path in steps.items() if path.absolute() in kept}
        if config.keep_best is not None:
            best = best_checkpoint(checkpoints, config.keep_best, self._spec.config.eval.protocol)
            needed |= {best.step} if best else set()
        for step in outside_retention(steps, config.keep_last, config.keep_every, needed):
            with suppress(OSError):
                remove(steps[step])


def _put(writer: Any, path: Path, data: bytes) -> None:
    writer.put(path, lambda file: file.write(data))
