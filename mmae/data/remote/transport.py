"""Files at an address: what every way of fetching them shares, and the patience that goes into it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from mmae.errors import InputError
from mmae.terminal.plurals import counted

_LOG: Final = logging.getLogger(__name__)
_WORTH_TELLING_S: Final = 4.0
_JITTER: Final = random.SystemRandom()  # the seeded one is a run's, and the same in all workers


class Refused(Exception):  # noqa: N818
    """The file will not come, however often one asks: the message says why, without secrets."""


class Interrupted(Exception):  # noqa: N818
    """The file did not come this time.

    Attributes:
        after_s: seconds after which the other side wants to be asked again, if it said so.
    """

    def __init__(self, why: str, after_s: float | None = None) -> None:
        super().__init__(why)
        self.after_s = after_s


class Wrong(Interrupted):
    """What came is not what was asked for. Asking again may help, but not many times."""


@dataclass(frozen=True)
class Patience:
    """How long to put up with a network.

    Attributes:
        connect_s: until a connection stands.
        stall_s: without a byte, or at fewer than `slowest` bytes a second: the connection is given up for another.
        give_up_s: without getting further by `slowest` bytes a second, over all attempts.
        first_delay_s, longest_delay_s: between attempts; doubled each time, and drawn from the upper half.
        tries: of content that is wrong, or a command that fails.
    """

    connect_s: float = 10.0
    stall_s: float = 30.0
    slowest: int = 1 << 14
    give_up_s: float = 600.0
    first_delay_s: float = 0.5
    longest_delay_s: float = 30.0
    tries: int = 3


class Remote(Protocol):
    """A folder elsewhere. It may be pickled and used after a fork, by several threads: connections are not kept."""

    def open(self, name: str, offset: int) -> AbstractContextManager[Body]:
        """A file's bytes from `offset` on, or from its start where that cannot be had.

        Raises:
            Refused, Interrupted: also while the body is read.
        """

    def shown(self, name: str) -> str:
        """The file's address for messages: without passwords and tokens."""


@dataclass(frozen=True)
class Body:
    """Bytes of a file as they come, from `offset` on to its end."""

    offset: int
    chunks: Iterator[bytes]


class Attempts:
    """The attempts at one file: waits between them, and says when to stop.

    Args:
        what: names the file in messages.
    """

    def __init__(self, what: str, patience: Patience) -> None:
        self._what = what
        self._patience = patience
        self._furthest = 0
        self._since = time.monotonic()
        self._failed = 0
        self._wrong = 0

    def again(self, error: Interrupted, reached: int) -> None:
        """Wait before the next attempt.

        Args:
            error: how the last one ended.
            reached: bytes of the file that are there now. To get further, and not too slowly, earns new patience.

        Raises:
            InputError: there is to be no other attempt.
        """
        now, patience = time.monotonic(), self._patience
        if isinstance(error, Wrong):
            self._wrong += 1
            if self._wrong >= patience.tries:
                raise refused(self._what, f"{error}, {counted(self._wrong, 'time')}")
            self._furthest, self._since = 0, now
        elif reached > self._furthest + patience.slowest * (now - self._since):
            self._furthest, self._since, self._failed = reached, now, 0
        self._failed += 1
        delay = min(patience.longest_delay_s, patience.first_delay_s * 2.0 ** min(self._failed - 1, 30))
        delay = max(error.after_s or 0.0, delay * _JITTER.uniform(0.5, 1.0))
        if now + delay - self._since > patience.give_up_s:
            raise refused(self._what, f"{error}; no further for {patience.give_up_s:g} s")
        if delay >= _WORTH_TELLING_S:
            _LOG.warning("%s: %s; trying again in %.0f s", self._what, error, delay)
        time.sleep(delay)


def refused(what: str, why: str) -> InputError:
    return InputError(f"{what}: cannot be fetched ({why}): check data.shards, the network and your rights there")


def fast_enough(chunks: Iterator[bytes], patience: Patience) -> Iterator[bytes]:
    """The chunks, as long as they come at no fewer than `slowest` bytes a second over each `stall_s`.

    Raises:
        Interrupted: they do not.
    """
    began, came = time.monotonic(), 0
    for chunk in chunks:
        came += len(chunk)
        passed = time.monotonic() - began
        if passed >= patience.stall_s:
            if came < patience.slowest * passed:
                raise Interrupted(f"{came} bytes in {passed:.0f} s")
            began, came = time.monotonic(), 0
        yield chunk
