"""Predictions beyond a ladder: the best size for a budget, when the next size is better, and what spoils them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmae.config.recipe_file import load_config
from mmae.config.schema import Config
from mmae.errors import InputError
from mmae.scaling_law import law_file
from mmae.scaling_law.forecast import check_usable, choices, differences, far_away, of_size, point_of_no_return
from mmae.scaling_law.ladder_file import ALL, LADDER, Ladder, read_ladder
from mmae.scaling_law.law_file import LAW as LAW_FILE
from mmae.scaling_law.law_file import fits_of, write_fits
from mmae.scaling_law.law_fit import Fit, fit_law
from tests.support.synthetic_ladder import NAMES, SIZES, points, written_ladder

COSTS = dict(zip(NAMES, SIZES, strict=True))


def cost(config: Config) -> tuple[int, int]:
    return COSTS[config.model.size], 6 * COSTS[config.model.size]


@pytest.fixture(scope="module")
def fit() -> Fit:
    return fit_law(points(5, 5, noise=0.001), draws=10)


@pytest.fixture
def recipe() -> Config:
    return load_config("mini", [])


def test_more_operations_want_a_larger_size(fit: Fit, recipe: Config) -> None:
    best = [choices(fit, recipe, 6 * SIZES[0] * tiles, cost, NAMES)[0] for tiles in (1e3, 1e6, 1e9)]
    places = [NAMES.index(each.size) for each in best]
    assert places == sorted(places)
    assert places[0] < places[2]
    every = choices(fit, recipe, 6 * SIZES[0] * 1e6, cost, NAMES)
    assert [each.predicted.loss for each in every] == sorted(each.predicted.loss for each in every)
    assert {each.size: each.tiles for each in every}["nano"] == 1_000_000
    assert choices(fit, recipe, 1.0, cost, NAMES) == []
    assert choices(fit, recipe, math.inf, cost, NAMES)[0].size == NAMES[-1]


def test_beyond_the_point_of_no_return_the_next_size_is_better(fit: Fit, recipe: Config) -> None:
    turn = point_of_no_return(fit, of_size(recipe, "nano"), cost)
    assert turn is not None
    size, tiles = turn
    assert size == "micro"
    for times, better in ((0.5, "nano"), (2.0, "micro")):
        assert choices(fit, recipe, 6 * SIZES[0] * tiles * times, cost, ("nano", "micro"))[0].size == better
    assert point_of_no_return(fit, of_size(recipe, "gigantic"), cost) is None
    # Another size never helps where size does not count.
    flat = replace(fit, law=replace(fit.law, of_size=0.0))
    assert point_of_no_return(flat, of_size(recipe, "nano"), cost) is None


def test_a_ladder_is_read_as_it_was_written(tmp_path: Path) -> None:
    ladder = written_ladder(tmp_path / "ladder", 3, 3)
    assert ladder.outputs() == [ALL, "rgb", "ired"]
    rgb, every = ladder.points("rgb"), ladder.points(ALL)
    assert every[3].loss == pytest.approx(1.5 * rgb[3].loss)
    fits = {output: fit_law(ladder.points(output), draws=2) for output in ladder.outputs()}
    write_fits(tmp_path / "ladder", ladder, fits)
    again = fits_of(tmp_path / "ladder", ladder)
    assert again[ALL].predict(1e6, 1e6) == fits[ALL].predict(1e6, 1e6)
    # Fits of other points do not count.
    other = Ladder(ladder.recipe, ladder.rungs[:-1])
    assert fits_of(tmp_path / "ladder", other, 2)[ALL].points != again[ALL].points


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read"),
        ('{"version": 2, "recipe": {}, "rungs": []}', "version 2 is not known"),
        ('{"version": 1, "recipe": {}, "rungs": [{"size": 3}]}', r"rungs\.0"),
        ('{"version": 1, "recipe": {}, "rungs": [{"size": "\\u001b[2J"}]}', r"rungs\.0\.size"),
        (
            '{"version": 1, "recipe": {}, "rungs": [{"size": "nano", "parameters": 1, "tiles": 1, "flops": NaN}]}',
            "flops",
        ),
    ],
)
def test_a_damaged_ladder_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / LADDER).write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        read_ladder(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="holds no ladder"):
        read_ladder(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    "damage", [{"draws": [], "shifts": []}, {"shifts": [0.1]}, {"law": [1.0, 1.0, -900.0, 1.0, 0.4]}, {"noise": 0.0}]
)
def test_damaged_fits_are_made_anew(tmp_path: Path, damage: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    ladder = written_ladder(tmp_path / "ladder", 2, 2)
    fits = {output: fit_law(ladder.points(output), draws=2) for output in ladder.outputs()}
    write_fits(tmp_path / "ladder", ladder, fits)
    # Only a fit that is made anew comes from here.
    monkeypatch.setattr(law_file, "fit_law", lambda points, draws: fits[ALL])
    assert fits_of(tmp_path / "ladder", ladder)["rgb"] is not fits[ALL]
    stored = json.loads((tmp_path / "ladder" / LAW_FILE).read_text())
    stored["fits"]["rgb"] |= damage
    (tmp_path / "ladder" / LAW_FILE).write_text(json.dumps(stored))
    assert fits_of(tmp_path / "ladder", ladder)["rgb"] is fits[ALL]


def test_another_recipe_and_a_far_prediction_are_said(tmp_path: Path) -> None:
    ladder = written_ladder(tmp_path / "ladder", 3, 3)
    assert differences(ladder, load_config("mini", ["model.size=base"])) == []
    said = differences(ladder, load_config("mini", ["model.patch_size=4"]))
    assert said == ["model.patch_size is 8 in the ladder, and 4 here"]
    assert far_away(ladder, 1e7, 3e5) is None
    assert "100 times its parameters" in (far_away(ladder, 5.3e8, 32_000) or "")
    check_usable(ladder)
    with pytest.raises(InputError, match="no run that has ended"):
        check_usable(Ladder({}, ()))
