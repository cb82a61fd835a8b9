"""A round through the store: every rank reports, rank 0 judges all reports, and every rank hears the verdict."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

from torch._C._distributed_c10d import PrefixStore, Store

from mmae.distributed.preflight_rules import End, Entry

Judge = Callable[[Sequence[Entry], float], End | None]
"""Judges the reports so far, in the order of the ranks, and the seconds waited for them."""

_MORE_S: Final = 3.0
"""Seconds to wait after a rank has failed: others may be about to report the same."""
_HEARD_S: Final = 20.0
"""Seconds in which living ranks read the verdict: busy hosts are slow."""
_POLL_S: Final = 0.05
_RANKS_A_POLL: Final = 64
"""With more ranks they ask more rarely, because one store answers all of them."""
_SAID, _FAILED, _HEARD, _VERDICT = "said", "failed", "heard", "verdict"


class StoreRound:
    """One round.

    Args:
        store: rank 0 keeps it, or torchrun's agent does.
        name: of the round, another one for each round through a store.
        patience: seconds between the first report and the last.
        all_listen: whether ranks listen before they report.
    """

    def __init__(
        self, store: Store, name: str, rank: int, world: int, patience: float, *, all_listen: bool = False
    ) -> None:
        self._store = PrefixStore(name, store)
        self._rank, self._world, self._patience, self._all_listen = rank, world, patience, all_listen
        self._poll_s = _POLL_S * max(1.0, world / _RANKS_A_POLL)

    def say(self, entry: Entry) -> None:
        """Report as this rank."""
        self._store.set(f"rank/{self._rank}", json.dumps(asdict(entry)))
        if entry.failed is not None:
            self._store.add(_FAILED, 1)
        self._store.add(_SAID, 1)

    def verdict(self, judge: Judge, say: Callable[[End], None]) -> End | None:
        """Wait for the verdict; rank 0 waits for all reports, or for one that failed, and judges.

        Args:
            say: prints the end, on rank 0.

        Returns:
            None where all ranks go on.

        Raises:
            RuntimeError, OSError: the store does not answer, or rank 0 gave no verdict in time.
        """
        return self._decide(judge, say) if self._rank == 0 else self._hear()

    def _decide(self, judge: Judge, say: Callable[[End], None]) -> End | None:
        began = time.monotonic()
        until = began + self._patience
        while self._store.add(_SAID, 0) < self._world and time.monotonic() < until:
            if self._store.add(_FAILED, 0):
                until = min(until, time.monotonic() + _MORE_S)
            time.sleep(_POLL_S)
        keys = [f"rank/{rank}" for rank in range(self._world)]
        there = keys if self._store.check(keys) else [key for key in keys if self._store.check([key])]
        entries = [Entry(**json.loads(text)) for text in self._store.multi_get(there)] if there else []
        end = judge(entries, time.monotonic() - began)
        if end is not None:
            say(end)
        self._store.set(_VERDICT, json.dumps(asdict(end) if end else None))
        if end is not None:
            self._wait_until_heard((self._world if self._all_listen else len(entries)) - 1)
        return end

    def _hear(self) -> End | None:
        until = time.monotonic() + self._patience + 2 * _MORE_S
        # Not by a wait of the store, which would keep this rank's other thread from reporting meanwhile.
        while not self._store.check([_VERDICT]):
            if time.monotonic() > until:
                raise TimeoutError(f"no verdict within {self._patience:.0f} s")
            time.sleep(self._poll_s)
        content: dict[str, Any] | None = json.loads(self._store.get(_VERDICT))
        self._store.add(_HEARD, 1)
        return End(**content) if content else None

    def _wait_until_heard(self, others: int) -> None:
        """The store ends with rank 0, so rank 0 waits for the others."""
        until = time.monotonic() + _HEARD_S
        with suppress(RuntimeError):
            while self._store.add(_HEARD, 0) < others and time.monotonic() < until:
                time.sleep(_POLL_S)
