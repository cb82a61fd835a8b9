"""The table of recipe keys: every key with its meaning, and current."""

from __future__ import annotations

import pytest

from mmae.config import key_table
from mmae.config.schema import resume_policy


def test_every_key_has_a_row_a_meaning_and_a_policy() -> None:
    rows = key_table.key_table().splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    assert [row[0].strip("`") for row in cells] == list(resume_policy())
    assert all(len(row) == 4 and len(row[2]) > 10 for row in cells)


def test_the_readme_holds_the_current_table() -> None:
    text = key_table.README.read_text(encoding="utf-8")
    assert key_table.with_table(text) == text, "run python -m mmae.config.key_table --write"


def test_a_text_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="marks"):
        key_table.with_table("no marks")
