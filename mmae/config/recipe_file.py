"""From a YAML recipe and dotted overrides to a checked configuration.

A kind of recipe is a dataclass of sections: `TRAINING` is that of `mmae train`; `mmae finetune` has its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from mmae.addresses import hide_in_words, map_locations, without_commands
from mmae.config.config_values import Kinds, kinds_of, recipe_value, typed_value
from mmae.config.packaged_files import find
from mmae.config.renamed_keys import new_name, old_sections, with_new_names
from mmae.config.schema import COMMAND_LINE, Config, Flat, section_fields, section_type
from mmae.config.yaml_file import read_yaml
from mmae.disk.ownership import check_owner
from mmae.errors import InputError, did_you_mean

C = TypeVar("C")


@dataclass(frozen=True)
class RecipeKind(Generic[C]):
    """One kind of recipe.

    Attributes:
        root: the frozen dataclass of a whole configuration; each of its fields is a section, a dataclass of keys.
        contradiction: the first contradiction among a configuration's values in one line, or None.
    """

    root: type[C]
    contradiction: Callable[[C], str | None]

    def load(self, recipe: str, overrides: list[str], trust: bool = False) -> C:
        """The configuration from a recipe (name or path) and `section.key=value` overrides; see `overridden`."""
        return self.overridden(recipe, self.parse_overrides(overrides), trust)

    def overridden(self, recipe: str, said: Flat, trust: bool = False) -> C:
        """The configuration from a recipe (packaged name or path) and values of the command line.

        Args:
            said: from `parse_overrides`.
            trust: the recipe may name a command (`pipe:`), and be the file of another user's run.

        Raises:
            InputError: an unknown key (the nearest is named), a value of the wrong kind, or values that contradict.
        """
        path = find(recipe, "mmae.recipes", ".yaml", "recipe")
        return self.build(self.read(path, trust) | said, str(path), said)

    def parse_overrides(self, overrides: list[str]) -> Flat:
        """`["train.seed=3"]` -> `{"train.seed": 3}`. The type of a key decides how its text is read.

        Raises:
            InputError: an override has another form, an unknown key, or a value of the wrong type.
        """
        flat: Flat = {}
        keys = [override.partition("=")[0] for override in overrides]
        for override in overrides:
            key, separator, text = override.partition("=")
            if not separator:
                raise InputError(f"{COMMAND_LINE}: {override!r} is not of the form section.key=value")
            key = new_name(key, keys, COMMAND_LINE)
            self._check_key(key, COMMAND_LINE)
            try:
                flat[key] = typed_value(text, self._kinds[key])
            except ValueError as error:
                raise InputError(f"{COMMAND_LINE}: {key}={hide_in_words([text])[0]}: {error}") from None
        return flat

    def read(self, path: Path, trust: bool = False) -> Flat:
        """The values of a recipe's file by dotted key. It has sections, or the dotted keys of a run's config.yaml.

        Args:
            trust: the file may name a command (`pipe:`), and be that of another user's run.

        Raises:
            InputError: the file is not a recipe, or a value has the wrong type.
        """
        tree = read_yaml(path)
        if isinstance(tree, dict) and any("." in str(key) for key in tree):
            # Dotted keys: a run wrote this file.
            check_owner((path.parent, path), trust)
        flat = with_new_names(self._flatten_yaml(tree, path), str(path))
        for key, value in flat.items():
            self._check_key(key, str(path))
            try:
                flat[key] = recipe_value(value, self._kinds[key])
            except ValueError as error:
                raise InputError(f"{path}: {key}={value!r}: {error}") from None
        return from_a_file(flat, trust)

    def path_keys(self) -> tuple[str, ...]:
        """Dotted keys that name files or folders."""
        return tuple(key for key, kinds in self._kinds.items() if kinds.path)

    def build(self, flat: Flat, origin: str, said: Collection[str] = ()) -> C:
        """A checked configuration from dotted keys.

        Args:
            origin: names the file in messages.
            said: keys with values from the command line.

        Raises:
            InputError: an unknown key, a value of the wrong kind, or values that contradict.
        """
        nested: dict[str, dict[str, Any]] = {}
        for key, value in with_new_names(flat, origin).items():
            self._check_key(key, origin)
            section, name = key.split(".", 1)
            nested.setdefault(section, {})[name] = value
        try:
            config: C = TypeAdapter(self.root).validate_python(nested)
        except ValidationError as error:
            key, problem = _first_error(error)
            raise InputError(f"{COMMAND_LINE if key in said else origin}: {problem}") from None
        if clash := self.contradiction(config):
            by_words = any(re.search(rf"(?<!\w){re.escape(key)}(?!\w)", clash) for key in said)
            raise InputError(f"{f'{COMMAND_LINE}, with {origin}' if by_words else origin}: {clash}")
        return config

    @cached_property
    def _kinds(self) -> dict[str, Kinds]:
        return {
            f"{section.name}.{name}": kinds_of(annotation)
            for section in section_fields(self.root)
            for name, annotation in get_type_hints(section_type(section.name, self.root), include_extras=True).items()
        }

    @property
    def _sections(self) -> list[str]:
        return [section.name for section in section_fields(self.root)]

    def _flatten_yaml(self, tree: Any, path: Path) -> Flat:
        if not isinstance(tree, dict):
            raise InputError(f"{path}: a recipe is a mapping of sections, this is {type(tree).__name__}")
        flat: Flat = {}
        for name, values in tree.items():
            if "." in str(name):
                keys = {str(name): values}
            elif name not in self._sections and name not in old_sections():
                raise InputError(f"{path}: unknown section {name!r}{did_you_mean(str(name), self._sections)}")
            elif isinstance(values, dict):
                keys = {f"{name}.{key}": value for key, value in values.items()}
            else:
                raise InputError(f"{path}: section {name!r} must be a mapping of keys")
            for key in keys:
                if key in flat:
                    raise InputError(f"{path}: the key {key!r} stands twice")
            flat |= keys
        return flat

    def _check_key(self, key: str, origin: str) -> None:
        known = list(self._kinds)
        if key not in known:
            section, _, name = key.partition(".")
            alike = [each for each in known if each.partition(".")[2] == (name or section)]
            of_section = [each for each in known if each.startswith(f"{section}.")]
            sections = [f"{each}.*" for each in self._sections]
            near = alike or (known if get_close_matches(key, known, cutoff=0.5) else of_section or sections)
            raise InputError(f"{origin}: unknown key {key!r}{did_you_mean(key, near)}")


def _training_contradiction(config: Config) -> str | None:
    from mmae.config.checks import contradiction

    return contradiction(config)


TRAINING: Final = RecipeKind(Config, _training_contradiction)
"""The recipes of `mmae train`."""

load_config = TRAINING.load
overridden = TRAINING.overridden
parse_overrides = TRAINING.parse_overrides
read_recipe = TRAINING.read
path_keys = TRAINING.path_keys
build_config = TRAINING.build


def from_a_file(flat: Flat, trust: bool) -> Flat:
    """Values from a recipe's or run's file. A command (`pipe:`) is disabled, unless the file is trusted."""
    if trust or "data.shards" not in flat:
        return flat
    return {**flat, "data.shards": map_locations(flat["data.shards"], without_commands)}


def _first_error(error: ValidationError) -> tuple[str, str]:
    """The key, and what is wrong with its value."""
    first = error.errors(include_url=False)[0]
    # A union reports its members behind the key: two parts name the key.
    key = ".".join(str(part) for part in first["loc"][:2])
    return key, f"{key}={hide_in_words([repr(first['input'])])[0]}: {first['msg']}"
