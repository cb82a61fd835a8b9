from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmae.cli import main
from tests.support.scenes import needs_rasterio

needs_rasterio()


@pytest.mark.long
def test_prints_and_writes_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "table.json"
    options = ["--size", "nano", "--pixels", "112", "--repeats", "1", "--batch", "2", "--json", str(path)]
    assert main(["bench", "embed", *options]) == 0
    printed, written = capsys.readouterr().out, json.loads(path.read_text())
    rows = {row["way"]: row for row in written["rows"]}
    assert list(rows) == ["forward alone", "embed, without the file", "embed"]
    bare = rows["forward alone"]
    assert bare["of_bare"] is None
    for name in list(rows)[1:]:
        assert rows[name]["of_bare"] == pytest.approx(rows[name]["windows_per_s"] / bare["windows_per_s"])
        assert rows[name]["cpu_of_bare"] == pytest.approx(rows[name]["windows_per_cpu_s"] / bare["windows_per_cpu_s"])
        # 14 patches make 3 windows of 7 that share one; 1373 patches make 229.
        assert rows[name]["scene_hours"] == pytest.approx(229**2 / rows[name]["windows_per_s"] / 3600)
    assert "9 windows of 56 pixels that share 8, 2 at once; a product of 10980x10980 pixels has 52,441" in printed
    assert "extrapolated from 112x112 pixels by the number of windows, not measured" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pixels", "40"], "--pixels 40: give 56"),
        (["--pixels", "20000"], "--pixels 20000: give 56"),
        (["--batch", "0"], "--batch 0: must be at least 1"),
        (["--repeats", "0"], "--repeats 0: must be at least 1"),
    ],
)
def test_what_cannot_be_measured(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "embed", *words]) == 2
    assert message in capsys.readouterr().err
