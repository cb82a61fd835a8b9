"""The record of a run: log.jsonl first, Weights & Biases and a progress bar from the same records."""

from __future__ import annotations

import json
import logging
import math
import netrc
import os
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mmae.config import Config
from mmae.engine.run_folder import without_passwords

Record = dict[str, Any]


class RunLog:
    """Writes a run's records; on other ranks than 0 it writes nothing.

    Weights & Biases can fail in many ways of its own. None of them stops training: it is tried, and dropped with
    one line when it fails.
    """

    def __init__(self, file: Path, config: Config, rank: int, first_step: int) -> None:
        self._active = rank == 0
        if not self._active:
            return
        self._file = file.open("a", encoding="utf-8", buffering=1)
        self._wandb = _start_wandb(file.parent, config) if config.log.wandb else None
        self._bar: tqdm[Any] = tqdm(
            total=config.train.max_steps,
            initial=first_step,
            unit="step",
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
        )
        self._last_line = 0.0

    def write(self, kind: str, **values: Any) -> None:
        """One record: a line of log.jsonl, and the numbers in it to Weights & Biases."""
        if not self._active:
            return
        record = {"kind": kind, "time": round(time.time(), 3), **values}
        try:
            self._file.write(json.dumps(_standard(record)) + "\n")
        except OSError as error:  # a full disk must not end a training; what could not be written is tried again
            self.say(f"{self._file.name}: {error.strerror}; training goes on")
        self._to_wandb(kind, values)

    def progress(self, step: int, loss: float, rate: float) -> None:
        """Show people where training stands: a bar on a terminal, elsewhere a line a minute."""
        if not self._active:
            return
        self._bar.set_postfix_str(f"loss {loss:.4f}, {rate:.1f} tiles/s", refresh=False)
        self._bar.update(step - self._bar.n)
        if self._bar.disable and time.monotonic() - self._last_line > 60:
            self._last_line = time.monotonic()
            self.say(f"step {step}: loss {loss:.4f}, {rate:.1f} tiles/s")

    def say(self, line: str) -> None:
        if self._active:
            tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        if not self._active:
            return
        self._bar.close()
        with suppress(OSError):  # said when it was written
            self._file.close()
        if self._wandb is not None:
            self._drop_wandb_on_error(self._wandb.finish)

    def _to_wandb(self, kind: str, values: Record) -> None:
        if self._wandb is None:
            return
        run = self._wandb
        numbers = {f"{kind}/{key}": value for key, value in _flat(values).items() if isinstance(value, int | float)}
        self._drop_wandb_on_error(lambda: run.log({**numbers, "global_step": values.get("step", 0)}))

    def _drop_wandb_on_error(self, call: Any) -> None:
        try:
            call()
        except Exception as error:  # a logger must not end a training
            self._wandb = None
            self.say(f"wandb: {error}; training goes on without it, log.jsonl has everything")


def quiet_libraries() -> None:
    """DeepSpeed's INFO lines are for its own developers, and so is torch's advice on names that DeepSpeed calls."""
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=r"`torch\.distributed\..* is deprecated", category=FutureWarning)


def _start_wandb(folder: Path, config: Config) -> Any:
    try:
        import wandb

        run = wandb.init(
            project=config.log.wandb_project,
            dir=str(folder),
            # Its own step only increases: a resumed run is a new run in the same group, drawn over our step.
            group=folder.resolve().name,
            config=without_passwords(config),
            mode=None if "WANDB_MODE" in os.environ or _has_wandb_key() else "offline",
            settings=wandb.Settings(silent=True, console="off"),
        )
        run.define_metric("global_step")
        run.define_metric("*", step_metric="global_step")
    except Exception as error:  # a logger must not end a training
        tqdm.write(f"wandb: {error}; training goes on without it, log.jsonl has everything", file=sys.stderr)
        return None
    return run


def _has_wandb_key() -> bool:
    """A key in the environment or in the user's netrc, where `wandb login` puts it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0]
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _flat(values: Record) -> Record:
    flat: Record = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update({f"{key}/{inner}": item for inner, item in value.items()})
        else:
            flat[key] = value
    return flat


def _standard(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null and stay readable by every parser."""
    if isinstance(value, dict):
        return {key: _standard(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_standard(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
