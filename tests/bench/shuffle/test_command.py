"""`mmae bench shuffle`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mmae.cli import main
from tests.support.tiny_sets import write_set


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Shards that are runs of source rows: the worst case for windows."""
    write_set(tmp_path / "shards", {"train": list(range(120)), "val": [200]}, shard_tiles=6)
    return tmp_path / "shards"


def rows(path: Path) -> dict[str, dict[str, float]]:
    return {row["order"]: row for row in json.loads(path.read_text())["rows"]}


def test_windows_lie_between_the_stored_order_and_a_perfect_shuffle(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "shuffle", str(shards), "--batch", "12", "--json", str(tmp_path / "out.json")]) == 0
    table = rows(tmp_path / "out.json")
    names = ["as stored, not shuffled", "data.window=1", "data.window=4", "data.window=16", "full shuffle"]
    assert list(table) == [*names, "perfect shuffle, expected"]
    adjacent = [table[name]["adjacent_ratio"] for name in names]
    assert adjacent == sorted(adjacent, reverse=True)
    assert np.isclose(table["full shuffle"]["within_10_ratio"], 1, atol=0.15)
    assert table["as stored, not shuffled"]["moved"] == 0
    assert abs(table["full shuffle"]["moved"] - 1 / 3) < 0.05
    assert table["data.window=1"]["window_mb"] * 20 == pytest.approx(table["full shuffle"]["window_mb"])
    assert "120 train tiles in 20 shards" in " ".join(capsys.readouterr().out.split())


def test_windows_are_those_asked_for(shards: Path, tmp_path: Path) -> None:
    words = ["--batch", "2", "--window", "3", "--window", "99", "--epochs", "2", "--json", str(tmp_path / "out.json")]
    assert main(["bench", "shuffle", str(shards), *words]) == 0
    table = rows(tmp_path / "out.json")
    assert {"data.window=3", "data.window=99"} < table.keys()
    assert "data.window=1" not in table
    # As many shards as there are, or more, are all of them.
    for key in ("moved", "adjacent", "within_10", "window_mb"):
        assert table["data.window=99"][key] == table["full shuffle"][key]


def test_by_default_a_small_set_is_one_batch(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "shuffle", str(shards), "--window", "1", "--epochs", "2"]) == 0
    assert "global batches of 120" in capsys.readouterr().out


def test_pairs_need_two_tiles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_set(tmp_path / "one", {"train": [3]}, shard_tiles=6)
    assert main(["bench", "shuffle", str(tmp_path / "one")]) == 2
    assert "the train split has 1 tile, and pairs are compared" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--batch", "1"], ["--batch", "121"], ["--epochs", "1"], ["--window", "0"]])
def test_bad_numbers_are_named(shards: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "shuffle", str(shards), "--batch", "8", *words]) == 2
    assert f"{words[0]} {words[1]}: " in capsys.readouterr().err
