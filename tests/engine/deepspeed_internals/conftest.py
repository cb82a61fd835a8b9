"""One process group for all engines of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.dots_engine import group_of_one


@pytest.fixture(scope="module")
def group() -> Iterator[None]:
    with group_of_one():
        yield
