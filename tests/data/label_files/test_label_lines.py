"""Files of labels: the same lines from CSV and Parquet, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from mmae.data.label_files.label_lines import class_names, number_of, read_label_lines
from mmae.errors import InputError


def parquet(path: Path, **columns: object) -> Path:
    pyarrow.parquet.write_table(pa.table(columns), path)
    return path


def test_parquet_has_the_lines_of_csv(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("tile_id, kind ,height,wet\n7,forest ,1.5,1\n8,,,0\n")
    kinds = pa.array(["forest", None]).dictionary_encode()
    path = parquet(tmp_path / "a.parquet", tile_id=[7, 8], kind=kinds, height=[1.5, math.nan], wet=[True, False])
    first, second = read_label_lines(tmp_path / "a.csv", "--labels"), read_label_lines(path, "--labels")
    assert (first.own, first.columns) == (second.own, second.columns) == ("tile_id", ("kind", "height", "wet"))
    assert [cells for _, cells in first.lines] == [cells for _, cells in second.lines]
    assert [number for number, _ in first.lines] == [2, 3]


def test_whole_numbers_of_floating_point_columns_are_written_as_such(tmp_path: Path) -> None:
    # A column of integers with gaps comes from pandas as floating point.
    path = parquet(tmp_path / "a.parquet", tile_id=["a", "b"], code=[3.0, None])
    assert [cells["code"] for _, cells in read_label_lines(path, "--labels").lines] == ["3", ""]


def test_a_column_of_lists_is_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", tile_id=["a"], kinds=[["x", "y"]])
    with pytest.raises(InputError, match=r"'kinds' holds values of type list.* with 0 or 1"):
        read_label_lines(path, "--labels")


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_label_lines(tmp_path / "a.parquet", "--labels")


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e3", 1000.0), (" 7", None), ("1_000", None), ("٣", None), ("3,5", None), ("-.5", -0.5), ("-inf", math.inf)],
)
def test_numbers_are_those_of_other_programs_and_not_python_s(text: str, number: float | None) -> None:
    assert number_of(text) == number


def test_nan_is_no_class() -> None:
    assert class_names(["b", "", "10", "9", "NaN", "b"]) == ("9", "10", "b")
