"""Weights & Biases and TensorBoard. If one fails or hangs, it neither stops nor slows the training.

Each has its own thread and a bounded queue. Records that do not fit are dropped, and one line says so. log.jsonl has
all records.
"""

from __future__ import annotations

import netrc
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from mmae.config.schema import Tracked
from mmae.engine.history.wandb_runs import WandbRun, new_name, records_to_take_over
from mmae.run.folder import without_passwords
from mmae.run.layout import LOG, TENSORBOARD
from mmae.terminal.error_line import first_line

QUEUED: Final = 1000
"""How many records may wait for a tracker."""
START_SECONDS: Final = 10.0
"""How long a start waits for a tracker to be ready. After that the training goes on while the tracker starts."""
END_SECONDS: Final = 30.0
"""How long the end of a training waits for a tracker to have sent everything."""

_THREAD: Final = "mmae-tracker-"

Record = dict[str, Any]
Numbers = Mapping[str, float]


class Tracker(Protocol):
    """A destination of records besides log.jsonl. Every method may raise or block."""

    def log(self, step: int, numbers: Numbers) -> None: ...

    def picture(self, step: int, path: Path) -> None: ...

    def close(self) -> None: ...


class Background:
    """A tracker in a daemon thread. No method raises. Only `close` waits, for a bounded time.

    Args:
        name: for messages.
        make: creates the tracker, in the thread.
        say: prints a line.
    """

    def __init__(self, name: str, make: Callable[[], Tracker], say: Callable[[str], None], size: int = QUEUED) -> None:
        self._name, self._make, self._say = name, make, say
        self._queue: queue.Queue[Callable[[Tracker], None]] = queue.Queue(size)
        self._ready, self._ended = threading.Event(), threading.Event()
        self._closing = threading.Event()
        self._warned = False
        threading.Thread(target=self._work, name=f"{_THREAD}{name}", daemon=True).start()
        # Loader processes are forked next, which must not happen while a library is being imported.
        self._ready.wait(START_SECONDS)

    def log(self, step: int, numbers: Numbers) -> None:
        self._put(lambda tracker: tracker.log(step, numbers))

    def picture(self, step: int, path: Path) -> None:
        self._put(lambda tracker: tracker.picture(step, path))

    def close(self, seconds: float = END_SECONDS) -> bool:
        """Wait until the tracker has sent what is queued, at most this long. False if it has not."""
        self._closing.set()
        if not self._ended.wait(seconds):
            self._warn(f"not done after {seconds:.0f} s, left behind")
        return self._ended.is_set()

    def _put(self, call: Callable[[Tracker], None]) -> None:
        if self._ended.is_set() or self._closing.is_set():
            return
        try:
            self._queue.put_nowait(call)
        except queue.Full:
            self._warn(f"does not keep up: beyond {self._queue.maxsize} waiting records it misses some")

    def _warn(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            self._say(f"{self._name}: {what}; log.jsonl has everything")

    def _work(self) -> None:
        try:
            tracker = self._make()
            self._ready.set()
            while (call := self._next()) is not None:
                call(tracker)
            tracker.close()
        except Exception as error:  # a tracker must not end a training
            self._warn(f"{first_line(error)}; training goes on without it")
        finally:
            self._ended.set()
            self._ready.set()

    def _next(self) -> Callable[[Tracker], None] | None:
        """The next call; None when the queue is empty and closed."""
        while True:
            try:
                return self._queue.get(timeout=0.1)
            except queue.Empty:
                if self._closing.is_set():
                    return None


class WandbTracker:
    """A Weights & Biases run. Without an API key it is offline, in the run folder."""

    def __init__(self, folder: Path, config: Tracked, run: WandbRun, before: Iterable[Record]) -> None:
        """Begin a run.

        Args:
            before: records of earlier starts that this W&B run repeats (`wandb_runs`).
        """
        import wandb

        self._wandb = wandb
        self._run = wandb.init(
            id=run.name,
            resume="allow" if run.goes_on else None,
            entity=config.log.wandb_entity,
            project=config.log.wandb_project,
            name=config.log.wandb_name,
            tags=list(config.log.wandb_tags) or None,
            dir=str(folder),
            # W&B's step can only increase: our step is the x axis. The W&B runs of one history are a group.
            group=config.log.wandb_group or folder.resolve().name,
            config=without_passwords(config),
            mode=None if "WANDB_MODE" in os.environ or _has_wandb_key() else "offline",
            settings=wandb.Settings(silent=True, console="off"),
        )
        self._run.define_metric("global_step")
        self._run.define_metric("*", step_metric="global_step")
        for record in before:
            self.log(record["step"], numbers_of(record))
        if run.archived and not self._run.offline:
            self._leave_group(run.archived)

    def _leave_group(self, names: Sequence[str]) -> None:
        """Move runs that no longer belong to this history into another group."""
        for name in names:
            # The run may never have been sent. An error of the service must not cost the records to come.
            with suppress(Exception):
                other = self._wandb.Api().run(f"{self._run.entity}/{self._run.project}/{name}")
                other.group = f"{self._run.group}, archived"
                other.update()

    def log(self, step: int, numbers: Numbers) -> None:
        self._run.log({**numbers, "global_step": step})

    def picture(self, step: int, path: Path) -> None:
        self._run.log({"val/pictures": self._wandb.Image(str(path)), "global_step": step})

    def close(self) -> None:
        self._run.finish()


class TensorBoardTracker:
    """Event files in the run's `tensorboard/`."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / TENSORBOARD))

    def log(self, step: int, numbers: Numbers) -> None:
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, step)

    def picture(self, step: int, path: Path) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(path) as picture:
            self._writer.add_image("val/pictures", np.asarray(picture), step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


def start_trackers(
    folder: Path, config: Tracked, say: Callable[[str], None], wandb: WandbRun | None = None
) -> list[Background]:
    """The trackers that a configuration asks for.

    Args:
        wandb: the W&B run of this start. None: a new one that repeats no records.
    """
    makers: dict[str, Callable[[], Tracker]] = {}
    if config.log.wandb:
        run = wandb or WandbRun(new_name(), 0)
        before = records_to_take_over(folder / LOG, run)
        makers["wandb"] = lambda: WandbTracker(folder, config, run, before)
    if config.log.tensorboard:
        makers["tensorboard"] = lambda: TensorBoardTracker(folder)
    return [Background(name, make, say) for name, make in makers.items()]


def numbers_of(record: Record) -> Numbers:
    """The numbers of a record by their names in trackers."""
    kind = record["kind"]
    named = _flat({key: value for key, value in record.items() if key != "kind"})
    return {f"{kind}/{key}": value for key, value in named.items() if isinstance(value, int | float)}


def _flat(values: Record) -> Record:
    flat: Record = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update({f"{key}/{inner}": item for inner, item in _flat(value).items()})
        else:
            flat[key] = value
    return flat


def close_trackers(trackers: list[Background]) -> bool:
    """Close all trackers within `END_SECONDS` together. False if one did not finish."""
    until = time.monotonic() + END_SECONDS
    return all([tracker.close(max(0.0, until - time.monotonic())) for tracker in trackers])


def any_left_behind() -> bool:
    """Whether a tracker still runs. Python would wait at exit for what the tracker registered."""
    return any(thread.name.startswith(_THREAD) for thread in threading.enumerate())


def wandb_is_online() -> bool:
    """Whether a W&B run is sent while it is written, so that a later start can add to it."""
    mode = os.environ.get("WANDB_MODE")
    return mode in {"online", "run", "shared"} if mode else _has_wandb_key()


def _has_wandb_key() -> bool:
    """Whether there is an API key in the environment, or in the user's netrc, where `wandb login` puts it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0]
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
