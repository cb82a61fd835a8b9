"""The log of a run: log.jsonl, and trackers and a progress bar from the same records."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tqdm import tqdm

from mmae.config.schema import Tracked
from mmae.disk.regular_file import append_regular
from mmae.engine.history.wandb_runs import run_of_start
from mmae.engine.telemetry.trackers import Background, close_trackers, numbers_of, start_trackers, wandb_is_online
from mmae.run.log_reader import ends_in_a_torn_line, line_of, new_record
from mmae.terminal import message
from mmae.terminal.error_line import say_error
from mmae.terminal.printable import printable

if TYPE_CHECKING:
    from mmae.engine.checkpoint.background_save import SaveResult

Record = dict[str, Any]

_BAR: Final = "{percentage:3.0f}%|{bar}| step {n_fmt} of {total_fmt}{postfix}, {remaining} left"


class RunLog:
    """Writes a run's records. On ranks other than 0 it does nothing."""

    def __init__(self, file: Path, config: Tracked, rank: int, first_step: int) -> None:
        self._active = rank == 0
        self.about_wandb: Record = {}
        """Fields about the W&B run for the record of a start."""
        if not self._active:
            return
        # Unbuffered: when `write` returns, a line is in the file or has failed.
        self._file = append_regular(file)
        self._torn = ends_in_a_torn_line(file)
        self._failed = False
        wandb = run_of_start(file, first_step, wandb_is_online()) if config.log.wandb else None
        if wandb is not None:
            self.about_wandb = {"wandb": wandb.name, "wandb_from": wandb.after}
        self._trackers: list[Background] = start_trackers(file.parent, config, self.say, wandb)
        self._bar: tqdm[Any] = tqdm(
            total=config.train.max_steps,
            initial=first_step,
            bar_format=_BAR,
            # The time left: a validation must not change it much.
            smoothing=0.05,
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
        )
        self._shown = ""
        self._first_step, self._last_step, self._begun = first_step, config.train.max_steps, time.monotonic()
        self._last_line = 0.0

    def write(self, kind: str, **values: Any) -> None:
        """Write one record: a line of log.jsonl, and its numbers to the trackers."""
        if not self._active:
            return
        record = new_record(kind, **values)
        self._append(line_of(record))
        numbers = numbers_of(record)
        for tracker in self._trackers:
            tracker.log(values.get("step", 0), numbers)

    def _append(self, line: bytes) -> None:
        """Append a line. A full disk costs records, not the training: the next record that fits begins a new line."""
        try:
            whole = b"\n" + line if self._torn else line
            self._torn = self._file.write(whole) != len(whole)
            self._failed = False
        except OSError as error:
            if not self._failed:
                self.say(f"log.jsonl: {error}; training goes on, records are missing until it can be written again")
            self._failed = True

    def picture(self, step: int, path: Path | None) -> None:
        """Send a picture of the run's folder, if there is one, to the trackers."""
        if self._active and path is not None:
            for tracker in self._trackers:
                tracker.picture(step, path)

    def progress(self, step: int, loss: float | None, rate: float) -> None:
        """Show where training stands: a progress bar on a terminal, elsewhere one line a minute.

        Args:
            loss: None where no tile was scored.
        """
        if not self._active:
            return
        self._shown = f"{'nothing scored' if loss is None else f'loss {loss:.4f}'}, {rate:.1f} tiles/s"
        self._bar.set_postfix_str(self._shown, refresh=False)
        self._bar.update(step - self._bar.n)
        if self._bar.disable and time.monotonic() - self._last_line > 60:
            self._last_line = time.monotonic()
            self.say(f"step {step} of {self._last_step}: {self._shown}, {self._left(step)} left")

    def _left(self, step: int) -> str:
        """The time to the last step at the pace of this start, as the bar writes it."""
        steps = step - self._first_step
        if steps <= 0:
            return "?"
        return tqdm.format_interval((time.monotonic() - self._begun) / steps * max(0, self._last_step - step))

    @contextmanager
    def pause(self, what: str) -> Iterator[None]:
        """Show on a terminal what the training waits for meanwhile."""
        if not self._active:
            yield
            return
        self._bar.set_postfix_str(what)
        yield
        self._bar.set_postfix_str(self._shown)

    def say(self, line: str) -> None:
        """Print a line for people on stderr, and write it to the rank's log file."""
        if self._active:
            logging.getLogger("mmae").info("%s", printable(line))
            message.say(line)

    def tell(self, head: str, text: str) -> None:
        """As `say`, for a text that may be long: it is broken for people, and whole in the file."""
        if self._active:
            logging.getLogger("mmae").info("%s", printable(message.tell(head, text)))

    def say_error(self, line: str) -> None:
        """As `say`, for the error that ends the training. Launchers repeat it at their end."""
        if self._active:
            logging.getLogger("mmae").info("%s", printable(line))
            with tqdm.external_write_mode(file=sys.stderr):
                say_error(f"mmae: error: {line}")

    def close(self) -> None:
        """Close the files. Also works after an error, and more than once."""
        if not self._active or self._file.closed:
            return
        self._bar.close()
        self._file.close()
        close_trackers(self._trackers)


def quiet_libraries() -> None:
    """Hide DeepSpeed's INFO lines, and torch's deprecation warnings about calls that DeepSpeed makes."""
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=r"`torch\.distributed\..* is deprecated", category=FutureWarning)


def record_save(log: RunLog, result: SaveResult) -> None:
    """Record how a save ended. A failed one is a message on the terminal too."""
    times = {"seconds": result.seconds, "stalled_seconds": result.stalled_seconds}
    if result.path is not None:
        log.write("save", step=result.step, checkpoint=str(result.path), bytes=result.size, **times)
        return
    log.say(
        f"step {result.step}: THE CHECKPOINT COULD NOT BE SAVED (rank {result.rank}: {result.reason}); "
        "earlier ones are untouched and training goes on"
    )
    log.write("save_failed", step=result.step, reason=result.reason, rank=result.rank, **times)
