"""A recipe is named with `--config` or without, and overrides stand anywhere."""

from __future__ import annotations

import pytest

from mmae.config.finetune_schema import FinetuneConfig
from mmae.config.recipe_arguments import add_recipe_arguments, recipe_of, recipe_or_none
from mmae.config.schema import Config, section_fields
from mmae.errors import InputError
from mmae.terminal.edge import Parser, parse


def told(*words: str) -> tuple[str | None, list[str]]:
    parser = Parser(prog="mmae x")
    add_recipe_arguments(parser)
    parser.add_argument("--fresh", action="store_true")
    return recipe_or_none(parse(parser, words))


@pytest.mark.parametrize(
    ("words", "recipe", "overrides"),
    [
        ("--config debug a.b=1 --fresh c.d=2", "debug", ["a.b=1", "c.d=2"]),
        ("debug a.b=1 --fresh c.d=2", "debug", ["a.b=1", "c.d=2"]),
        ("a.b=1 --fresh debug c.d=2", "debug", ["a.b=1", "c.d=2"]),
        ("--config debug", "debug", []),
        ("debug", "debug", []),
        ("runs/lr=3/config.yaml a.b=c/d", "runs/lr=3/config.yaml", ["a.b=c/d"]),
        ("a=1", None, ["a=1"]),
        ("model.size --config debug", "debug", ["model.size"]),
        ("model.size", None, ["model.size"]),
        ("", None, []),
    ],
)
def test_a_recipe_is_the_word_without_a_key(words: str, recipe: str | None, overrides: list[str]) -> None:
    assert told(*words.split()) == (recipe, overrides)


@pytest.mark.parametrize(
    "section", sorted({each.name for root in (Config, FinetuneConfig) for each in section_fields(root)})
)
def test_a_key_without_a_value_is_no_recipe(section: str) -> None:
    assert told(f"{section}.key") == (None, [f"{section}.key"])


@pytest.mark.parametrize("words", ["debug mini", "--config debug mini", "debug --fresh a.b=1 mini"])
def test_two_recipes_are_refused(words: str) -> None:
    with pytest.raises(InputError, match=r"is not of the form section\.key=value, and the recipe is 'debug' already"):
        told(*words.split())


def test_no_recipe_is_refused_where_one_is_needed() -> None:
    parser = Parser(prog="mmae x")
    add_recipe_arguments(parser)
    with pytest.raises(InputError, match="add --config RECIPE"):
        recipe_of(parse(parser, ["a.b=1"]))
