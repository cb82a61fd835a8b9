"""What libraries say at a start is kept for the rank's log, and shown where it is asked for or explains an error."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmae.engine.chatter import Chatter, let_libraries_speak, take_kept
from mmae.engine.rank_log import RankLog
from mmae.errors import InputError


@pytest.fixture
def speaker(capsys: pytest.CaptureFixture[str]) -> Iterator[logging.Logger]:
    """DeepSpeed's logger, as it is when a program starts."""
    logger = logging.getLogger("DeepSpeed")
    before = logger.level, logger.propagate, list(logger.handlers)
    logger.handlers, logger.propagate = [logging.StreamHandler()], False
    logger.setLevel(logging.WARNING)
    take_kept()
    yield logger
    logger.handlers, logger.propagate = before[2], before[1]
    logger.setLevel(before[0])
    take_kept()


def start(speaker: logging.Logger, verbose: bool = False, error: Exception | None = None) -> None:
    with Chatter() as chatter:
        speaker.warning("Setting accelerator to CPU")
        print("DeepSpeed op built successfully")
        chatter.verbose = verbose
        if error is not None:
            raise error


def test_it_stands_in_the_ranks_log_only(
    speaker: logging.Logger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(speaker)
    log = RankLog(0, True)
    log.open(tmp_path)
    log.close()
    assert capsys.readouterr() == ("", "")
    text = (tmp_path / "rank_0.log").read_text()
    for said in ("DeepSpeed: Setting accelerator to CPU", "stdout: DeepSpeed op built", "mmae.launch: process "):
        assert said in text
    assert take_kept() == []


def test_it_is_shown_where_that_is_asked_for(speaker: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    start(speaker, verbose=True)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("DeepSpeed op built successfully\n", "Setting accelerator to CPU\n")


def test_it_is_shown_where_it_may_explain_an_error(speaker: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError):
        start(speaker, error=RuntimeError("no compiler"))
    assert "Setting accelerator to CPU" in capsys.readouterr().err


def test_bad_input_is_still_one_line(speaker: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError):
        start(speaker, error=InputError("no such recipe"))
    assert capsys.readouterr() == ("", "")


def test_what_is_said_after_the_start_is_shown(speaker: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    start(speaker)
    let_libraries_speak(False)
    speaker.warning("of a step")
    speaker.info("of another")
    assert capsys.readouterr().err == "of a step\n"
    let_libraries_speak(True)
    speaker.info("of a third")
    assert capsys.readouterr().err == "of a third\n"
