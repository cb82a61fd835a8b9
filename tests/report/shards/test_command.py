"""`mmae data-report`: what a page says about shards."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from mmae.cli import main
from mmae.data.shards.index_json import DatasetInfo
from mmae.report.shards.data_figures import BIOMES
from tests.support.tiny_sets import DATASETS, STATS, damage, sign, write_set

PLACES = {1: (46.8, 9.8), 2: (46.8, 9.9), 3: (-2.4, 34.9), 4: (46.8, 9.8)}
WITH_CLASSES = {**DATASETS, "esa_worldcover": DatasetInfo(np.dtype("|u1"), (1, 8, 8))}


def page(tmp_path: Path, *words: str) -> str:
    out = tmp_path / "page.html"
    assert main(["data-report", str(tmp_path / "shards"), "--out", str(out), *words]) == 0
    text = out.read_text()
    assert len(text) < 1_000_000
    assert not re.search(r"https?:|(?:src|href)=.//|@import|url\(", text)
    svgs = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert all("<title>" in each or 'aria-hidden="true"' in each for each in svgs)
    return text


def test_a_set_is_told_in_figures_and_tables(tmp_path: Path) -> None:
    write_set(tmp_path / "shards", {"train": [1, 2], "val": [3]}, datasets=WITH_CLASSES, places=PLACES)
    text = page(tmp_path)
    for words in (
        "train 2, val 1",
        "13 x 8 x 8",
        "Where the tiles lie",
        "Sentinel-2 levels",
        "land cover (ESA WorldCover)",
        "tree cover",
        "elevation",
        "mean used",
        "tile-3",
        "From a tile of val to the nearest one of train",
    ):
        assert words in text, words
    assert text.count("<img") == 3 * 3


def test_biomes_have_the_names_of_their_numbers_in_mmearth(tmp_path: Path) -> None:
    # Five real MMEarth-numbered places: Denmark and southern Chile 7, the coast of Brazil 1, Tanzania 11, Ontario 5.
    biomes = {1: 7, 2: 1, 3: 11, 4: 5}
    write_set(tmp_path / "shards", {"train": [1, 2, 3, 4]}, biomes=biomes, dates={1: 20200408})
    text = page(tmp_path)
    for name in ("temperate broadleaf", "tropical moist forest", "tropical grassland", "boreal forest"):
        assert f">{name}<" in text, name
    assert len(BIOMES) == len(set(BIOMES)) == 14
    assert "place unknown, 2020-04-08, L1C" in text or "place unknown, 2020-04-08, L2A" in text
    assert "elevation" in text


def test_bands_that_do_not_fit_their_statistics_are_pointed_out(tmp_path: Path) -> None:
    index = write_set(tmp_path / "shards", {"train": [1, 2, 3, 4], "val": [5]}, places=None)
    head = json.loads((index.folder / "index.json").read_text())
    head["band_stats"]["aster"] = {"mean": [9000.0, 1.0], "std": [50.0, 1.0]}
    sign(index.folder / "index.json", head)
    text = page(tmp_path)
    assert re.search(r"elevation \(aster\) has mean \d+(\.\d+)?, and 9000 is used: 1\d\d\.\d deviations away", text)
    assert dict(STATS)["aster"]["mean"] == [100.0, 1.0]


def test_ground_that_splits_share_is_a_warning(tmp_path: Path) -> None:
    write_set(tmp_path / "shards", {"train": [1, 2], "val": [4]}, places=PLACES)
    assert "show ground that train shows too" in page(tmp_path)


def test_a_damaged_tile_is_named_and_the_page_is_made(tmp_path: Path) -> None:
    index = write_set(tmp_path / "shards", {"train": [1, 2], "val": [3]}, places=PLACES)
    damage(index, 2)
    text = page(tmp_path)
    assert "aster of row 2" in text
    assert "2 tiles at random" in text


def test_a_smaller_sample_reads_tiles_of_every_split(tmp_path: Path) -> None:
    write_set(tmp_path / "shards", {"train": list(range(10, 60)), "val": [3], "test": []})
    text = page(tmp_path, "--tiles", "10")
    assert "11 tiles at random" in text
    assert "tile-3" in text


def test_bad_words_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_set(tmp_path / "shards", {"train": [1], "val": [3]})
    out = str(tmp_path / "p.html")
    assert main(["data-report", str(tmp_path / "none"), "--out", out]) == 2
    assert main(["data-report", str(tmp_path / "shards"), "--out", out, "--tiles", "0"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert not (tmp_path / "p.html").exists()
