"""Words and values on their way through DeepSpeed's runner, pdsh and a remote shell, to arrive as they were.

DeepSpeed 0.19 puts an exported value in double quotes if it holds any but plain characters, and a word if it holds a
space; it escapes no more than the double quotes of such a word. pdsh replaces `%h`, `%n` and `%u`.
"""

from __future__ import annotations

import re
import shlex

from mmae.errors import InputError


def exported(value: str, *, before: str = "") -> str:
    """What follows `NAME=` in the file that DeepSpeed reads.

    Args:
        value: arrives letter by letter.
        before: shell text that the remote shell expands behind it, as `:$PATH`.

    Raises:
        InputError: it holds a line break, which such a file cannot.
    """
    if "\n" in value or "\r" in value:
        raise InputError("holds a line break, which no file of exports can: unset it, or make it one line")
    if not before and value and not re.search(r"[^\w@+=:,./-]", value):
        return value
    # The first and the last quote close and open again those that DeepSpeed puts around.
    single = value.replace("'", "'\\''")
    return _for_pdsh(f"\"'{single}'\"{before}")


def word(text: str) -> str:
    """A word of the training's command, as `deepspeed` has to be given it."""
    if " " in text:
        # DeepSpeed itself escapes the double quotes.
        return _for_pdsh(re.sub(r"([\\$`])", r"\\\1", text))
    return _for_pdsh(shlex.quote(text))


def _for_pdsh(text: str) -> str:
    return text.replace("%", "%%")
