"""The GPUs that were given are those that are used, however DeepSpeed counts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mmae.errors import InputError
from mmae.launch.visible_devices import Devices, check_over_ssh, choose, given, of_a_node

UUID = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
MIG = "MIG-b3cd2d2c-9ad5-58a0-bb4c-1ee9f2d2c2a1"
OLD_MIG = "MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/0"


def gpus(number: int) -> Callable[[], int]:
    return lambda: number


def never() -> int:
    raise AssertionError("torch is not asked where the devices are named")


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ("4,5", ("4", "5")), (" 4 , 05", ("4", "5")), ("7", ("7",)), (UUID, (UUID,)), (f"{MIG}", (MIG,)),
        (OLD_MIG, (OLD_MIG,)), ("", ()), ("  ", ()), ("-1", ()), ("NoDevFiles", ()), ("none", ()), ("void", ()),
        ("4,-1,5", ("4",)),
    ],
)  # fmt: skip
def test_the_gpus_that_the_variable_gives(said: str, names: tuple[str, ...]) -> None:
    assert given({"CUDA_VISIBLE_DEVICES": said}) == names


def test_an_unset_variable_gives_all() -> None:
    assert given({}) is None


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("4,x", "'x' is not a GPU"), ("4,,5", "'' is not a GPU"), ("4;5", "'4;5' is not a GPU"),
        ("4,4", "names a GPU twice"),
        ("4,04", "names a GPU twice"), (f"4,{UUID}", "mixes numbers and names"), ("all", "'all' is not a GPU"),
    ],
)  # fmt: skip
def test_values_of_which_cuda_would_use_only_a_part_are_refused(said: str, why: str) -> None:
    with pytest.raises(InputError, match=f"CUDA_VISIBLE_DEVICES=.*{why}"):
        given({"CUDA_VISIBLE_DEVICES": said})


@pytest.mark.parametrize(
    ("environment", "ranks", "names", "include"),
    [
        ({"CUDA_VISIBLE_DEVICES": "4,5"}, 2, ("4", "5"), "localhost:4,5"),
        ({"CUDA_VISIBLE_DEVICES": "4,5", "RANKS": "1"}, 1, ("4",), "localhost:4"),
        ({"CUDA_VISIBLE_DEVICES": "4,5,6", "GPUS": "6,4"}, 2, ("6", "4"), "localhost:6,4"),
        ({"CUDA_VISIBLE_DEVICES": UUID}, 1, (UUID,), ""),
        ({"CUDA_VISIBLE_DEVICES": MIG}, 1, (MIG,), ""),
        ({"CUDA_VISIBLE_DEVICES": f"{MIG},{OLD_MIG}", "GPUS": OLD_MIG}, 1, (OLD_MIG,), ""),
        ({"GPUS": "0,3"}, 2, ("0", "3"), "localhost:0,3"),
        ({"CUDA_VISIBLE_DEVICES": ""}, 2, (), ""),
        ({"CUDA_VISIBLE_DEVICES": "", "RANKS": "3"}, 3, (), ""),
        ({"GPUS": "none"}, 2, (), ""),
    ],
)
def test_named_devices(environment: dict[str, str], ranks: int, names: tuple[str, ...], include: str) -> None:
    chosen = choose(environment, never)
    assert (chosen.ranks, chosen.names, chosen.include()) == (ranks, names, include)


def test_an_allocation_without_gpus_is_reported() -> None:
    assert choose({"CUDA_VISIBLE_DEVICES": ""}, never).note == "CUDA_VISIBLE_DEVICES gives no GPU: ranks run on the CPU"
    assert choose({}, gpus(0)).note == ""


@pytest.mark.parametrize(
    ("environment", "count", "devices"),
    [
        ({}, 8, Devices(8, None)), ({"RANKS": "3"}, 8, Devices(3, None)), ({}, 0, Devices(2, ())),
        ({"RANKS": "4"}, 0, Devices(4, ())), ({}, 1, Devices(1, None)),
    ],
)  # fmt: skip
def test_a_whole_machine(environment: dict[str, str], count: int, devices: Devices) -> None:
    assert choose(environment, gpus(count)) == devices
    assert devices.include() == ""


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({"CUDA_VISIBLE_DEVICES": "4,5", "GPUS": "0"}, "GPUS=0: CUDA_VISIBLE_DEVICES gives 4,5, not 0"),
        ({"CUDA_VISIBLE_DEVICES": "", "GPUS": "0"}, "CUDA_VISIBLE_DEVICES gives none, not 0"),
        ({"CUDA_VISIBLE_DEVICES": "4,5", "RANKS": "3"}, "2 GPUs were given .4,5., and ranks cannot share one"),
        ({"RANKS": "9"}, "this machine has 8 GPUs"),
        ({"RANKS": "0"}, "RANKS=0: give the number of ranks"),
        ({"RANKS": "two"}, "RANKS=two: give the number of ranks"),
        ({"GPUS": "0,0"}, "GPUS=0,0: it names a GPU twice"),
        ({"CUDA_VISIBLE_DEVICES": f"{MIG},{OLD_MIG}"}, "one MIG device only: choose one, as in GPUS=MIG-"),
    ],
)
def test_gpus_that_were_not_given_are_refused(environment: dict[str, str], why: str) -> None:
    with pytest.raises(InputError, match=why):
        choose(environment, gpus(8))


@pytest.mark.parametrize(
    ("said", "slots", "filtered", "names"),
    [
        (None, [0, 1], False, None),
        ("4,5", [0, 1], False, ("4", "5")),
        ("4,5,6", [0, 1], False, ("4", "5")),
        ("0,1,2", [0, 1], False, None),
        ("4,5", [4, 5], True, None),
        (UUID, [0], False, (UUID,)),
        ("", [0, 1], False, ()),
    ],
)
def test_a_node_that_is_started_by_hand(
    said: str | None, slots: list[int], filtered: bool, names: tuple[str, ...] | None
) -> None:
    environment = {} if said is None else {"CUDA_VISIBLE_DEVICES": said}
    assert of_a_node(slots, environment, filtered=filtered) == names


@pytest.mark.parametrize(
    ("said", "slots", "filtered", "why"),
    [
        (
            "4,5",
            [0, 1, 2],
            False,
            "gives this node 3 slots, and CUDA_VISIBLE_DEVICES gives 2 GPUs .4,5.: write slots=2",
        ),
        ("4,5", [0, 1], True, "slots 0,1 of this node: CUDA_VISIBLE_DEVICES gives 4,5 only"),
        (f"{MIG},{OLD_MIG}", [0, 1], False, "write slots=1"),
    ],
)
def test_a_node_whose_slots_were_not_given(said: str, slots: list[int], filtered: bool, why: str) -> None:
    with pytest.raises(InputError, match=why):
        of_a_node(slots, {"CUDA_VISIBLE_DEVICES": said}, filtered=filtered)


@pytest.mark.parametrize("said", [None, "0,1"])
def test_over_ssh_slots_name_the_devices(said: str | None) -> None:
    check_over_ssh({"a": [0, 1], "b": [0, 1]}, {} if said is None else {"CUDA_VISIBLE_DEVICES": said})


@pytest.mark.parametrize("said", ["4,5", "", UUID, "0"])
def test_over_ssh_devices_of_this_shell_are_refused(said: str) -> None:
    with pytest.raises(InputError, match=r"set here, and does not hold on other hosts: a would use 0,1: unset"):
        check_over_ssh({"a": [0, 1]}, {"CUDA_VISIBLE_DEVICES": said})
