"""Pictures of validations in a page."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path

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
