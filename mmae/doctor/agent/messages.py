"""Messages of another machine: parsed into known types, or refused."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar, cast

T = TypeVar("T")


def parse_json(text: str) -> object:
    """Standard JSON.

    Raises:
        ValueError: it is not standard JSON; NaN and Infinity are refused too.
    """

    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is not JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def parse(kind: type[T], content: object) -> T:
    """A dataclass of plain values, lists, mappings and dataclasses, from parsed JSON.

    Raises:
        ValueError: a field is missing or unknown, or a value has another type.
    """
    return cast(T, _take(kind, content, kind.__name__))


def _take(hint: Any, value: object, where: str) -> object:
    inner, origin = typing.get_args(hint), typing.get_origin(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        hints = typing.get_type_hints(hint)
        if not isinstance(value, Mapping) or set(value) != set(hints):
            raise ValueError(f"{where} has other fields: is mmae another version there?")
        return hint(**{name: _take(kind, value[name], f"{where}.{name}") for name, kind in hints.items()})
    if origin is list and isinstance(value, list):
        return [_take(inner[0], each, where) for each in value]
    if origin is dict and isinstance(value, dict):
        return {str(key): _take(inner[1], each, where) for key, each in value.items()}
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise ValueError(f"{where} has another type")
    return value
