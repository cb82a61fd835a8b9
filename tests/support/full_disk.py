"""A disk that is full, without one: no file of this process may grow beyond a limit."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

REASON = "File too large"


@contextmanager
def files_up_to(limit: int) -> Iterator[None]:
    """In it a write beyond `limit` bytes of a file fails, as the library that writes learns of a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
