"""The command that a plan ends with, where it was told secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmae.cli import main


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("pipe:curl -H X:t0ken https://host/{}", "'data.shards=pipe:curl ***'"),
        ("https://me:t0ken@host/set?t0ken", "'data.shards=https://***@host/set?***'"),
    ],
)
def test_neither_the_table_nor_its_json_holds_a_secret(
    said: str, shown: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "plan.json"
    words = ["plan", "debug", "--gpus", "1", "--gpu-memory", "80GB", "--json", str(table), f"data.shards={said}"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert shown in out
    assert "t0ken" not in out + table.read_text()
