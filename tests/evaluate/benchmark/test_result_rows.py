"""The table of scores is whole at any time, and takes only its own rows back."""

from __future__ import annotations

import csv
import multiprocessing
from pathlib import Path

import pytest

from mmae.errors import InputError
from mmae.evaluate.benchmark.result_rows import COLUMNS, KEY, LEADERBOARD, open_rows

ROW = {**dict.fromkeys(KEY, "x"), "test metric": 0.123456789}


def test_the_first_columns_are_those_of_the_leaderboard(tmp_path: Path) -> None:
    with open_rows(tmp_path / "s.csv") as rows:
        rows.add(ROW)
    with (tmp_path / "s.csv").open() as file:
        header, row = csv.reader(file)
    assert tuple(header[:15]) == LEADERBOARD
    assert row[LEADERBOARD.index("test metric")] == "0.123457"


def test_a_row_is_found_by_its_key(tmp_path: Path) -> None:
    with open_rows(tmp_path / "s.csv") as rows:
        rows.add(ROW)
    with open_rows(tmp_path / "s.csv") as rows:
        assert rows.has(ROW)
        assert not rows.has({**ROW, "Seed": 1})
        rows.add({**ROW, "Seed": 1})
        rows.add({**ROW, "test metric": 1})
        assert [row["test metric"] for row in rows] == ["1", "0.123457"]


def test_line_breaks_in_names_do_not_end_a_row(tmp_path: Path) -> None:
    with open_rows(tmp_path / "s.csv") as rows:
        rows.add({**ROW, "backbone": 'a\nb,"c'})
    with open_rows(tmp_path / "s.csv") as rows:
        assert next(iter(rows))["backbone"] == 'a b,"c'
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "", "\0", ",".join(COLUMNS) + "\nx\n", '"', "\xff" * 9])
def test_files_of_others_are_not_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "s.csv"
    path.write_bytes(content.encode("latin1"))
    with pytest.raises(InputError, match="choose another name"), open_rows(path):
        pass
    assert path.read_bytes() == content.encode("latin1")


def _hold(path: Path, held: object, done: object) -> None:
    with open_rows(path):
        held.set()  # type: ignore[attr-defined]
        done.wait(60)  # type: ignore[attr-defined]


@pytest.mark.process
def test_two_processes_do_not_write_one_table(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "s.csv", held, done))
    other.start()
    try:
        assert held.wait(60)
        with pytest.raises(InputError, match="another process writes it"), open_rows(tmp_path / "s.csv"):
            pass
    finally:
        done.set()
        other.join()
