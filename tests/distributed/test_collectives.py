"""Work on every rank: what one rank cannot do, no rank waits for."""

from __future__ import annotations

from typing import Any

import pytest

from mmae.distributed import collectives
from mmae.distributed.collectives import RankFailedError, on_every_rank


def fails() -> int:
    raise MemoryError("no memory\nfor it")


def test_each_rank_gets_its_own_result() -> None:
    assert on_every_rank(lambda: 3) == 3


def test_an_error_names_its_rank() -> None:
    with pytest.raises(RankFailedError, match=r"^rank 0: no memory$") as caught:
        on_every_rank(fails)
    assert isinstance(caught.value.__cause__, MemoryError)


def test_a_rank_that_succeeded_fails_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def gathered(value: Any) -> list[Any]:
        assert value is None
        return [value, "rank 1: no memory", "rank 2: too late"]

    monkeypatch.setattr(collectives, "gather", gathered)
    with pytest.raises(RankFailedError, match=r"^rank 1: no memory$"):
        on_every_rank(lambda: 3)


def test_an_interrupt_is_no_failure_of_the_work() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        on_every_rank(interrupted)
