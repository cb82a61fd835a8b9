"""What a shell user types is what the key's type makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmae.config.config_values import assignment, kinds_of, typed_value
from mmae.config.recipe_file import load_config, parse_overrides
from mmae.errors import InputError


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")


@pytest.mark.parametrize(
    ("override", "value"),
    [
        # A string is what was typed.
        ("run.dir=runs/exp #2", "runs/exp #2"),
        ("run.dir=no", "no"),
        ("run.dir=2024-01-01", "2024-01-01"),
        ("run.dir=010", "010"),
        ("run.dir=a: b", "a: b"),
        ("run.dir=null", "null"),
        ("run.dir= a ", " a "),
        ("run.dir={x}", "{x}"),
        ("run.dir=it's", "it's"),
        ("run.dir=a=b", "a=b"),
        ("log.wandb_project=1_000", "1_000"),
        ("log.wandb_project=~/x", "~/x"),
        ("data.shards=/a,b", "/a,b"),
        ("data.shards=pipe:cat 'a b/{}' # x", "pipe:cat 'a b/{}' # x"),
        ("train.profile=10:20", "10:20"),
        # ~ is the home folder where a path is wanted.
        ("run.dir=~/runs/a", "/home/me/runs/a"),
        ("data.keys=~", "/home/me"),
        ("data.shards=[~/a, b/~/c]", ["/home/me/a", "b/~/c"]),
        ("model.init_from=./~x", "./~x"),
        # A number is decimal.
        ("train.seed=010", 10),
        ("train.seed=-3", -3),
        ("train.seed= 3 ", 3),
        ("train.max_steps=1e3", 1000),
        ("train.max_steps=1.2e6", 1_200_000),
        ("train.max_steps=1000.0", 1000),
        ("train.blr=2e-4", 2e-4),
        ("train.blr=1", 1.0),
        ("train.skip_grad_norm=.5", 0.5),
        # true and false.
        ("log.wandb=no", False),
        ("log.wandb=True", True),
        ("log.wandb=0", False),
        # null, where a key may have no value.
        ("data.keys=null", None),
        ("data.keys=", None),
        ("train.stop_at=~", None),
        ("train.precision=null", None),
        # Lists; the brackets may be left out where no string could hold the comma.
        ("model.in_domains=rgb", ["rgb"]),
        ("model.in_domains=rgb,depth", ["rgb", "depth"]),
        ("model.in_domains=[rgb, depth]", ["rgb", "depth"]),
        ("model.in_domains=[]", []),
        ("data.shards=['a, b', \"c\", d e,]", ["a, b", "c", "d e"]),
        ("data.shards=[a #2, it's]", ["a #2", "it's"]),
        ("data.weights=[1, 2.5]", [1.0, 2.5]),
        ("data.weights=2", [2.0]),
        ("data.weights=null", None),
        ("train.opt_betas=0.9,0.95", [0.9, 0.95]),
        ("model.input_size=[56,64]", [56, 64]),
        ("model.input_size=56", 56),
        ("model.alphas=1e-1", 0.1),
    ],
)
def test_a_value_is_what_its_key_makes_of_it(override: str, value: Any) -> None:
    (found,) = parse_overrides([override]).values()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.seed=1_000", "not a whole number"),
        ("train.seed=0x10", "not a whole number"),
        ("train.seed=10:20", "not a whole number"),
        ("train.seed=٣", "not a whole number"),
        ("train.seed=true", "not a whole number"),
        ("train.seed=1e9999", "not a whole number"),
        ("train.seed=" + "9" * 5000, "not a whole number"),
        ("train.seed=9223372036854775808", "train.seed=9223372036854775808"),
        ("train.seed=-9223372036854775809", "train.seed=-9223372036854775809"),
        ("train.stop_at=none", "such as 1000 or 1e3, or null"),
        ("train.seed=", "not a whole number"),
        ("train.blr=1_0.5", "not a number"),
        ("train.blr=nan", "not a number"),
        ("train.blr=1e999", "train.blr=inf"),
        ("log.wandb=maybe", "neither true nor false"),
        ("run.dir=", "run.dir=''"),
        ("run.dir='a'", "leave them out"),
        ('run.dir="a"', "leave them out"),
        ("run.dir=~nobody-of-this-name/a", "no home folder for ~nobody-of-this-name"),
        ("run.dir=\udcff", "not UTF-8"),
        ("model.in_domains=rgb,,depth", "an item of the list is empty"),
        ("model.in_domains=", "model.in_domains is empty"),
    ],
)
def test_what_it_cannot_be_is_the_command_lines_mistake(override: str, says: str) -> None:
    with pytest.raises(InputError, match=r"^command line") as caught:
        load_config("debug", [override])
    assert says in str(caught.value)


def test_no_path_holds_nul(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text('run:\n  dir: "a\\0b"\n')
    with pytest.raises(InputError, match=r"run\.dir=.*no path holds the character NUL"):
        load_config(str(recipe), [])


@pytest.mark.parametrize("seed", [-(2**63), 2**63 - 1])
def test_every_seed_of_64_bits_is_taken(seed: int) -> None:
    assert load_config("debug", [f"train.seed={seed}"]).train.seed == seed


@pytest.mark.parametrize(
    ("key", "value", "typed"),
    [
        ("a.b", 3, "a.b=3"),
        ("a.b", None, "a.b=null"),
        ("a.b", True, "a.b=true"),
        ("a.b", (0.9, 0.95), "'a.b=[0.9,0.95]'"),
        ("a.b", "x y", "'a.b=x y'"),
        ("a.b", {"x": 0.1, "*.y": 2.0}, "'a.b={x:0.1,*.y:2.0}'"),
    ],
)
def test_an_assignment_can_be_pasted(key: str, value: Any, typed: str) -> None:
    assert assignment(key, value) == typed


def test_a_list_of_numbers_has_no_strings() -> None:
    with pytest.raises(ValueError, match="not a number"):
        typed_value("[1,a]", kinds_of(tuple[float, ...]))
