"""CSV files of labels: what is read, and what is refused with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmae.config.finetune_schema import TaskKind
from mmae.errors import InputError
from mmae.finetune.labelled.label_file import LabelFile, read_label_file
from tests.support.tiny_sets import ROWS, write_set


def read(folder: Path, text: str, kind: TaskKind = "classification") -> LabelFile:
    index = write_set(folder / "shards", {"train": ROWS})
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return read_label_file(folder / "labels.csv", kind, index)


def test_classes_are_named_in_the_order_of_numbers_and_letters(tmp_path: Path) -> None:
    found = read(tmp_path, "tile_id,label\ntile-5,10\ntile-3,9\ntile-9,water\ntile-20,\n")
    assert found.source.names == ("9", "10", "water")
    assert found.source.row_N.tolist() == [3, 5, 9, 20]
    assert found.source.label_N.tolist() == [0, 1, 2, -1]
    assert found.split_of == {}


def test_splits_of_the_file_are_positions_in_the_set(tmp_path: Path) -> None:
    found = read(tmp_path, "tile_id,label,split\ntile-9,a,val\ntile-5,b,train\ntile-3,a,train\n")
    assert {name: at.tolist() for name, at in found.split_of.items()} == {"val": [2], "train": [0, 1]}


def test_tiles_of_other_sets_are_left_out_and_counted(tmp_path: Path) -> None:
    found = read(tmp_path, "tile_id,label\ntile-5,a\ntile-3,b\nelsewhere,b\n")
    assert len(found.source.row_N) == 2
    assert "1 tile id not in" in found.notes[0]


def test_numbers_and_labels_have_a_column_each(tmp_path: Path) -> None:
    found = read(tmp_path, "tile_id,water,trees\ntile-5,1,0\ntile-3,,1\n", "multilabel")
    assert found.source.names == ("water", "trees")
    np.testing.assert_array_equal(found.source.label_N, np.array([[np.nan, 1], [1, 0]], np.float32))


def test_numbers_that_are_not_finite_are_labels_that_are_not_known(tmp_path: Path) -> None:
    found = read(tmp_path, "tile_id,biomass\ntile-5,1e3\ntile-3,nan\ntile-9,inf\n", "regression")
    np.testing.assert_array_equal(found.source.label_N, np.array([[np.nan], [1000], [np.nan]], np.float32))


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("id,label\ntile-5,a\n", "classification", "no column 'tile_id'"),
        ("tile_id\ntile-5\n", "classification", "no column holds labels"),
        ("tile_id,class\ntile-5,a\n", "classification", "name it 'label'"),
        ("tile_id,label\ntile-5,a\ntile-5,b\n", "classification", "labels.csv:3: tile 'tile-5' stands in line 2 too"),
        ("tile_id,label\ntile-5,a\ntile-3\n", "classification", "labels.csv:3: this line has not the 2 columns"),
        ("tile_id,label\nfar,a\n", "classification", "none of its 1 tile id is in"),
        ("tile_id,label\ntile-5,a\n", "classification", "1 class among its labels"),
        ("tile_id,x,x\ntile-5,1,1\n", "multilabel", "two columns have the same name"),
        ("tile_id,water\ntile-5,2\n", "multilabel", "labels.csv:2: water=2 must be 0 or 1"),
        ("tile_id,biomass\ntile-5,many\n", "regression", "labels.csv:2: biomass='many' is not a number"),
        ("tile_id,biomass\ntile-5,1e39\n", "regression", "labels.csv:2: biomass=1e39 is too large"),
        ('tile_id,label\n"tile-5,a\n', "classification", "not a CSV file"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(text: str, kind: TaskKind, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        read(tmp_path, text, kind)
    assert said in str(refused.value)


def test_a_file_that_is_missing_or_not_text_is_refused(tmp_path: Path) -> None:
    index = write_set(tmp_path / "shards", {"train": ROWS})
    with pytest.raises(InputError, match="cannot be read"):
        read_label_file(tmp_path / "absent.csv", "classification", index)
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        read_label_file(tmp_path / "bytes.csv", "classification", index)
