"""The command that goes on: parsed as a shell and the commands themselves would."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys

import pytest

from mmae.run.resume_command import go_on_command
from mmae.train import add_arguments

WORDS = ["--config", "vit_b", "data.shards=[a,b c]", "--deepspeed_config=zero2", "run.dir=it's $HOME", "--trust"]


def parsed(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_intermixed_args(words)


def command(monkeypatch: pytest.MonkeyPatch, words: list[str], world: int = 4, keep_resume: bool = False) -> list[str]:
    monkeypatch.delenv("MMAE_COMMAND", raising=False)
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    return shlex.split(go_on_command(world, keep_resume))


ONCE = [
    ["--fresh"], ["--fr"], ["--resume", "run/checkpoints/global_step3"], ["--resume=a b"], ["--res", "x"],
    ["--local_rank=3"], ["--local_rank", "3"], ["--local_rank=0", "--resume", "--odd", "--fresh"], [],
]  # fmt: skip


@pytest.mark.parametrize("once", ONCE)
@pytest.mark.parametrize("place", [0, 3, len(WORDS)])
def test_words_for_one_start_alone_are_left_out(monkeypatch: pytest.MonkeyPatch, once: list[str], place: int) -> None:
    seen = command(monkeypatch, [*WORDS[:place], *once, *WORDS[place:]])
    launcher = ["deepspeed", "--num_gpus", "4", "--module", "mmae.train"]
    assert seen[: len(launcher)] == launcher
    assert parsed(seen[len(launcher) :]) == parsed(WORDS)


def test_mmae_train_is_named_as_it_was_called(monkeypatch: pytest.MonkeyPatch) -> None:
    assert command(monkeypatch, ["train", "--fresh", *WORDS], world=1) == ["mmae", "train", *WORDS]
    # Of several ranks a launcher is needed.
    seen = command(monkeypatch, ["train", *WORDS], world=2)
    assert seen == ["deepspeed", "--num_gpus", "2", "--module", "mmae.train", *WORDS]
    assert command(monkeypatch, WORDS, world=1)[:3] == ["deepspeed", "--num_gpus", "1"]


def test_a_run_without_a_checkpoint_of_its_own_is_told_where_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    resume = ["--resume", "other run"]
    assert command(monkeypatch, ["train", *resume, "--fresh", *WORDS], 1, keep_resume=True) == [
        "mmae", "train", *resume, *WORDS
    ]  # fmt: skip


@pytest.mark.process
@pytest.mark.parametrize("once", [each for each in ONCE if "--local_rank" not in "".join(each)])
def test_a_launchers_command_keeps_its_quotes(monkeypatch: pytest.MonkeyPatch, once: list[str]) -> None:
    """As bash prints it, and reads it."""
    words = ["bash", "launchers/single node.sh", "--restarts", "3", *once, *WORDS, "a=x\ny\t'z'", 'b="\\']
    printed = subprocess.run(
        ["bash", "-c", "printf '%q ' \"$@\"", "_", *words], capture_output=True, text=True, check=True
    ).stdout
    monkeypatch.setenv("MMAE_COMMAND", f"GPUS=0,1 RANKS=2 {printed}")
    show = 'bash() { printf "%s\\0" "$GPUS" "$RANKS" bash "$@"; }\n'
    done = subprocess.run(["bash", "-c", show + go_on_command(2)], capture_output=True, text=True, check=True)
    assert done.stdout.split("\0")[:-1] == ["0,1", "2", *words[:4], *WORDS, *words[-2:]]


@pytest.mark.parametrize(
    ("world", "words", "begins"),
    [
        (1, ["finetune", "run.dir=r", "--fresh"], ["mmae", "finetune", "run.dir=r"]),
        (1, ["run.dir=r"], ["deepspeed", "--num_gpus", "1", "--module", "mmae.finetune.command", "run.dir=r"]),
        (2, ["run.dir=r"], ["deepspeed", "--num_gpus", "2", "--module", "mmae.finetune.command", "run.dir=r"]),
    ],
)
def test_a_fine_tuning_goes_on_by_its_own_program(
    monkeypatch: pytest.MonkeyPatch, world: int, words: list[str], begins: list[str]
) -> None:
    monkeypatch.delenv("MMAE_COMMAND", raising=False)
    monkeypatch.setattr(sys, "argv", ["command.py", *words])
    assert shlex.split(go_on_command(world, module="mmae.finetune.command")) == begins
