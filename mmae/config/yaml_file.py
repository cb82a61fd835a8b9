"""Safe YAML from a file: no objects, no repeated keys, and no value that YAML 1.1 reads otherwise than it looks.

PyYAML would silently keep the last of two equal keys, and read `010` as 8, `no` as false, and `10:20` as 620.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import yaml

from mmae.disk.regular_file import read_regular_text
from mmae.errors import InputError

_PLAIN: Final = {
    "tag:yaml.org,2002:bool": (re.compile("true|True|TRUE|false|False|FALSE"), "write true or false"),
    "tag:yaml.org,2002:int": (re.compile(r"[-+]?(0|[1-9][0-9]*)"), "write a decimal number"),
    "tag:yaml.org,2002:float": (re.compile(r"[^_:]*"), "write a decimal number"),
    "tag:yaml.org,2002:timestamp": (re.compile(r"(?!)"), "no key is a date"),
}
"""Tag of a value without quotes -> the form that it may have, and what to write instead."""


def read_yaml(path: Path) -> Any:
    """The content of the file, in plain types.

    Raises:
        InputError: the file cannot be read, is not YAML, repeats a key, or has a value that YAML 1.1 would change.
    """
    try:
        return _load(read_regular_text(path), path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text") from error
    except (yaml.YAMLError, ValueError) as error:
        # ValueError: an impossible number or date.
        problem = str(error).replace("\n", " ")
        raise InputError(f"{path}: not a YAML recipe: {problem}") from error
    except RecursionError:
        raise InputError(f"{path}: not a YAML recipe: it is nested too deeply") from None


def _load(text: str, path: Path) -> Any:
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _check(loader, root, "", path, set())
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _check(loader: yaml.SafeLoader, node: yaml.Node, key: str, path: Path, seen: set[int]) -> None:
    """Raise InputError, with file and line, for a value that YAML 1.1 reads otherwise than it looks."""
    if id(node) in seen:
        # A few lines with aliases of aliases can expand without limit, and an alias within itself has no end.
        if not isinstance(node, yaml.ScalarNode):
            raise InputError(f"{_place(node, path)}: {key}: an alias (*name) of a list or mapping: write it out")
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        _check_scalar(loader, node, key, path)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _check(loader, item, f"{key}[{number}]", path, seen)
    elif isinstance(node, yaml.MappingNode):
        names: set[str] = set()
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode):
                raise InputError(f"{_place(name, path)}: a key must be a word")
            dotted = f"{key}.{name.value}" if key else name.value
            _check(loader, name, dotted, path, seen)
            if name.value in names:
                raise InputError(f"{_place(name, path)}: the key {name.value!r} stands twice")
            names.add(name.value)
            _check(loader, value, dotted, path, seen)


def _check_scalar(loader: yaml.SafeLoader, node: yaml.ScalarNode, key: str, path: Path) -> None:
    if node.style is not None or node.tag not in _PLAIN:
        return
    looks, instead = _PLAIN[node.tag]
    if looks.fullmatch(node.value):
        return
    meant = "a date" if node.tag.endswith("timestamp") else repr(loader.construct_object(node))
    raise InputError(
        f"{_place(node, path)}: {key}: YAML 1.1 reads {node.value} as {meant}: {instead}, or put it in quotes"
    )


def _place(node: yaml.Node, path: Path) -> str:
    return f"{path}:{node.start_mark.line + 1}"
