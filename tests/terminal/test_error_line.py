"""An error is one line, which is written at once and kept for the launcher."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from mmae.terminal.error_line import ERRORS, first_line, say_error, typed_line


@pytest.mark.parametrize(
    ("error", "first", "typed"),
    [
        (ValueError("one\ntwo"), "one", "ValueError: one"),
        (ValueError("\n  one\r\ntwo"), "one", "ValueError: one"),
        (KeyError(), "KeyError", "KeyError"),
        (OSError(" \n"), "OSError", "OSError"),
    ],
)
def test_an_error_is_its_first_line_or_its_type(error: Exception, first: str, typed: str) -> None:
    assert (first_line(error), typed_line(error)) == (first, typed)


def test_it_follows_what_was_said_before(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ERRORS, raising=False)
    sys.stderr.write("before ")
    say_error("after \udcff")
    assert capfd.readouterr().err == "before after \\udcff\n"


def test_lines_are_added_to_the_launchers_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "errors"
    path.write_text("one\n")
    monkeypatch.setenv(ERRORS, str(path))
    say_error("two")
    assert path.read_text() == "one\ntwo\n"


@pytest.mark.parametrize("kind", ["nothing", "folder", "link"])
def test_nothing_is_made_or_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    path, target = tmp_path / "errors", tmp_path / "target"
    target.write_text("")
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(target)
    monkeypatch.setenv(ERRORS, str(path))
    say_error("one")
    assert capfd.readouterr().err == "one\n"
    assert target.read_text() == ""
    assert path.exists() == (kind != "nothing")


def test_a_terminal_that_is_gone_keeps_nothing_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "errors"
    path.touch()
    monkeypatch.setenv(ERRORS, str(path))
    write = os.write

    def broken(descriptor: int, data: bytes) -> int:
        if descriptor == 2:
            raise BrokenPipeError
        return write(descriptor, data)

    with patch("os.write", broken):
        say_error("one")
    assert path.read_text() == "one\n"
