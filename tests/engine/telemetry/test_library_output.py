"""What libraries say at a start is kept for the rank's log, and shown where it is asked for or explains an error."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmae.engine.telemetry.library_output import Chatter, let_libraries_speak, take_kept
from mmae.engine.telemetry.rank_log import RankLog
from mmae.errors import InputError


@pytest.fixture
def shown() -> Iterator[io.StringIO]:
    """What DeepSpeed's logger shows, which is as it is when a program starts."""
    stream, logger = io.StringIO(), logging.getLogger("DeepSpeed")
    before = logger.level, logger.propagate, list(logger.handlers)
    logger.handlers, logger.propagate = [logging.StreamHandler(stream)], False
    logger.setLevel(logging.WARNING)
    take_kept()
    yield stream
    logger.handlers, logger.propagate = before[2], before[1]
    logger.setLevel(before[0])
    take_kept()


def start(verbose: bool = False, error: Exception | None = None) -> None:
    with Chatter() as chatter:
        logging.getLogger("DeepSpeed").warning("Setting accelerator to CPU")
        print("DeepSpeed op built successfully")
        chatter.verbose = verbose
        if error is not None:
            raise error


def test_it_stands_in_the_ranks_log_only(
    shown: io.StringIO, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start()
    log = RankLog(0, True)
    log.open(tmp_path)
    log.close()
    assert (shown.getvalue(), capsys.readouterr().out) == ("", "")
    text = (tmp_path / "rank_0.log").read_text()
    for said in ("DeepSpeed: Setting accelerator to CPU", "stdout: DeepSpeed op built", "mmae.launch: process "):
        assert said in text
    assert take_kept() == []


def test_it_is_shown_where_that_is_asked_for(shown: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    start(verbose=True)
    assert capsys.readouterr().out == "DeepSpeed op built successfully\n"
    assert shown.getvalue() == "Setting accelerator to CPU\n"


def test_it_is_shown_where_it_may_explain_an_error(shown: io.StringIO) -> None:
    with pytest.raises(RuntimeError):
        start(error=RuntimeError("no compiler"))
    assert shown.getvalue() == "Setting accelerator to CPU\n"


def test_bad_input_is_still_one_line(shown: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError):
        start(error=InputError("no such recipe"))
    assert (shown.getvalue(), capsys.readouterr().out) == ("", "")


def test_output_after_the_start_is_shown(shown: io.StringIO) -> None:
    start()
    speaker = logging.getLogger("DeepSpeed")
    let_libraries_speak(False)
    speaker.warning("of a step")
    speaker.info("of another")
    let_libraries_speak(True)
    speaker.info("of a third")
    assert shown.getvalue() == "of a step\nof a third\n"
