from __future__ import annotations

import io
import re
import sys
import time

import pytest

from data_tools.workers.progress import Progress, progress


def test_the_line() -> None:
    bar = Progress(1000, "repack", None, None)
    assert bar.line(5) == "repack: 0 of 1000 tiles, 0 tiles/s, 0 MB/s, ? left"
    bar.skip(100)
    bar.add(200, 40_000_000)
    assert bar.line(10) == "repack: 300 of 1000 tiles, 20 tiles/s, 4 MB/s, 0:00:35 left"
    bar.add(700, 0)
    assert bar.line(10).endswith("0:00:00 left")


def test_a_line_a_minute_in_logs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with progress(1000, "repack") as bar:
        for _ in range(300):
            now[0] += 1
            bar.add(2, 1_000_000)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"repack: {120 * minute} of 1000 tiles, 2 tiles/s, 1 MB/s, 0:{left // 60:02d}:{left % 60:02d} left"
        for minute, left in ((1, 440), (2, 380), (3, 320), (4, 260), (5, 200))
    ]


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress(100, "repack") as bar:
        bar.skip(50)
        bar.add(50, 10_000_000)
    shown = terminal.getvalue()
    assert re.search(r"repack: 100%\|.*\| 100/100 \[.*tile/s, \d+ MB/s\]", shown.split("\r")[-1])


def test_silence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with progress(100, "repack", shown=False) as bar:
        now[0] += 1000
        bar.add(50, 1)
    assert capsys.readouterr().err == ""
