"""The tables of recipe keys in `mmae/README.md` and `mmae/finetune/README.md`, made from the dataclasses.

python -m mmae.config.key_table            print them
python -m mmae.config.key_table --write    write them into the READMEs
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from mmae.config import finetune_schema, schema
from mmae.disk.files import write_whole

_PACKAGE: Final = Path(__file__).resolve().parent.parent
README: Final = _PACKAGE / "README.md"
FINETUNE_README: Final = _PACKAGE / "finetune" / "README.md"
ROOTS: Final = MappingProxyType({README: schema.Config, FINETUNE_README: finetune_schema.FinetuneConfig})
"""README -> the configuration whose keys it lists."""
BEGIN: Final = "<!-- keys: begin -->\n"
END: Final = "<!-- keys: end -->\n"


def key_table(root: Any = schema.Config) -> str:
    """Markdown: a row for each `section.key` with its default, what it means, and what a resumed run may change.

    Args:
        root: the dataclass of a configuration.
    """
    meanings, policy = _meanings(), schema.resume_policy(root)
    rows = ["| key | default | meaning | on resume |", "| --- | --- | --- | --- |"]
    for section, entry in _keys(root):
        key = f"{section}.{entry.name}"
        owners = (each.__name__ for each in schema.section_type(section, root).__mro__)
        meaning = next(meanings[owner, entry.name] for owner in owners if (owner, entry.name) in meanings)
        rows.append(f"| `{key}` | `{_default(entry)}` | {meaning} | {policy[key]} |")
    return "\n".join(rows) + "\n"


def with_table(text: str, root: Any = schema.Config) -> str:
    """A README's text with the current table between its two marks.

    Raises:
        ValueError: the marks are missing.
    """
    if BEGIN not in text or END not in text:
        raise ValueError(f"the marks {BEGIN.strip()!r} and {END.strip()!r} are missing")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    return before + BEGIN + key_table(root) + END + after


def _keys(root: Any) -> Iterator[tuple[str, Field[Any]]]:
    for section in fields(root):
        for entry in fields(schema.section_type(section.name, root)):
            yield section.name, entry


def _default(entry: Field[Any]) -> str:
    value = entry.default if entry.default is not MISSING else None
    if isinstance(value, tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'


def _meanings() -> dict[tuple[str, str], str]:
    """(class, field) -> the text under the field in the source; its defaults and types are read elsewhere."""
    found = {}
    nodes = (ast.walk(ast.parse(inspect.getsource(module))) for module in (schema, finetune_schema))
    for node in chain.from_iterable(nodes):
        if isinstance(node, ast.ClassDef):
            for line, below in zip(node.body, node.body[1:], strict=False):
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and _is_text(below):
                    assert isinstance(below, ast.Expr)
                    found[node.name, line.target.id] = _one_line(ast.literal_eval(below.value))
    return found


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="the tables of recipe keys")
    parser.add_argument("--write", action="store_true", help="write them into the READMEs")
    write = parser.parse_args(argv).write
    for readme, root in ROOTS.items():
        if write:
            write_whole(readme, with_table(readme.read_text(encoding="utf-8"), root))
        else:
            print(key_table(root), end="")


if __name__ == "__main__":
    main()
