"""How far a pass over the tiles is: tiles/s, MB/s, time left."""

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
    """A bar on a terminal, a line a minute elsewhere: logs of batch jobs are read too.

    Args:
        total: tiles.
        what: is being done, one word.
        bar: drawn instead of lines.
        stream: for lines; None for silence.
    """

    def __init__(self, total: int, what: str, bar: tqdm[Any] | None, stream: Any) -> None:
        self._total = total
        self._what = what
        self._bar = bar
        self._stream = stream
        self._tiles = self._skipped = self._read = 0
        self._begun = self._told = time.monotonic()

    def skip(self, tiles: int) -> None:
        """Tiles that were done before: they count, but say nothing on speed."""
        self._skipped += tiles
        if self._bar is not None:
            self._bar.initial += tiles
            self._bar.update(tiles)

    def add(self, tiles: int, read: int) -> None:
        """So many tiles more, of so many bytes."""
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
        """Where it stands after so many seconds."""
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
    """The progress of `total` tiles; written to standard error, nowhere with `shown` False."""
    if not shown:
        yield Progress(total, what, None, None)
    elif not sys.stderr.isatty():
        yield Progress(total, what, None, sys.stderr)
    else:
        from tqdm import tqdm

        with tqdm(total=total, unit="tile", desc=what, smoothing=0.05) as bar:
            yield Progress(total, what, bar, None)
