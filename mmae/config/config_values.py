"""The meaning of a typed value depends on the type of its key. A string is taken literally, and a number is decimal.

YAML would read `runs/exp #2` as `runs/exp`, `010` as 8 and `no` as false.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, replace
from decimal import Decimal
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

IS_PATH: Final = "path"
"""Marks an `Annotated` string as the name of a file or folder, in which `~` is the home folder."""

_DECIMAL: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_MOST_DIGITS: Final = 40
"""Most digits of a whole number: a value such as 1e9999 would fill the memory."""
_NULL: Final = frozenset({"", "null", "Null", "NULL"})
_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})
_ITEM: Final = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([^,]*?))\s*(,|$)""")


@dataclass(frozen=True)
class Kinds:
    """The values that an annotation allows.

    Attributes:
        scalars: types out of bool, int, float and str.
        item: what an item of a list may be; None: no list is allowed.
        entry: what a name of a mapping may stand for; None: no mapping is allowed.
        optional: whether None is allowed.
        path: whether its strings name files or folders.
    """

    scalars: frozenset[type] = frozenset()
    item: Kinds | None = None
    optional: bool = False
    path: bool = False
    entry: Kinds | None = None


def kinds_of(annotation: Any) -> Kinds:
    """The kinds of values of a field's annotation."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = kinds_of(parts[0])
        return replace(inner, path=inner.path or IS_PATH in parts[1:])
    if origin in {Union, UnionType}:
        kinds = [kinds_of(part) for part in parts]
        return Kinds(
            frozenset().union(*(each.scalars for each in kinds)),
            next((each.item for each in kinds if each.item), None),
            any(each.optional for each in kinds),
            any(each.path for each in kinds),
            next((each.entry for each in kinds if each.entry), None),
        )
    if origin is tuple:
        item = kinds_of(parts[0])
        return Kinds(item=item, path=item.path)
    if origin is dict:
        return Kinds(entry=kinds_of(parts[1]))
    if annotation is NoneType:
        return Kinds(optional=True)
    return Kinds(frozenset({str if origin is Literal else annotation}))


def typed_value(text: str, kinds: Kinds) -> Any:
    """The value of the text that a shell user typed behind `section.key=`.

    Raises:
        ValueError: the text is not a value of the key; the message says what to write.
    """
    # Where a path is wanted, ~ is the home folder.
    if kinds.optional and (text in _NULL or (text == "~" and not kinds.path)):
        return None
    if kinds.entry is not None:
        return _mapping(text, kinds.entry)
    if kinds.item is not None and _is_list(text, kinds):
        return [typed_value(word, kinds.item) for word in _items(text)]
    if str not in kinds.scalars:
        return _number_or_bool(text, kinds)
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        raise ValueError("the quotes would belong to the value: leave them out")
    return _string(text, kinds)


def recipe_value(value: Any, kinds: Kinds) -> Any:
    """The value of a recipe's key. YAML reads some numbers (`1e-3`) as strings.

    Raises:
        ValueError: it is not a value of the key.
    """
    if isinstance(value, list) and kinds.item is not None:
        return [recipe_value(item, kinds.item) for item in value]
    if isinstance(value, dict) and kinds.entry is not None:
        return {str(name): recipe_value(each, kinds.entry) for name, each in value.items()}
    if isinstance(value, str):
        return _string(value, kinds) if str in kinds.scalars else typed_value(value, kinds)
    if isinstance(value, bool) and bool not in kinds.scalars:
        raise ValueError("this key takes no true or false")
    return value


def assignment(key: str, value: Any) -> str:
    """`section.key=value` as a shell user would type it, to be this value."""
    match value:
        case list() | tuple():
            text = f"[{','.join(map(_text, value))}]"
        case dict():
            text = f"{{{','.join(f'{name}:{_text(each)}' for name, each in value.items())}}}"
        case _:
            text = _text(value)
    return shlex.quote(f"{key}={text}")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


def with_home(text: str) -> str:
    """The path with `~` (or `~name`) at its beginning replaced by the home folder.

    Raises:
        ValueError: the user or their home folder is not known.
    """
    if not text.startswith("~"):
        return text
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise ValueError(
            f"there is no home folder for {text.partition('/')[0]}: write ./{text} if that is the name of a file"
        )
    return path


def _string(text: str, kinds: Kinds) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("not UTF-8 text: rename it") from None
    if kinds.path and "\0" in text:
        raise ValueError("no path holds the character NUL: remove it")
    return with_home(text) if kinds.path else text


def _is_list(text: str, kinds: Kinds) -> bool:
    """Whether a list needs brackets: it does if its key may also be a string, which can hold commas."""
    bracketed = text.startswith("[") and text.endswith("]")
    return bracketed or not kinds.scalars or ("," in text and str not in kinds.scalars)


def _items(text: str) -> list[str]:
    """The items between commas. A quoted item may hold a comma, and a comma may follow the last item."""
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    items: list[str] = []
    place = 0
    while inner[place:].strip():
        found = _ITEM.match(inner, place)
        assert found is not None
        quoted = found[1] if found[1] is not None else found[2]
        if quoted is None and not found[3]:
            raise ValueError("an item of the list is empty: remove a comma")
        items.append(found[3] if quoted is None else quoted)
        place = found.end()
    return items


def _mapping(text: str, entry: Kinds) -> dict[str, Any]:
    """`{encoder:0.1,decoders:2}`, with or without braces."""
    inner = text.strip()
    inner = inner[1:-1] if inner.startswith("{") and inner.endswith("}") else inner
    found: dict[str, Any] = {}
    for item in filter(None, (each.strip() for each in inner.split(","))):
        name, colon, value = item.rpartition(":")
        if not colon or not name.strip():
            raise ValueError("not a list of names with values: write it like {encoder:0.1,decoders:2}")
        if name.strip() in found:
            raise ValueError(f"{name.strip()} stands twice")
        found[name.strip()] = typed_value(value.strip(), entry)
    return found


def _number_or_bool(text: str, kinds: Kinds) -> bool | int | float:
    word = text.strip()
    if bool in kinds.scalars:
        if word.lower() in _TRUE | _FALSE:
            return word.lower() in _TRUE
        raise ValueError("neither true nor false")
    or_null = ", or null" if kinds.optional else ""
    if float in kinds.scalars:
        if not _DECIMAL.fullmatch(word):
            raise ValueError(f"not a number: write a decimal one, such as 0.1 or 1e-4{or_null}")
        return float(word)
    number = Decimal(word) if _DECIMAL.fullmatch(word) else None
    if number is None or number.adjusted() > _MOST_DIGITS or number != number.to_integral_value():
        raise ValueError(f"not a whole number: write a decimal one, such as 1000 or 1e3{or_null}")
    return int(number)
