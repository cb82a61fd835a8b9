"""The picture of a tile for people."""

from __future__ import annotations

import re
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from mmae.bench.step.step_batch import made_up_band_stats
from mmae.data.transforms.preprocess import Preprocess
from mmae.evaluate.pictures.picture_model import PictureModel
from mmae.evaluate.pictures.tile_figure import ModelRows, draw_tile, save_figure
from tests.support.tile_rows import CONFIG, case, made_up_rows


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def saved(figure: Figure, kind: str = "png") -> bytes:
    file = BytesIO()
    save_figure(figure, file, kind)
    return file.getvalue()


@pytest.mark.parametrize("models", [1, 2])
def test_every_text_is_at_least_11_pixels_high_and_nothing_leaves_the_page(models: int) -> None:
    figure = draw_tile("tile · place · date", [ModelRows("run, step 3", made_up_rows())] * models, "Sentinel-2 L2A")
    saved(figure)
    width, height = figure.get_size_inches() * figure.dpi
    for text in figure.axes[0].texts:
        assert float(text.get_fontsize()) * figure.dpi / 72 >= 11
        box = text.get_window_extent()
        assert box.x0 >= 0, text.get_text()
        assert box.x1 <= width, text.get_text()
        assert 0 <= box.y0 < box.y1 <= height, text.get_text()


def test_names_units_and_losses_are_in_words() -> None:
    rows = made_up_rows()
    said = "\n".join(texts(draw_tile("t", [ModelRows("run", rows)])))
    for words in ("elevation", "land cover (ESA", "reflectance", "no data", "what the model sees", "error"):
        assert words in said, words
    assert "100 m" in said  # 32 pixels are 320 m
    for row in rows:
        assert (f"loss {row.loss:.3g}" if row.loss is not None else "nothing scored") in said
    assert {name for name in ("VV", "VH", "HH") if f"asc {name}" in said} == {"VV", "VH", "HH"}


def test_the_legend_names_the_classes_that_occur_and_no_others() -> None:
    row = next(row for row in made_up_rows() if row.output == "semseg")
    two = replace(row, target=np.where(np.arange(8)[:, None] < 4, 0, 7) * np.ones((8, 8), np.int64),
                  predicted=np.full((8, 8), 2))  # fmt: skip
    said = texts(draw_tile("t", [ModelRows("run", [two])]))
    assert [each for each in said if re.match(r"\d+ [a-z]", each) and each[-1] != "m"] == [
        "1 tree cover", "3 grassland", "8 permanent water"
    ]  # fmt: skip


def test_several_models_share_input_and_target() -> None:
    rows = made_up_rows()
    alone = draw_tile("t", [ModelRows("one", rows)])
    both = draw_tile("t", [ModelRows("one", rows), ModelRows("two", rows)])
    assert {"one", "two"} <= set(texts(both))
    assert texts(both).count("target") == 1
    assert texts(both).count("prediction") == 2
    assert both.get_size_inches()[0] > alone.get_size_inches()[0]
    other = [replace(row, visible=None if row.visible is None else ~row.visible) for row in rows]
    assert texts(draw_tile("t", [ModelRows("one", rows), ModelRows("two", other)])).count("what the model sees") == 2


def test_each_of_several_models_has_its_own_losses_below_its_prediction() -> None:
    rows = [row for row in made_up_rows() if row.output in {"depth", "semseg"}]
    other = [replace(row, loss=7.25) for row in rows]
    figure = draw_tile("t", [ModelRows("one", rows), ModelRows("two", other)])
    places = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    ours = next(place for said, place in places.items() if said.startswith(f"loss {rows[0].loss:.3g}, off by"))
    theirs = next(place for said, place in places.items() if said.startswith("loss 7.25, off by"))
    assert (ours[0], theirs[0]) == (places["one"][0], places["two"][0])
    assert ours[1] == theirs[1]


def test_the_length_bar_is_that_of_the_tile_where_it_was_resized() -> None:
    rows = [row for row in made_up_rows() if row.output == "rgb"]
    said = texts(draw_tile("t", [ModelRows("run", rows, metres=20.0)]))
    assert "200 m" in said  # 32 pixels are 640 m
    config = replace(CONFIG, data=replace(CONFIG.data, crop="resize"))
    batch = case()[0]
    preprocess = Preprocess(config.data, config.model, made_up_band_stats(), torch.device("cpu"))
    side = batch.pixels["sentinel2"].shape[-1]
    model = PictureModel("run", 1, None, config, {}, 0)  # type: ignore[arg-type]
    assert model._metres(batch, preprocess) == 10 * side / 32
    assert replace(model, config=CONFIG)._metres(batch, preprocess) == 10


def test_a_model_without_an_output_says_so() -> None:
    rows = made_up_rows()
    said = texts(draw_tile("t", [ModelRows("one", rows), ModelRows("two", rows[:1])]))
    assert said.count("not an output\nof this model") == 3 * (len(rows) - 1)  # seen, predicted, error


@pytest.mark.parametrize(("kind", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_files_are_of_the_kind_asked_for_and_the_same_each_time(kind: str, begins: bytes) -> None:
    models = [ModelRows("run", made_up_rows()[:2])]
    first, again = (saved(draw_tile("a tile", models), kind) for _ in range(2))
    assert first.startswith(begins)
    assert first == again


def test_names_are_no_formulas_and_no_markup() -> None:
    name = "$\\frac{1}{0}$ <script>&"
    assert b"&lt;script&gt;&amp;" in saved(draw_tile(name, [ModelRows("run", made_up_rows()[:1])]), "svg")


def test_nothing_valid_and_nothing_scored_is_drawn_too() -> None:
    rows = [
        replace(row, valid=np.zeros_like(row.valid), scored=np.zeros_like(row.scored), loss=None)
        for row in made_up_rows()
    ]
    figure = draw_tile("t", [ModelRows("run", rows)])
    assert sum("nothing scored" in each for each in texts(figure)) == len(rows)
    assert texts(figure).count("error") == 1, "a scale of errors where there are none"
    with Image.open(BytesIO(saved(figure))) as picture:
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 2
