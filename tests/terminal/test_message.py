"""Lines for people, beside a progress line."""

from __future__ import annotations

import sys

import pytest
from tqdm import tqdm

from mmae.terminal.error_line import say_error
from mmae.terminal.message import say, tell
from tests.support.terminals import stderr_on_a_terminal

SCORES = ", ".join(f"name\N{NO-BREAK SPACE}{number}.5" for number in range(20))


@pytest.mark.parametrize(("columns", "most"), [(60, 60), (300, 100)])
def test_a_long_text_fits_the_terminal_and_is_whole_in_a_file(columns: int, most: int) -> None:
    with stderr_on_a_terminal(columns) as screen:
        whole = tell("step 3: ", SCORES)
    assert whole == f"step 3: {SCORES}".replace("\N{NO-BREAK SPACE}", " ")
    assert max(map(len, screen.lines)) <= most
    # None is broken once more, and names keep their numbers.
    assert all(line.endswith((",", " 19.5")) for line in screen.lines)
    assert [line[:8] for line in screen.lines] == ["step 3: "] + [" " * 8] * (len(screen.lines) - 1)
    assert " ".join(" ".join(screen.lines).split()) == whole


def test_a_line_of_another_process_takes_the_place_of_the_progress_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with stderr_on_a_terminal(80) as screen:
        sys.stderr.write("50%|#####     | step 6 of 12")
        say("rank 1: left out a damaged tile")
        sys.stderr.write("75%|#######   | step 9 of 12")
        sys.stderr.flush()
        with tqdm.external_write_mode(file=sys.stderr):
            say("rank 1: and another")
    assert screen.lines == ["rank 1: left out a damaged tile", "rank 1: and another"]


def test_what_is_no_terminal_gets_plain_lines(capfd: pytest.CaptureFixture[str]) -> None:
    say("one\x1b[2J")
    say_error("two")
    tell("", "word " * 30)
    lines = capfd.readouterr().err.splitlines()
    assert lines[:2] == ["one\\x1b[2J", "two"]
    assert [len(line) <= 100 for line in lines[2:]] == [True, True]
