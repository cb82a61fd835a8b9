"""The command that a plan ends with: what was said stays, what the line decides is said anew."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from mmae.config.recipe_file import load_config
from mmae.plan.lines import Line, Machines, all_lines
from mmae.plan.start_command import launch_command
from mmae.plan.time_and_disk import Speed

TRAIN = load_config("vit_l", []).train
LINE = next(
    line for line in all_lines(load_config("vit_l", []), ("zero2",), Machines(8, 1, 80 * 10**9), Speed(0.3, 989e12))
    if (line.split.micro, line.mode) == (TRAIN.micro_batch, TRAIN.activation_checkpointing)
)  # fmt: skip
"""What the recipe says itself."""


def words(line: Line = LINE, *overrides: str, nodes: int = 1, shards: bool = True) -> list[str]:
    return shlex.split(launch_command("vit_l", line, Machines(8, nodes, 80 * 10**9), TRAIN, overrides, shards))


def test_one_machine() -> None:
    start = ["RANKS=8", "bash", "launchers/single_node.sh"]
    assert words() == [*start, "--config", "vit_l", "--deepspeed_config", "zero2"]


def test_many_machines_have_a_host_file() -> None:
    assert words(nodes=2)[:5] == ["bash", "launchers/multi_node.sh", "HOSTFILE", "--config", "vit_l"]


def test_shards_that_nobody_named_have_a_placeholder() -> None:
    assert words(shards=False)[-1] == "data.shards=SHARDS"


def test_what_was_said_stays() -> None:
    assert words(LINE, "model.drop_path=0.2", "data.shards=a b")[-2:] == ["model.drop_path=0.2", "data.shards=a b"]


@pytest.mark.parametrize("said", [(), ("train.micro_batch=7",)])
def test_what_the_line_decides_is_said_once(said: tuple[str, ...]) -> None:
    line = replace(LINE, split=replace(LINE.split, micro=TRAIN.micro_batch // 2))
    found = [word for word in words(line, *said) if word.startswith("train.micro_batch")]
    assert found == [f"train.micro_batch={TRAIN.micro_batch // 2}"]


def test_what_was_said_and_is_decided_is_said_though_the_recipe_says_the_same() -> None:
    assert words(LINE, "train.activation_checkpointing=full")[-1] == f"train.activation_checkpointing={LINE.mode}"
