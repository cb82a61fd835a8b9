"""A short soak; `python -m tests.soak --kills 30` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak import soak


@pytest.mark.slow
def test_five_kills_lose_nothing(tmp_path: Path) -> None:
    tally = soak(tmp_path, kills=5, ranks=2, stage=1, size="nano", seed=3)
    assert sum(tally.during.values()) == 5, tally.report()
