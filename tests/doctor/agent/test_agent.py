"""The agent of a host, asked directly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmae.doctor.agent.agent import QUESTIONS, Agent
from tests.support.paths import ROOT

pytestmark = pytest.mark.process

NAME = ".lock-doctor-0123456789abcdef"


def spoken(*requests: dict[str, object]) -> list[dict[str, object]]:
    """The agent's answers. Its input ends after the last request."""
    text = "".join(json.dumps({"number": number, **request}) + "\n" for number, request in enumerate(requests))
    command = [sys.executable, "-m", "mmae.doctor.agent.agent", "nonce"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True, cwd=ROOT, timeout=60)
    lines = [line.partition(" ") for line in done.stdout.splitlines()]
    assert {mark for mark, _, _ in lines} == {"nonce"}
    return [json.loads(answer) for _, _, answer in lines]


def test_a_question_that_fails_does_not_end_the_agent(tmp_path: Path) -> None:
    answers = spoken(
        {"ask": "close_listener"},
        {"ask": "__init__"},
        {"ask": "run"},
        {"ask": "write_token", "folder": str(tmp_path), "name": "../x"},
        {"ask": "write_token", "folder": str(tmp_path / "absent"), "name": NAME},
        {"ask": "clock"},
    )
    assert [("error" in each, each["number"]) for each in answers] == [
        (True, 0), (True, 1), (True, 2), (True, 3), (True, 4), (False, 5)
    ]  # fmt: skip


def test_it_removes_its_token_when_its_input_ends(tmp_path: Path) -> None:
    about = {"folder": str(tmp_path), "name": NAME}
    answers = spoken({"ask": "write_token", **about}, {"ask": "sees_token", **about})
    assert [each["answer"] for each in answers] == [True, True]
    assert list(tmp_path.iterdir()) == []


# Its first answer may take as long as it needs. Only after that, a moment without a question ends it.
IMPATIENT = """
import signal
from mmae.doctor.agent.agent import main
arm, armed = signal.setitimer, []
def setitimer(which, seconds):
    armed.append(seconds)
    arm(which, 0.2 if armed == [300.0, 0, 300.0] else seconds)
signal.setitimer = setitimer
main("nonce", 300.0)
"""


def test_it_ends_and_cleans_up_when_no_more_questions_come(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", IMPATIENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as agent:
        assert agent.stdin is not None
        asked = {"number": 0, "ask": "write_token", "folder": str(tmp_path), "name": NAME}
        agent.stdin.write(json.dumps(asked).encode() + b"\n")
        agent.stdin.flush()
        # Its input stays open.
        assert agent.wait(60) == 1
        assert agent.stdout is not None
        assert b'"answer": true' in agent.stdout.read()
    assert list(tmp_path.iterdir()) == []


def test_a_token_of_somebody_else_stays(tmp_path: Path) -> None:
    (tmp_path / NAME).touch()
    assert "error" in spoken({"ask": "write_token", "folder": str(tmp_path), "name": NAME})[0]
    assert (tmp_path / NAME).exists()


def test_every_question_has_its_answer() -> None:
    assert all(callable(getattr(Agent, question)) for question in QUESTIONS)
