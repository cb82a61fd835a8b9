"""What all transports share: their interface, and the rules for repeated attempts."""

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
_JITTER: Final = random.SystemRandom()  # The seeded generator belongs to the run and is the same in all workers.


class Refused(Exception):  # noqa: N818
    """The file cannot be fetched, and another attempt would not help. The message says why, without secrets."""


class Interrupted(Exception):  # noqa: N818
    """This attempt failed; another one may succeed.

    Attributes:
        after_s: seconds until the next attempt, if the server has said so.
    """

    def __init__(self, why: str, after_s: float | None = None) -> None:
        super().__init__(why)
        self.after_s = after_s


class Wrong(Interrupted):
    """The answer has the wrong content. Another attempt may help, but many will not."""


@dataclass(frozen=True)
class Patience:
    """Time limits for a network.

    Attributes:
        connect_s: until a connection is established.
        stall_s: without a byte, or with fewer than `slowest` bytes a second. A new connection is then made.
        give_up_s: without progress of `slowest` bytes a second, over all attempts.
        first_delay_s, longest_delay_s: between attempts; doubled each time, and drawn from the upper half.
        tries: number of attempts where the content is wrong or a command fails.
    """

    connect_s: float = 10.0
    stall_s: float = 30.0
    slowest: int = 1 << 14
    give_up_s: float = 600.0
    first_delay_s: float = 0.5
    longest_delay_s: float = 30.0
    tries: int = 3


class Remote(Protocol):
    """A remote folder. It keeps no connections, so it may be pickled, and used after a fork or by several threads."""

    def open(self, name: str, offset: int) -> AbstractContextManager[Body]:
        """A file's bytes from `offset` on, or from its start if the server cannot do that.

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
    """The attempts to fetch one file: waits between them, and decides when to stop.

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
            reached: bytes of the file so far. Progress at a sufficient speed restarts the time limits.

        Raises:
            InputError: the limits are exceeded.
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
            raise refused(self._what, f"{error}; no progress for {patience.give_up_s:g} s")
        if delay >= _WORTH_TELLING_S:
            _LOG.warning("%s: %s; trying again in %.0f s", self._what, error, delay)
        time.sleep(delay)


def refused(what: str, why: str) -> InputError:
    return InputError(f"{what}: cannot be fetched ({why}): check data.shards, the network and your rights there")


def fast_enough(chunks: Iterator[bytes], patience: Patience) -> Iterator[bytes]:
    """The chunks, while at least `slowest` bytes a second arrive over each `stall_s`.

    Raises:
        Interrupted: fewer bytes arrive.
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
