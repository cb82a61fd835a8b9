"""Exit statuses of ranks on this machine."""

from __future__ import annotations

import pytest

from mmae.launch.supervision.foreground import as_in_shell
from mmae.launch.supervision.launched_job import killed_rank


@pytest.mark.parametrize(("status", "expected"), [(0, 0), (4, 4), (137, 137), (247, 137), (241, 143)])
def test_a_rank_that_a_signal_killed_has_the_status_of_a_shell(status: int, expected: int) -> None:
    assert killed_rank(status) == expected


def test_a_process_that_a_signal_killed_has_the_status_of_a_shell() -> None:
    assert [as_in_shell(status) for status in (0, 3, -9)] == [0, 3, 137]
