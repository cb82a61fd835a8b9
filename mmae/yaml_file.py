"""YAML from a file, safely: no objects, and no key said twice (PyYAML would silently keep the last)."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from mmae.errors import InputError


class _StrictLoader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        at, is_alias = self.peek_event().start_mark, self.check_event(yaml.AliasEvent)
        node: yaml.Node | None = super().compose_node(parent, index)
        # Aliases of aliases make a few lines as large as one likes; an alias within itself, endless.
        if is_alias and not isinstance(node, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(
                None, None, "an alias (*name) of a list or mapping: write it out", at
            )
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key that is no word", key_node.start_mark)
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
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 (a SafeLoader)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: a number or date that is none.
        problem = str(error).replace("\n", " ")
        raise InputError(f"{path}: not a YAML recipe: {problem}") from error
