"""A rank's own log file, and what reaches stderr."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmae.engine.telemetry.rank_log import RankLog


@pytest.fixture
def library(capsys: pytest.CaptureFixture[str]) -> Iterator[logging.Logger]:
    """A logger with a handler of its own on (captured) stderr, as DeepSpeed's."""
    logger = logging.getLogger("DeepSpeed")
    before, propagates = list(logger.handlers), logger.propagate
    logger.handlers = [logging.StreamHandler()]
    logger.propagate = False
    yield logger
    logger.handlers, logger.propagate = before, propagates


def fail() -> Exception:
    try:
        raise RuntimeError("the gradients are gone\nand more")
    except RuntimeError as error:
        return error


def text(folder: Path, rank: int) -> str:
    return (folder / f"rank_{rank}.log").read_text()


def test_a_refused_start_leaves_nothing_behind(tmp_path: Path, library: logging.Logger) -> None:
    log = RankLog(0, speaks=True)
    library.warning("early")
    log.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("speaks", [True, False])
def test_warnings_are_kept_with_their_time(
    speaks: bool,
    tmp_path: Path,
    library: logging.Logger,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown_warnings: list[str] = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_: shown_warnings.append(str(message)))
    log = RankLog(3, speaks)
    library.warning("before the folder")
    log.open(tmp_path / "logs")
    library.warning("after it")
    logging.getLogger("other.library").warning("from elsewhere")
    warnings.showwarning("deprecated", UserWarning, "file.py", 7)
    log.close()
    library.warning("when it is over")
    written = text(tmp_path / "logs", 3)
    for line in ("before the folder", "after it", "from elsewhere", "UserWarning: deprecated"):
        assert written.count(line) == 1, line
    assert "when it is over" not in written
    assert written[:2] == "20"
    shown = capsys.readouterr().err
    assert ("after it" in shown, "from elsewhere" in shown) == (speaks, speaks)
    assert "when it is over" in shown
    assert shown_warnings == (["deprecated"] if speaks else [])


def test_files_are_appended_to(tmp_path: Path) -> None:
    for line in ("one", "two"):
        log = RankLog(1, speaks=False)
        log.open(tmp_path)
        logging.getLogger("mmae").info(line)
        log.close()
    assert [line.rpartition(" ")[2] for line in text(tmp_path, 1).splitlines()] == ["one", "two"]


def test_only_the_first_rank_that_fails_shows_its_traceback(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logs = [RankLog(rank, speaks=rank == 0) for rank in range(3)]
    for log in logs:
        log.open(tmp_path)
    for log in (logs[2], logs[0], logs[1]):
        log.failed(fail())
    for log in logs[::-1]:
        log.close()
    shown = capfd.readouterr().err
    assert shown.count("Traceback") == 1
    lines = [line for line in shown.splitlines() if line.startswith("mmae: rank")]
    assert [line[:12] for line in lines] == ["mmae: rank 2", "mmae: rank 0", "mmae: rank 1"]
    assert shown.index("Traceback") < shown.index("mmae: rank 2") < shown.index("mmae: rank 0")
    assert lines[0].endswith(f"RuntimeError: the gradients are gone: traceback in {tmp_path / 'rank_2.log'}")
    assert all("in fail" in text(tmp_path, rank) for rank in range(3))
    # The next start counts anew.
    again = RankLog(0, speaks=True)
    again.open(tmp_path)
    again.failed(fail())
    again.close()
    assert "Traceback" in capfd.readouterr().err


def test_a_folder_that_cannot_be_made_ends_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "logs").write_text("a file")
    log = RankLog(0, speaks=True)
    log.open(tmp_path / "logs")
    log.failed(fail())
    log.close()
    assert "Traceback" in capfd.readouterr().err
