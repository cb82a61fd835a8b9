"""Hosts to train on, made once for all tests here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.namespace_hosts import Host, hosts, why_not


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Host]]:
    """`node-1`, `node-2`, `node-3`."""
    if reason := why_not():
        pytest.skip(reason)
    with hosts(tmp_path_factory.mktemp("hosts"), 3) as made:
        yield made
