from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mmae.errors import InputError
from mmae.terminal.table import WIDTH, Column, Table, check_json_path, report
from tests.support.full_disk import REASON, files_up_to

TABLE = Table(
    "a bench",
    (Column("way", "way"), Column("rate", "tiles/s", "{:.1f}"), Column("share", "of the limit", "{:.0%}")),
    [{"way": "ours", "rate": 12.345, "share": 0.7}, {"way": "the limit", "rate": 17, "share": None}, {"way": "none"}],
    ["a note"],
)


def test_prints_a_table_that_lines_up() -> None:
    assert TABLE.noting(["another"]).text().splitlines() == [
        "# a bench",
        "| way       | tiles/s | of the limit |",
        "| --------- | ------: | -----------: |",
        "| ours      |    12.3 |          70% |",
        "| the limit |    17.0 |            - |",
        "| none      |       - |            - |",
        "",
        "a note",
        "another",
    ]


def test_a_table_without_rows() -> None:
    assert Table("t", (Column("a", "heading"),), []).text().splitlines() == ["# t", "| heading |", "| ------- |"]


def test_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "table.json"
    report(TABLE, path, {"cpu": "x"})
    assert capsys.readouterr().out == TABLE.text() + "\n"
    assert json.loads(path.read_text()) == {
        "title": "a bench",
        "rows": [
            {"way": "ours", "rate": 12.345, "share": 0.7},
            {"way": "the limit", "rate": 17, "share": None},
            {"way": "none", "rate": None, "share": None},
        ],
        "notes": ["a note"],
        "cpu": "x",
    }


def test_no_file_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    check_json_path(None)
    report(TABLE, None, {})
    assert "ours" in capsys.readouterr().out


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "table.json"
    check_json_path(path)
    path.write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        check_json_path(path)
    with pytest.raises(InputError, match=r"table\.json: cannot be written"):
        report(TABLE, path, {})
    assert "ours" in capsys.readouterr().out, "what was measured is not lost"
    assert path.read_text() == "mine"
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="exists already"):
        check_json_path(link)


def test_a_file_without_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folder .*: make it first"):
        check_json_path(tmp_path / "absent" / "table.json")


def test_a_full_disk_leaves_nothing_and_the_table_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "table.json"
    with files_up_to(10), pytest.raises(InputError, match=rf"--json \S+table\.json: cannot be written \({REASON}\)"):
        report(TABLE, path, {})
    assert not list(tmp_path.iterdir())
    assert TABLE.title in capsys.readouterr().out


def test_a_place_that_cannot_be_written_to_is_refused_at_once() -> None:
    with pytest.raises(InputError, match=r"--json /proc/table\.json: cannot be written"):
        check_json_path(Path("/proc/table.json"))


def test_a_wide_table_is_printed_in_parts_that_say_what_each_row_is() -> None:
    columns = [Column("name", "name"), *(Column(f"c{number}", f"column {number}") for number in range(12))]
    rows = [{column.key: f"{name} {column.key}" for column in columns} for name in "ab"]
    lines = Table("wide", columns, rows, ["a note"], keys=1).text().splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert sum(line.startswith("| name ") for line in lines) == 2
    assert sum(line.startswith("| a name ") for line in lines) == 2
    assert [line.count("column") for line in lines if line.startswith("| name ")] == [8, 4]
    assert TABLE.text() == replace(TABLE, keys=len(TABLE.columns)).text()


def test_a_column_that_is_too_wide_stands_alone() -> None:
    rows = [{"a": "x", "b": "y" * 200, "c": "z"}]
    lines = Table("t", [Column("a", "a"), Column("b", "b"), Column("c", "c")], rows, keys=1).text().splitlines()
    assert [line.split("|")[1:-1] for line in lines if line.startswith("| a")] == [
        [" a ", f" b{' ' * 200}"],
        [" a ", " c "],
    ]


def test_long_text_is_broken_between_words() -> None:
    columns = [Column("host", "host"), Column("found", "found", wraps=True), Column("do", "what to do", wraps=True)]
    rows = [{"host": "node-1", "found": "no such folder " * 9, "do": "make it"}, {"host": "node-2", "found": "well"}]
    lines = Table("t", columns, rows, keys=3).text().splitlines()[1:]
    assert max(map(len, lines)) <= WIDTH
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    assert [row[0] for row in cells] == ["host", "------", "node-1", "", "node-2"]
    assert " ".join(row[1] for row in cells[2:4]) == ("no such folder " * 9).strip()
    assert [row[2] for row in cells[2:]] == ["make it", "", "-"]


def test_a_path_is_not_broken() -> None:
    path = "/" + "folder/" * 20
    lines = Table("t", [Column("a", "a"), Column("b", "b", wraps=True)], [{"a": "x", "b": f"at {path}"}]).text()
    assert path in lines


def test_a_narrow_column_leaves_its_width_to_the_others() -> None:
    columns = [Column(key, key, wraps=True) for key in "abc"]
    rows = [{"a": "word " * 16, "b": "ok", "c": ""}]
    assert len(Table("t", columns, rows, keys=3).text().splitlines()) == 4


def test_long_notes_are_broken_and_a_command_behind_an_empty_note_is_not() -> None:
    command = "run " + "--option=value " * 12
    text = Table("t", (Column("a", "a"),), [{"a": 1}], ["word " * 40, "", command]).text()
    *lines, last = text.splitlines()
    assert last == command
    assert max(map(len, lines)) <= 100
    assert text.split().count("word") == 40
    assert [line for line in lines if line.startswith("  word")]
