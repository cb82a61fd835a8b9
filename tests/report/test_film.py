"""Pictures of validations in a page."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from mmae.report.film import film
from tests.support.reported_run import write_picture


def frames(folder: Path, budget: int = 1_000_000) -> list[Image.Image]:
    sources = [each.get("src", "") for part in film(folder, budget) for each in part.iter("img")]
    return [Image.open(BytesIO(base64.b64decode(source.partition(",")[2]))) for source in sources]


def test_the_first_tile_of_each_picture_is_shown_in_order_of_steps(tmp_path: Path) -> None:
    for step in (5, 10, 100):
        write_picture(tmp_path / f"step_{step}.png")
    assert [each.size for each in frames(tmp_path)] == [(936, 1208)] * 3
    (line,) = film(tmp_path, 1_000_000)
    assert [each.text for each in line.iter("figcaption")] == ["Step 5", "Step 10", "Step 100"]


def test_few_of_many_are_shown_with_the_first_and_the_last(tmp_path: Path) -> None:
    for step in range(1, 21):
        Image.new("RGB", (8, 8)).save(tmp_path / f"step_{step}.png")
    captions = [each.text for part in film(tmp_path, 1_000_000) for each in part.iter("figcaption")]
    assert (len(captions), captions[0], captions[-1]) == (8, "Step 1", "Step 20")


def test_less_place_makes_frames_smaller_and_then_fewer(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 26, 3), np.uint8)
    for step in range(1, 7):
        Image.fromarray(pixels).resize((936, 1152), Image.Resampling.NEAREST).save(tmp_path / f"step_{step}.png")
    wide, small, few = (frames(tmp_path, budget) for budget in (2_000_000, 152_000, 90_000))
    assert (len(wide), len(small), len(few)) == (6, 6, 4)
    assert {each.width for each in wide} == {936}
    assert {each.width for each in small} == {468}
    assert sum(len(str(part.get("src"))) for each in film(tmp_path, 152_000) for part in each.iter("img")) < 152_000


def test_the_budget_holds_and_what_does_not_fit_is_said(tmp_path: Path) -> None:
    write_picture(tmp_path / "step_1.png")
    write_picture(tmp_path / "step_2.png")
    parts = film(tmp_path, 10_000)
    assert not any(list(part.iter("img")) for part in parts)
    assert "2 pictures cannot be read" in "".join(parts[0].itertext())


def test_damaged_files_and_folders_without_pictures_are_no_error(tmp_path: Path) -> None:
    (tmp_path / "step_1.png").write_bytes(b"\x89PNG nothing")
    (tmp_path / "step_2.png").mkdir()
    assert frames(tmp_path) == []
    assert "no picture" in "".join(film(tmp_path / "none", 1000)[0].itertext())
