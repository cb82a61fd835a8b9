"""Recipes that are made to harm who reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmae.config.yaml_file import read_yaml
from mmae.errors import InputError

BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"


def read(tmp_path: Path, text: str) -> object:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return read_yaml(path)


def test_a_word_may_have_an_alias(tmp_path: Path) -> None:
    assert read(tmp_path, "train: {seed: &seed 3, warmup_steps: *seed}\n") == {"train": {"seed": 3, "warmup_steps": 3}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, r"an alias \(\*name\) of a list or mapping"),
        ("a: &a [*a]\n", "an alias"),
        ("a: &a {x: 1}\nb: {<<: *a}\n", "an alias"),
        ("a: *nowhere\n", "undefined alias"),
        ("[" * 10_000, "not a YAML recipe"),
        ("? [a]\n: 1\n", "a key must be a word"),
        ("? {a: 1}\n: 1\n", "a key must be a word"),
        ("a: 2001-99-99\n", "YAML 1.1 reads 2001-99-99 as a date"),
        (f"a: {'9' * 10_000}\n", "not a YAML recipe"),
        ("a: !!python/object/apply:os.system [touch x]\n", "could not determine a constructor"),
        ("a: \x1b]0;title\x07\n", "not a YAML recipe"),
    ],
)
def test_a_harmful_recipe_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        read(tmp_path, text)
    assert str(refused.value).isprintable()
