"""Colours, sparklines and lines that fit."""

from __future__ import annotations

import io
import math
import sys

import pytest

from mmae.terminal.looks import coloured, fitted, sparkline


class Screen(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert coloured("well", "good") == "well"
    monkeypatch.setattr(sys, "stdout", Screen())
    assert coloured("well", "good") == "\x1b[32mwell\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert coloured("well", "good") == "well"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert coloured("well", "good") == "well"


def test_a_sparkline_is_higher_where_numbers_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Screen())
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([3, None, 1, math.nan]) == "█ ▁ "
    assert sparkline([2, 2]) == "▁▁"
    assert sparkline([]) == sparkline([None]) == ""
    assert sparkline(list(range(1000)), width=4) == "▁▃▆█"


def test_a_terminal_without_utf_8_gets_plain_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    screen.encoding = "ascii"
    monkeypatch.setattr(sys, "stdout", screen)
    assert sparkline([0, 1]).isascii()


def test_lines_fit_where_words_allow_it() -> None:
    lines = fitted("  head ", " ".join(f"word\N{NO-BREAK SPACE}{number}" for number in range(40)))
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith("  head word 0 ")
    assert all(line.startswith("       word") for line in lines[1:])
    assert not any("\N{NO-BREAK SPACE}" in line for line in lines)
    assert fitted("a ", "x" * 200) == [f"a {'x' * 200}"]
    assert fitted("head", "") == ["head"]
