"""What launchers leave in the environment."""

from __future__ import annotations

import pytest

from mmae.distributed.launch_environment import check_launch
from mmae.errors import InputError

GOOD = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "node-1", "MASTER_PORT": "29500"}


def test_nothing_or_everything_may_be_said() -> None:
    check_launch({})
    check_launch({"WORLD_SIZE": "1", "MMAE_JOIN_SECONDS": "2.5"})
    check_launch({**GOOD, "LOCAL_WORLD_SIZE": "1"})


@pytest.mark.parametrize("name", GOOD)
def test_what_is_missing_is_named(name: str) -> None:
    others = {key: value for key, value in GOOD.items() if key != name}
    with pytest.raises(InputError, match=f"but not {name}: use"):
        check_launch(others)
    with pytest.raises(InputError, match=name):
        check_launch({**GOOD, name: ""})


@pytest.mark.parametrize(
    ("name", "value"),
    [("RANK", "x"), ("RANK", "-1"), ("MASTER_PORT", "29500.0"), ("WORLD_SIZE", "²"), ("MMAE_JOIN_SECONDS", "five"),
     ("MMAE_JOIN_SECONDS", "nan"), ("MMAE_JOIN_SECONDS", "-3"), ("LOCAL_SIZE", " ")],
)  # fmt: skip
def test_no_numbers(name: str, value: str) -> None:
    with pytest.raises(InputError, match=f"{name}={value!r} in the environment is not a"):
        check_launch({**GOOD, name: value})


def test_a_rank_beyond_the_world() -> None:
    with pytest.raises(InputError, match="RANK=2 in the environment, but WORLD_SIZE=2: ranks count from 0"):
        check_launch({**GOOD, "RANK": "2"})
