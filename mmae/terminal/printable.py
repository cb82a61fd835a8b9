"""Text that leaves for a terminal or a log: what files and paths hold cannot steer a terminal or forge a line."""

from __future__ import annotations


def printable(text: object) -> str:
    r"""The text as one line of visible characters, any other as `\x1b`, `\n`, `\u202e`.

    Control characters would move the cursor or set a terminal's title, line ends would forge a message of ours, and
    marks of writing direction would show a name in another order than it has. Bytes that are not UTF-8 in a file's
    name are shown in the same way, where printing them would fail.
    """
    words = str(text)
    if words.isprintable():
        return words
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in words
    )
