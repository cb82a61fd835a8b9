"""Vectors of shard sets through the real command, beside the encoder's own answer for each tile."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mmae
from mmae.cli import main
from mmae.data.shards.index_json import DatasetInfo
from mmae.model.saved.saved_config import read_model_config
from mmae.raw_tiles import raw_inputs
from mmae.scenes import tile_vectors
from mmae.scenes.files.partial_output import PartialOutput
from tests.support.scenes import save_scene_model
from tests.support.tiny_sets import DATASETS, damage, pixels, write_set

parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is missing: pip install 'mmae[geo]'")

ROWS = {"train": [5, 3, 9, 11, 2], "val": [7, 4]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_scene_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    places = {row: (float(row), float(-row)) for rows in ROWS.values() for row in rows}
    write_set(tmp_path / "shards", ROWS, places=places)
    return tmp_path / "shards"


def embed(model: Path, shards: Path, out: Path, *words: str) -> int:
    return main(["embed", str(model), str(shards), str(out), "--no-unit-check", *words])


def expected(model: Path, row: int, pooling: str = "mean") -> np.ndarray[Any, np.dtype[np.float32]]:
    """The vector of a tile, through the library's functions for tensors."""
    arrays = {name: pixels(row, name, info)[None] for name, info in DATASETS.items()}
    inputs = raw_inputs(read_model_config(model), arrays, ["l2a" if row % 2 else "l1c"], check_units=False)
    with torch.no_grad():
        maps, tokens = mmae.features(mmae.load_model(model), inputs.values, inputs.token_valid)
    if pooling == "global":
        return tokens[0].mean(0).numpy()
    return torch.cat([tokens.flatten(1, 2) for tokens in maps.values()], 1)[0].mean(0).numpy()


@pytest.mark.parametrize("pooling", ["mean", "global"])
def test_a_row_a_tile(pooling: str, model: Path, shards: Path, tmp_path: Path) -> None:
    assert embed(model, shards, tmp_path / "out.parquet", "--pooling", pooling) == 0
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.column_names == ["key", "split", "latitude", "longitude", "date", "vector"]
    rows = [row for rows in ROWS.values() for row in rows]
    assert table["key"].to_pylist() == [f"tile-{row}" for row in rows]
    assert table["split"].to_pylist() == ["train"] * 5 + ["val"] * 2
    assert table["latitude"].to_pylist() == rows
    assert table["longitude"].to_pylist() == [-row for row in rows]
    assert table["date"].to_pylist() == [None] * 7
    for row, vector in zip(rows, table["vector"].to_pylist(), strict=True):
        np.testing.assert_allclose(vector, expected(model, row, pooling), atol=1e-5)
    facts = json.loads(table.schema.metadata[b"mmae"])
    assert facts == {"model": "model", "modalities": ["rgb", "depth", "sired"], "pooling": pooling, "dtype": "float32"}


def test_one_split_in_eight_bits(model: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert embed(model, shards, tmp_path / "out.parquet", "--split", "val", "--dtype", "int8") == 0
    assert "int8: relative error" in capsys.readouterr().out
    table = parquet.read_table(tmp_path / "out.parquet")
    scale = np.array(json.loads(table.schema.metadata[b"mmae"])["scale"])
    stored = np.array(table["vector"].to_pylist())
    assert np.abs(stored).max(0).tolist() == [127] * 64
    for row, vector in zip(ROWS["val"], stored * scale, strict=True):
        assert (np.abs(vector - expected(model, row)) <= scale * 0.501 + 1e-5).all()


def test_a_tile_without_data_has_no_vector(model: Path, tmp_path: Path) -> None:
    only = {"sentinel2": DatasetInfo(np.dtype("<u2"), (13, 8, 8))}
    shards = tmp_path / "shards"
    write_set(shards, {"train": [5, 3]}, datasets=only, pixels_of=lambda *of: pixels(*of) * (of[0] != 3))
    assert embed(model, tmp_path / "shards", tmp_path / "out.parquet", "--dtype", "float16") == 0
    vectors = parquet.read_table(tmp_path / "out.parquet")["vector"].to_pylist()
    assert vectors[1] is None
    assert len(vectors[0]) == 64


def test_an_interrupted_start_goes_on(
    model: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tile_vectors, "_CHUNK", 2)
    save, names = PartialOutput.save, list[str]()

    def noted(self: PartialOutput, name: str, arrays: Any) -> None:
        if len(names) == 2:
            names.append("interrupted")
            raise KeyboardInterrupt
        save(self, name, arrays)
        names.append(name)

    monkeypatch.setattr(PartialOutput, "save", noted)
    assert embed(model, shards, tmp_path / "out.parquet") == 130
    assert not (tmp_path / "out.parquet").exists()
    assert embed(model, shards, tmp_path / "out.parquet") == 0
    assert names == ["tiles-000000000", "tiles-000000002", "interrupted", "tiles-000000004", "tiles-000000006"]
    vectors = parquet.read_table(tmp_path / "out.parquet")["vector"].to_pylist()
    rows = [row for rows in ROWS.values() for row in rows]
    for row, vector in zip(rows, vectors, strict=True):
        np.testing.assert_allclose(vector, expected(model, row), atol=1e-5)


def test_dates_are_days(tmp_path: Path) -> None:
    from mmae.scenes.files.parquet_output import _dates

    found = _dates(np.array([20190704, 0, 20191399, 20200229], np.int32)).to_pylist()
    assert found == [datetime.date(2019, 7, 4), None, None, datetime.date(2020, 2, 29)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--level", "l2a"], "--level is for GeoTIFFs"),
        (["--bands", "B2"], "--bands is for GeoTIFFs"),
        (["--offset", "-1000"], "--offset is for GeoTIFFs"),
        (["--split", "test"], "no split 'test'"),
    ],
)
def test_what_shards_do_not_take(
    words: list[str], message: str, model: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert embed(model, shards, tmp_path / "out.parquet", *words) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [shards]


def test_sources_and_formats_that_do_not_belong_together(
    model: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert embed(model, shards, tmp_path / "out.tif") == 2
    assert "a Parquet file: give OUT a name that ends with .parquet" in capsys.readouterr().err
    assert main(["embed", str(model), str(shards), "a.tif", str(tmp_path / "out.parquet")]) == 2
    assert "name one set, or only files" in capsys.readouterr().err
    predict = ["predict", str(model), str(shards), str(tmp_path / "out"), "--outputs", "semseg"]
    assert main(predict) == 2
    assert "predictions are made of GeoTIFFs" in capsys.readouterr().err


def test_a_damaged_tile(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = write_set(tmp_path / "shards", ROWS)
    damage(index, 9)
    assert embed(model, tmp_path / "shards", tmp_path / "out.parquet") == 2
    assert "row 9" in capsys.readouterr().err
    assert not (tmp_path / "out.parquet").exists()
