"""Addresses of remote folders: recognised, joined with file names, and shown without secrets."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

PIPE: Final = "pipe:"
"""The prefix of a command that writes files."""
HIDDEN: Final = "***"
"""Replaces a secret."""

_AUTHORITY: Final = re.compile(r"://([^/?#]*)(.*)", re.DOTALL)
_SCHEME: Final = r"[A-Za-z][A-Za-z0-9+.-]*://"
_ADDRESS: Final = re.compile(rf"{_SCHEME}(?:[^\s'\"\],]|,(?![\s/~]|pipe:|{_SCHEME})|\](?![\s'\"]|$))+")
"""In a text; a comma in front of another location ends it, and so does the end of a list."""
_HOST: Final = re.compile(r"(\[[^\]]*\]|[^:@\[\]]*)(:\d*)?")
"""An authority without login."""
_CONTAINER: Final = re.compile(r"(abfss?|wasbs?|az)://[^:/@]+@", re.IGNORECASE)
"""Azure has the name of a container where other addresses have a login."""
_SHELL_WORD: Final = re.compile(r"""(?:\$?'[^']*'|"(?:\\.|[^"\\])*"|\\.|[^\s'"\\])+""", re.DOTALL)
_SHORTEST: Final = 4
"""Shorter words are not searched in texts: they would match everywhere."""

_LONGEST_MESSAGE: Final = 200


def is_remote(location: str) -> bool:
    """Whether a location is an address rather than a folder of this machine."""
    return location.startswith(PIPE) or "://" in location


def without_secrets(location: str) -> str:
    """A location as it may be written down: logins, query and fragment of an address, and a command's words, are `***`.

    A folder stays as it is, and so does an address without secrets.
    """
    if location.startswith(PIPE):
        return f"{PIPE}{_program(location)} {HIDDEN}"
    if "://" not in location:
        return location
    start, _, rest = location.partition("://")
    authority, path, query = _parts(f"://{rest}")
    login, at, host = authority.rpartition("@")
    if at and not _CONTAINER.match(location):
        authority = f"{HIDDEN}@{host}" if login else host
    return f"{start}://{authority}{path}{query and query[0] + HIDDEN}"


def is_incomplete(location: str) -> bool:
    """Whether a secret of a location has been replaced."""
    return is_remote(location) and HIDDEN in location and without_secrets(location) == location


def without_commands(location: str) -> str:
    """A location from a file: a command is disabled; anything else is unchanged."""
    return without_secrets(location) if location.startswith(PIPE) else location


def hide_in_text(text: str, secrets: Iterable[str] = ()) -> str:
    """A text without the secrets of the addresses in it, nor any of `secrets`."""
    text = _ADDRESS.sub(lambda match: without_secrets(match[0]), text)
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def hide_in_words(words: Sequence[str]) -> list[str]:
    """The words of a command line as they may be shown: see `without_secrets`."""
    return [_hide_in_word(word) for word in words]


def hide_in_command(command: str) -> str:
    """A line for a shell as it may be shown. Words without secrets stay as they were quoted."""
    try:
        shlex.split(command)
    except ValueError:
        # A shell could not read this line.
        return _hide_in_word(command)
    return _SHELL_WORD.sub(lambda match: _hide_in_quoted(match[0]), command)


def secrets_of(locations: Iterable[str]) -> tuple[str, ...]:
    """Strings that no stored text may contain, in all forms in which a library may repeat them."""
    found: set[str] = set()
    for location in locations:
        if location.startswith(PIPE):
            found.update(_of_command(location))
        elif "://" in location:
            found.update(_of_address(location))
    found |= {json.dumps(each)[1:-1] for each in found}
    return tuple(sorted(each for each in found if len(each) >= _SHORTEST))


def map_locations(value: Any, change: Callable[[str], str]) -> Any:
    """`data.shards`, one location or a list of them, with each changed; anything else is left to other checks."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list | tuple):
        return [change(each) if isinstance(each, str) else each for each in value]
    return value


def _program(location: str) -> str:
    """The program of a command. All other words may be secret, also an assignment in front."""
    word = (location.removeprefix(PIPE).split() or [""])[0]
    return word if re.fullmatch(r"[\w./+-]+", word) else ""


def _parts(rest: str) -> tuple[str, str, str]:
    """Authority, path and query (with fragment) of what follows a scheme."""
    match = _AUTHORITY.match(rest)
    assert match is not None
    authority, path = match[1], match[2]
    if "@" not in authority and "@" in path and not _HOST.fullmatch(authority):
        # A password that holds one of / ? #, as secret keys do: it ends at the last @.
        more, _, path = path.rpartition("@")
        host, slash, path = path.partition("/")
        authority, path = f"{authority}{more}@{host}", slash + path
    cut = min((place for sign in "?#" if (place := path.find(sign)) >= 0), default=len(path))
    return authority, path[:cut], path[cut:]


def _of_address(location: str) -> Iterable[str]:
    authority, _, query = _parts(f"://{location.partition('://')[2]}")
    login = authority.rpartition("@")[0]
    if login and not _CONTAINER.match(location):
        for part in (login, login.partition(":")[2], *re.split("[:@]", login)):
            yield from _forms(part)
    for part in (query[1:], *re.split("[?#&]", query[1:])):
        name, equals, value = part.partition("=")
        # The name of a parameter is not secret. Text that is not a parameter may be secret.
        yield from _forms(value if equals else name)


def _of_command(location: str) -> Iterable[str]:
    """The command as a whole, and its words: a token may be any of them. Paths are not: errors name files by them."""
    command = location.removeprefix(PIPE).strip()
    yield command
    for word in re.split(r"[\s'\"=;&|<>(){}$`,]+", command):
        if "://" in word:
            yield from _of_address(word)
        elif word != _program(location) and not word.startswith(("/", "./", "../", "~", "-")):
            yield word


def _forms(text: str) -> Iterable[str]:
    yield text
    yield unquote(text)


def _hide_in_word(word: str) -> str:
    head, mark, rest = word.partition(PIPE)
    if mark:
        # In a list, text behind a command cannot be separated from the command.
        return f"{hide_in_text(head)}{without_secrets(mark + rest)}"
    return hide_in_text(word)


def _hide_in_quoted(raw: str) -> str:
    word = "".join(shlex.split(raw))
    hidden = _hide_in_word(word)
    return raw if hidden == word else shlex.quote(hidden)


def join(location: str, name: str) -> str:
    """The address of a file in the folder at an address; a query (an access token) stays behind it."""
    parts = urlsplit(location)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))


def one_line(text: str, secrets: Iterable[str] = ()) -> str:
    """The last line of what a program or library said, shortened, without the secrets of addresses or any of these."""
    line = (text.strip().splitlines() or [""])[-1]
    return hide_in_text(line, secrets)[:_LONGEST_MESSAGE]
