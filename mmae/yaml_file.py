"""YAML from a file, safely: no objects, and no key said twice (PyYAML would silently keep the last)."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from mmae.errors import InputError
from mmae.regular_file import read_regular_text


class _StrictLoader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key_node.value!r} stands twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """What the file holds, in plain types.

    Raises:
        InputError: the file cannot be read, is not YAML, or says a key twice.
    """
    try:
        return yaml.load(read_regular_text(path), Loader=_StrictLoader)  # noqa: S506 (a SafeLoader)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text") from error
    except yaml.YAMLError as error:
        problem = str(error).replace("\n", " ")
        raise InputError(f"{path}: not a YAML recipe: {problem}") from error
