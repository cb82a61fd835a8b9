"""Quote words and values so that they pass DeepSpeed's runner, pdsh and a remote shell unchanged.

DeepSpeed 0.19 puts an exported value in double quotes if it holds special characters, and a word if it holds a space.
It escapes only the double quotes of such a word. pdsh replaces `%h`, `%n` and `%u`.
"""

from __future__ import annotations

import re
import shlex

from mmae.errors import InputError


def exported(value: str, *, before: str = "") -> str:
    """The text behind `NAME=` in the file that DeepSpeed reads.

    Args:
        value: reaches the ranks unchanged.
        before: text behind the value that the remote shell expands, as `:$PATH`.

    Raises:
        InputError: it holds a line break, which such a file cannot express.
    """
    if "\n" in value or "\r" in value:
        raise InputError("holds a line break, which DeepSpeed's file of exports cannot: unset it, or make it one line")
    if not before and value and not re.search(r"[^\w@+=:,./-]", value):
        return value
    # The first and the last quote close and reopen DeepSpeed's own quotes.
    single = value.replace("'", "'\\''")
    return _for_pdsh(f"\"'{single}'\"{before}")


def word(text: str) -> str:
    """A word of the training's command, quoted for `deepspeed`."""
    if " " in text:
        # DeepSpeed itself escapes the double quotes.
        return _for_pdsh(re.sub(r"([\\$`])", r"\\\1", text))
    return _for_pdsh(shlex.quote(text))


def _for_pdsh(text: str) -> str:
    return text.replace("%", "%%")
