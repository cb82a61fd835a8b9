"""How a command's words are read, and how it ends when something outside it goes wrong."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mmae.errors import InputError
from mmae.terminal.edge import Ending, Parser, ending, guarded, parse
from mmae.terminal.printable import printable
from tests.support.paths import ROOT

Capture = pytest.CaptureFixture[str]


def raising(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


def interrupted_import() -> ImportError:
    try:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise ImportError("half a library")  # noqa: B904 (as libraries do)
    except ImportError as error:
        return error


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("x: say y"), 2, "mmae: error: x: say y"),
        (InputError("a\nb\x1b[31m\u202e"), 2, "mmae: error: a\\nb\\x1b[31m\\u202e"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/a/b"),
            2,
            "mmae: error: /a/b: Permission denied: ask its owner",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", b"/a"), 2, "mmae: error: /a: No such file or"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "mmae: error: No space left on device: make room"),
        (OSError(errno.EACCES, "Permission denied", "a\nb"), 2, "mmae: error: a\\nb: Permission denied"),
        (MemoryError("Unable to allocate 9 TiB"), 1, "mmae: error: out of memory (Unable to allocate 9 TiB): ask"),
        (KeyboardInterrupt(), 130, "mmae: interrupted"),
        (interrupted_import(), 130, "mmae: interrupted"),
    ],
)
def test_what_comes_from_outside_is_one_line(error: BaseException, status: int, line: str, capsys: Capture) -> None:
    assert guarded(raising(error)) == status
    said = capsys.readouterr().err
    assert said.startswith(line)
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), ImportError("x"), OSError("x"), OSError(errno.EBADF, "Bad file descriptor"), BrokenPipeError()],
)
def test_a_fault_of_ours_keeps_its_traceback(error: Exception, capsys: Capture) -> None:
    with pytest.raises(type(error)):
        guarded(raising(error))
    assert capsys.readouterr().err == ""


def test_a_command_that_ends_well_keeps_its_status(capsys: Capture) -> None:
    assert [guarded(iter([status]).__next__) for status in (0, 1, 3)] == [0, 1, 3]
    with pytest.raises(SystemExit):
        guarded(raising(SystemExit(4)))
    assert capsys.readouterr().err == ""


def test_causes_in_a_circle_are_followed_once() -> None:
    one, other = ValueError(), ValueError()
    one.__context__, other.__context__ = other, one
    assert ending(one) is None


def test_one_who_says_it_otherwise_is_asked(capsys: Capture) -> None:
    heard: list[tuple[BaseException, str]] = []
    error = InputError("x")
    assert guarded(raising(error), name="", say=lambda *said: heard.append(said)) == 2
    assert heard == [(error, "error: x")]
    assert capsys.readouterr().err == ""
    assert ending(error) == Ending(2, "error: x")


def parser() -> Parser:
    made = Parser(prog="mmae x")
    made.add_argument("--flag", action="store_true")
    made.add_argument("--out")
    made.add_argument("words", nargs="*")
    return made


@pytest.mark.process
def test_options_may_stand_between_words() -> None:
    found = parse(parser(), ["a", "--flag", "b", "--out", "o", "c"])
    assert (found.words, found.flag, found.out) == (["a", "b", "c"], True, "o")
    assert parse(parser(), ["--", "--a"]).words == ["--a"]


def test_a_list_whose_first_item_is_left_out_is_its_options() -> None:
    made = parser()
    for words in (["m", "--out", "-,B3"], ["--out=-,B3", "m"], ["--out", "-,B3", "--flag", "m"]):
        assert (parse(made, words).out, parse(made, words).words) == ("-,B3", ["m"])
    with pytest.raises(InputError, match="command line: "):
        parse(made, ["m", "-,B3"])


@pytest.mark.process
def test_home_is_meant_where_a_shell_has_left_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    found = parse(parser(), ["~/a", "~", "x=~/a", "a/~/b", "--out=~/o"])
    assert (found.words, found.out) == (["/home/me/a", "/home/me", "x=~/a", "a/~/b"], "/home/me/o")


@pytest.mark.process
def test_a_wrong_word_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^command line: unrecognized arguments: --no \(see mmae x --help\)$"):
        parse(parser(), ["--no"])


def test_printable_text_stays_as_it_is() -> None:
    assert printable("é ~ 漢 /a b") == "é ~ 漢 /a b"
    assert printable("\x00\t\x9b") == "\\x00\\t\\x9b"


def mmae(*words: str, stdout: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mmae", *words], cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False
    )


@pytest.mark.process
@pytest.mark.parametrize("words", [["--help"], ["plan", "debug", "--gpus", "1", "--gpu-memory", "80GB"]])
def test_a_closed_pipe_ends_in_silence(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = mmae(*words, stdout=writing)
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode in {0, 141}


@pytest.mark.process
def test_a_full_disk_is_said_once() -> None:
    with open("/dev/full", "w") as full:
        done = mmae("plan", "debug", "--gpus", "1", "--gpu-memory", "80GB", stdout=full.fileno())
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "No space left on device" in done.stderr


@pytest.mark.process
def test_a_name_that_is_no_text_can_be_printed(tmp_path: Path) -> None:
    name = os.fsdecode(bytes(tmp_path) + b"/\xff\x1b[31m")
    done = mmae("status", name, stdout=subprocess.PIPE)
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    assert "no run lives here" in done.stderr
