"""The command of a start on one machine."""

from __future__ import annotations

import pytest

from mmae.errors import InputError
from mmae.launch.single_node import plan_start

TRAINING = ["--config", "debug", "run.dir=r"]
MIG = "MIG-b3cd2d2c-9ad5-58a0-bb4c-1ee9f2d2c2a1"


def planned(environment: dict[str, str], *words: str, gpus: int = 8) -> list[str]:
    return plan_start([*words, *TRAINING], environment, lambda: gpus, 20_000).command


@pytest.mark.parametrize(
    ("environment", "gpus", "first"),
    [
        ({}, 8, "deepspeed --log_level error --num_gpus 8"),
        (
            {"CUDA_VISIBLE_DEVICES": "4,5"}, 2,
            "env -u CUDA_VISIBLE_DEVICES deepspeed --log_level error --include localhost:4,5",
        ),
        (
            {"CUDA_VISIBLE_DEVICES": MIG}, 1,
            f"env -u CUDA_VISIBLE_DEVICES MMAE_DEVICES={MIG} deepspeed --log_level error --num_gpus 1",
        ),
        (
            {"CUDA_VISIBLE_DEVICES": "-1"}, 0,
            "env CUDA_VISIBLE_DEVICES= MMAE_DEVICES= DS_ACCELERATOR=cpu deepspeed --log_level error --num_gpus 2",
        ),
        ({}, 0, "env MMAE_DEVICES= DS_ACCELERATOR=cpu deepspeed --log_level error --num_gpus 2"),
        ({"DS_ACCELERATOR": "xpu"}, 0, "env MMAE_DEVICES= deepspeed --log_level error --num_gpus 2"),
    ],
)  # fmt: skip
def test_exactly_the_devices_that_were_given(environment: dict[str, str], gpus: int, first: str) -> None:
    command = planned(environment, gpus=gpus)
    assert " ".join(command) == f"{first} --master_port 20000 --module mmae.train {' '.join(TRAINING)}"


def test_deepspeed_reads_these_words_so() -> None:
    from deepspeed.launcher.runner import parse_args, parse_inclusion_exclusion

    args = parse_args(planned({"GPUS": "4,5"})[1:])
    assert parse_inclusion_exclusion({"localhost": 8}, args.include, "") == {"localhost": [4, 5]}
    assert (args.num_gpus, args.num_nodes, args.user_script) == (-1, -1, "mmae.train")


def test_deepspeed_speaks_where_that_is_asked_for() -> None:
    assert "--log_level" not in planned({}, *TRAINING[:2], "log.verbose=true")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--restarts"], "--restarts needs a number"),
        (["--restarts", "many", *TRAINING], "--restarts needs a number"),
        (["--restrats", "3", *TRAINING], "unrecognized arguments: --restrats"),
        ([*TRAINING, "run.dri=x"], "unknown key 'run.dri'"),
        ([], "--config"),
        (["--module"], "--module needs a module"),
    ],
)
def test_unknown_words_are_refused_before_a_start(words: list[str], why: str) -> None:
    with pytest.raises(InputError, match=why):
        plan_start(words, {}, lambda: 0, 20_000)


def test_another_program_is_started_as_a_training_is() -> None:
    command = plan_start(["--module", "mine", "--config", "x"], {"GPUS": "4,5"}, lambda: 8, 20_000).command
    assert command == [*planned({"GPUS": "4,5"})[: -len(TRAINING) - 1], "mine", "--config", "x"]


def test_restarts_are_for_the_launcher() -> None:
    start = plan_start(("--restarts", "3", *TRAINING), {}, lambda: 1, 20_000)
    assert start.restarts == 3
    assert start.command[-3:] == TRAINING
