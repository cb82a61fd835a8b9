"""Values of a model's notes on a model card: each in its place, whatever a stranger's folder says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmae.terminal.printable import printable


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else "unknown"


def plain(value: Any) -> str:
    """A value on one line, which can neither end a cell of a table nor control a terminal."""
    match value:
        case bool():
            text = str(value).lower()
        case int():
            text = f"{value:,}"
        case float():
            text = f"{value:g}"
        case _:
            text = str(value)
    return printable(text).replace("|", "\\|").replace("`", "'")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
