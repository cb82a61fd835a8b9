from __future__ import annotations

import os

import pytest

from mmae.errors import InputError
from mmae.terminal.printable import printable


@pytest.mark.parametrize("text", ["", "runs/a b", "café 北京 … ×", "a\\n"])
def test_what_can_be_seen_stays(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\nmmae: error: b\r", r"a\nmmae: error: b\r"),
        ("\x9b31m", r"\x9b31m"),
        ("invoice\u202egnp.sh", r"invoice\u202egnp.sh"),
        ("a\u2066b\u200fc\u200bd", r"a\u2066b\u200fc\u200bd"),
        ("a\u2028b\u0085c", r"a\u2028b\x85c"),
        (os.fsdecode(b"caf\xe9"), r"caf\udce9"),
    ],
)
def test_what_would_steer_a_terminal_or_forge_a_line_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text).isprintable()
    assert printable(text).encode()


def test_whatever_is_said_of_bad_input_is_one_line() -> None:
    assert str(InputError("a\x1b[2J\nb")) == r"a\x1b[2J\nb"
