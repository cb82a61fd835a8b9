"""The progress of a pass over tiles: tiles/s, MB/s, time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from tqdm import tqdm

_LINE_SECONDS: Final = 60.0


class Progress:
    """A bar on a terminal; elsewhere a line a minute, for the logs of batch jobs.

    Args:
        total: number of tiles.
        what: one word for the activity.
        bar: a bar to draw instead of lines.
        stream: where lines are written; None for no output.
    """

    def __init__(self, total: int, what: str, bar: tqdm[Any] | None, stream: Any) -> None:
        self._total = total
        self._what = what
        self._bar = bar
        self._stream = stream
        self._tiles = self._skipped = self._read = 0
        self._begun = self._told = time.monotonic()

    def skip(self, tiles: int) -> None:
        """Count tiles that were done before: they do not affect the speed."""
        self._skipped += tiles
        if self._bar is not None:
            self._bar.initial += tiles
            self._bar.update(tiles)

    def add(self, tiles: int, read: int) -> None:
        """Count more tiles, and the bytes that were read for them."""
        self._tiles += tiles
        self._read += read
        now = time.monotonic()
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self._read / max(now - self._begun, 1e-9) / 1e6:.0f} MB/s", refresh=False)
            self._bar.update(tiles)
        elif self._stream is not None and now - self._told >= _LINE_SECONDS:
            self._told = now
            print(self.line(now - self._begun), file=self._stream, flush=True)

    def line(self, seconds: float) -> str:
        """The progress after this many seconds, as a line."""
        done = self._tiles + self._skipped
        rate = self._tiles / max(seconds, 1e-9)
        left = _clock((self._total - done) / rate) if rate else "?"
        megabytes = self._read / max(seconds, 1e-9) / 1e6
        reached = f"{done} of {counted(self._total, 'tile')}"
        return f"{self._what}: {reached}, {rate:.0f} tiles/s, {megabytes:.0f} MB/s, {left} left"


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}"


@contextmanager
def progress(total: int, what: str, shown: bool = True) -> Iterator[Progress]:
    """The progress of `total` tiles, written to standard error; with `shown` False it is not written."""
    if not shown:
        yield Progress(total, what, None, None)
    elif not sys.stderr.isatty():
        yield Progress(total, what, None, sys.stderr)
    else:
        from tqdm import tqdm

        with tqdm(total=total, unit="tile", desc=what, smoothing=0.05) as bar:
            yield Progress(total, what, bar, None)
