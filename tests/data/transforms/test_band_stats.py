"""Band statistics from a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmae.data.transforms.band_stats import read_band_stats
from mmae.errors import InputError


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    path = tmp_path / "stats.json"
    path.write_text('{"era5": {"mean": [NaN, 1], "std": [null, Infinity], "max": [2.5], "count": {"of": [NaN]}}}')
    stats = read_band_stats(path)
    assert stats == {"era5": {"mean": [None, 1], "std": [None, None], "max": [2.5], "count": {"of": [None]}}}
    # What a run keeps of it reads back the same.
    assert json.loads(json.dumps(stats, allow_nan=False)) == stats


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not an object"),
        ("{}", "not an object"),
        ('{"aster": []}', r"aster\.mean is not a list"),
        ('{"aster": {"mean": [1]}}', r"aster\.std is not a list"),
        ('{"aster": {"mean": [1], "std": 1}}', r"aster\.std is not a list"),
        ('{"aster": {"mean": ["1"], "std": [1]}}', r"aster\.mean is not a list"),
        ('{"aster": {"mean": [true], "std": [1]}}', r"aster\.mean is not a list"),
        ('{"aster": {"mean": [1], "std": [-1]}}', "negative"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "stats.json"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"stats\.json: .*{says}") as caught:
        read_band_stats(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_band_stats(tmp_path / "none.json")
