"""What every test is promised: the environment that it finds is the one that the tests were started in."""

from __future__ import annotations

import os

PROBE = "MMAE_LEFT_BEHIND"


def test_a_test_may_change_the_environment() -> None:
    os.environ[PROBE] = "1"
    os.environ["HOME"] = "/elsewhere"


def test_the_next_one_finds_it_as_it_was() -> None:
    assert PROBE not in os.environ
    assert os.environ["HOME"] != "/elsewhere"
