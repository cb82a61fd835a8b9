"""A rank's log file holds no secrets of addresses and no terminal control sequences."""

from __future__ import annotations

import logging
from pathlib import Path

from mmae.addresses import secrets_of
from mmae.engine.telemetry.rank_log import RankLog

ADDRESS = "https://me:pa55word@host/set?signature=s1gned"
COMMAND = "pipe:curl -H 'Authorization: t0ken' https://host/{}"


def test_secrets_are_hidden_in_warnings_and_tracebacks_also_before_the_file_is_open(tmp_path: Path) -> None:
    log = RankLog(0, speaks=False, secrets=secrets_of([ADDRESS, COMMAND]))
    logging.getLogger("library").warning("GET %s", ADDRESS)
    log.open(tmp_path)
    logging.getLogger("library").warning("retrying /set?signature=s1gned as me, pa55word")
    try:
        raise RuntimeError(f"{COMMAND!r} failed")
    except RuntimeError as error:
        log.failed(error)
    log.close()
    written = (tmp_path / "rank_0.log").read_text()
    assert written.count("https://***@host/set?***") == 1
    assert "Traceback" in written
    assert not any(secret in written for secret in ("pa55word", "s1gned", "t0ken"))


def test_an_address_is_hidden_that_nobody_announced(tmp_path: Path) -> None:
    log = RankLog(0, speaks=False)
    log.open(tmp_path)
    logging.getLogger("library").warning("proxy http://me:pa55word@proxy:3128 does not answer")
    log.close()
    assert "proxy http://***@proxy:3128 does not answer" in (tmp_path / "rank_0.log").read_text()


def test_control_characters_are_escaped_and_lines_stay_lines(tmp_path: Path) -> None:
    log = RankLog(0, speaks=False)
    log.open(tmp_path)
    logging.getLogger("library").warning("one\n\ttwo\x1b[2J")
    log.close()
    first, second = (tmp_path / "rank_0.log").read_text().splitlines()
    assert first.endswith(" WARNING library: one")
    assert second == r"        two\x1b[2J"
