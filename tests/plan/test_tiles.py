from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmae.config.schema import DataConfig
from mmae.data.shards.index_json import ArraysInfo, DatasetInfo, Head, ShardInfo, SourceInfo
from mmae.errors import InputError
from mmae.plan.tiles import MMEARTH, tiles_of


def shards(folder: Path, train: int, codec: str = "fast") -> str:
    """A folder with the index of two training shards and one of validation, a thousand bytes a tile."""
    infos = [ShardInfo(f"{split}-00000{number}.tar", split, tiles, 1000 * tiles, "0")
             for number, (split, tiles) in enumerate((("train", train - 1), ("train", 1), ("val", 5)))]  # fmt: skip
    head = Head(
        arrays=ArraysInfo(1, "0"),
        datasets={"aster": DatasetInfo(np.dtype("<i2"), (2, 64, 64))},
        shards=tuple(infos),
        splits=("train", "val"),
        options={"codec": codec},
        source=SourceInfo("x.h5", 1, train + 5, "0"),
        band_stats={},
        losses=(),
    )
    folder.mkdir()
    (folder / "index.json").write_bytes(head.dump())
    return str(folder)


@pytest.mark.parametrize("place", ["", "https://somewhere/shards", "pipe:cat {}"])
def test_what_is_not_here_is_taken_as_measured(place: str) -> None:
    tiles = tiles_of(DataConfig(shards=place), None)
    assert tiles.count == MMEARTH
    assert tiles.bytes == pytest.approx(MMEARTH * 20.4e6 / 360)
    assert "measured" in tiles.source
    assert tiles_of(DataConfig(shards=place), 100).count == 100


def test_an_index_says(tmp_path: Path) -> None:
    place = shards(tmp_path / "a", 200)
    tiles = tiles_of(DataConfig(shards=place), None)
    assert (tiles.count, tiles.bytes, tiles.codec) == (200, 205_000, "fast")
    assert place in tiles.source
    assert tiles_of(DataConfig(shards=place, fraction=0.1), None).count == 20
    assert tiles_of(DataConfig(shards=place, max_tiles=7), None).count == 7
    # Said on the command line, only the number of tiles changes.
    assert tiles_of(DataConfig(shards=place), 3).bytes == 205_000


def test_sets_are_mixed_by_weight(tmp_path: Path) -> None:
    places = (shards(tmp_path / "a", 200), shards(tmp_path / "b", 100))
    tiles = tiles_of(DataConfig(shards=places, weights=(1.0, 2.5)), None)
    assert (tiles.count, tiles.bytes) == (450, 310_000)


def test_a_damaged_index(tmp_path: Path) -> None:
    place = Path(shards(tmp_path / "a", 200))
    (place / "index.json").write_text("{}")
    with pytest.raises(InputError, match="not an index of mmae shards"):
        tiles_of(DataConfig(shards=str(place)), None)
    with pytest.raises(InputError, match="cannot be read"):
        tiles_of(DataConfig(shards=str(tmp_path / "nowhere")), None)
