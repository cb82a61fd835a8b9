"""Makes text safe for a terminal or a log: names from files and paths cannot control a terminal or forge a line."""

from __future__ import annotations


def printable(text: object) -> str:
    r"""The text as one line of visible characters, any other as `\x1b`, `\n`, `\u202e`.

    Control characters would move the cursor or set a terminal's title, line ends would forge a message of ours, and
    marks of writing direction would show a name in another order. Bytes of a file's name that are not UTF-8 are shown
    in the same way, because printing them would fail.
    """
    words = str(text)
    if words.isprintable():
        return words
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in words
    )
