"""A rank uses the GPUs that were given, one for itself."""

from __future__ import annotations

import pytest

from mmae.distributed.devices import check_devices, take_given
from mmae.errors import InputError


@pytest.mark.parametrize("given", ["GPU-8932f937", "4,5", ""])
def test_what_the_launcher_was_given_replaces_deepspeeds_numbers(given: str) -> None:
    environment = {"CUDA_VISIBLE_DEVICES": "0,1", "MMAE_DEVICES": given}
    take_given(environment)
    assert environment["CUDA_VISIBLE_DEVICES"] == given


def test_without_it_everything_stays() -> None:
    environment = {"CUDA_VISIBLE_DEVICES": "0,1"}
    take_given(environment)
    assert environment == {"CUDA_VISIBLE_DEVICES": "0,1"}


@pytest.mark.parametrize(
    ("environment", "count", "given"),
    [
        ({}, 0, None),
        ({"LOCAL_RANK": "1"}, 0, None),
        ({"LOCAL_RANK": "1", "CUDA_VISIBLE_DEVICES": "4,5"}, 2, None),
        # DeepSpeed says so on CPUs too.
        ({"LOCAL_RANK": "1", "CUDA_VISIBLE_DEVICES": "0,1", "CROSS_RANK": "0"}, 0, None),
        ({"CUDA_VISIBLE_DEVICES": "", "MMAE_DEVICES": "", "LOCAL_RANK": "1"}, 0, None),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, 0, None),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, 0, None),
        ({"CUDA_VISIBLE_DEVICES": "4"}, 1, "4, 5"),
        ({"CUDA_VISIBLE_DEVICES": "GPU-1", "MMAE_DEVICES": "GPU-1"}, 1, None),
    ],
)
def test_starts_that_are_right(environment: dict[str, str], count: int, given: str | None) -> None:
    check_devices(environment, count, given)


@pytest.mark.parametrize(
    ("environment", "count", "given", "why"),
    [
        ({"LOCAL_RANK": "2", "CUDA_VISIBLE_DEVICES": "4,5"}, 2, None, "rank 3 of this node has no GPU: 2 can be used"),
        ({"CUDA_VISIBLE_DEVICES": "4,5"}, 0, None, "CUDA_VISIBLE_DEVICES=4,5 names GPUs, and torch can use none"),
        ({"CUDA_VISIBLE_DEVICES": "9", "MMAE_DEVICES": "9", "CROSS_RANK": "0"}, 0, None, "torch can use none"),
        ({"CUDA_VISIBLE_DEVICES": "0,1", "CROSS_RANK": "0"}, 2, "4,5", "was given CUDA_VISIBLE_DEVICES=4,5, and would"),
        ({"CUDA_VISIBLE_DEVICES": "0,1", "CROSS_RANK": "0"}, 2, "", "start with launchers/single_node.sh"),
    ],
)
def test_starts_that_are_not(environment: dict[str, str], count: int, given: str | None, why: str) -> None:
    with pytest.raises(InputError, match=why):
        check_devices(environment, count, given)
