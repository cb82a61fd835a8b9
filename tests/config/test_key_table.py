"""The table of recipe keys: every key with its meaning, and current."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmae.config import key_table
from mmae.config.schema import resume_policy


@pytest.mark.parametrize("readme", key_table.ROOTS, ids=lambda path: path.parent.name)
def test_every_key_has_a_row_a_meaning_and_a_policy(readme: Path) -> None:
    root = key_table.ROOTS[readme]
    rows = key_table.key_table(root).splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    assert [row[0].strip("`") for row in cells] == list(resume_policy(root))
    assert all(len(row) == 4 and len(row[2]) > 10 for row in cells)


@pytest.mark.parametrize("readme", key_table.ROOTS, ids=lambda path: path.parent.name)
def test_the_readme_holds_the_current_table(readme: Path) -> None:
    text = readme.read_text(encoding="utf-8")
    assert key_table.with_table(text, key_table.ROOTS[readme]) == text, "run python -m mmae.config.key_table --write"


def test_a_text_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="marks"):
        key_table.with_table("no marks")
