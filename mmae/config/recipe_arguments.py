"""Arguments of commands that take a recipe: `--config RECIPE` or `RECIPE`, and `section.key=value` overrides."""

from __future__ import annotations

import argparse
import re
from typing import Final

from mmae.errors import InputError

_OVERRIDE: Final = re.compile(
    r"[^/=]+=.*|(run|data|source|model|task|train|val|eval|checkpoint|log|finetune)\.\w+", re.DOTALL
)
"""An override, with a known or unknown key, or a key without a value. Other words name a recipe."""


_WHAT: Final = "packaged recipe (debug, vit_l) or YAML file"


def add_recipe_arguments(parser: argparse.ArgumentParser, what: str = _WHAT) -> None:
    """`--config RECIPE`, and the words `[RECIPE] [section.key=value ...]`."""
    parser.add_argument("--config", metavar="RECIPE", help=what)
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="the same without --config")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="override a key of the recipe")


def recipe_or_none(args: argparse.Namespace) -> tuple[str | None, list[str]]:
    """The recipe, if one is named, and the overrides.

    Raises:
        InputError: two recipes are named.
    """
    words = [word for word in (args.recipe, *args.overrides) if word is not None]
    overrides = [word for word in words if _OVERRIDE.fullmatch(word)]
    named = ([args.config] if args.config is not None else []) + [word for word in words if word not in overrides]
    if len(named) > 1:
        raise InputError(
            f"command line: {named[1]!r} is not of the form section.key=value, and the recipe is {named[0]!r} already"
        )
    return (named[0] if named else None), overrides


def recipe_of(args: argparse.Namespace) -> tuple[str, list[str]]:
    """The recipe and the overrides.

    Raises:
        InputError: no recipe is named, or two.
    """
    recipe, overrides = recipe_or_none(args)
    if recipe is None:
        raise InputError("command line: no recipe is named: add --config RECIPE (debug, vit_l, or a YAML file)")
    return recipe, overrides
