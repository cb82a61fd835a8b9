from __future__ import annotations

import io
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest
import xxhash

from mmae.data.remote.download import download, fetch_text
from mmae.data.remote.open_remote import open_remote
from mmae.data.remote.transport import Patience
from mmae.errors import InputError
from tests.support.web import PATIENT, STALLING, Web, cut, drip, other, serving, silence, stall, status

CONTENT = os.urandom(300_000)
HASH = xxhash.xxh3_128_hexdigest(CONTENT)
NAME = "train-000000.tar"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / NAME).write_bytes(CONTENT)
    with serving(tmp_path / "web") as server:
        yield server


def get(location: str, before: bytes = b"", patience: Patience = PATIENT) -> bytes:
    """What a download leaves in a file that held `before`."""
    import tempfile

    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(before)
        fill(location, file, patience)
        file.seek(0)
        return file.read()


def fill(location: str, file: IO[bytes], patience: Patience = PATIENT) -> None:
    download(open_remote(location, patience), NAME, len(CONTENT), HASH, file, patience)


def test_a_file_comes_whole(web: Web) -> None:
    assert get(web.url) == CONTENT
    assert web.requests[NAME] == [0]


def test_bytes_that_are_there_are_not_fetched_again(web: Web) -> None:
    assert get(web.url, CONTENT) == CONTENT
    assert web.requests[NAME] == []
    assert get(web.url, CONTENT[:1000]) == CONTENT
    assert web.requests[NAME] == [1000]


@pytest.mark.parametrize("before", [b"x", b"x" * len(CONTENT), b"x" * (len(CONTENT) + 1), CONTENT + b"x"])
def test_a_wrong_beginning_is_thrown_away(web: Web, before: bytes) -> None:
    assert get(web.url, before) == CONTENT


def test_a_cut_connection_goes_on_where_it_was_cut(web: Web) -> None:
    web.faults[NAME].extend([cut(100_000), cut(100_000)])
    assert get(web.url) == CONTENT
    assert web.requests[NAME] == [0, 100_000, 200_000]


def test_a_server_without_parts_of_files_begins_again(web: Web) -> None:
    web.ranges = False
    web.faults[NAME].extend([cut(100_000), cut(0), cut(299_999)])
    assert get(web.url) == CONTENT


def test_a_server_without_parts_that_always_cuts_is_given_up(web: Web) -> None:
    web.ranges = False
    web.faults[NAME].extend([cut(100_000)] * 1000)
    with pytest.raises(InputError, match=r"no progress for 0\.5 s"):
        get(web.url, patience=replace(PATIENT, give_up_s=0.5))


@pytest.mark.parametrize("fault", [stall, drip, silence])
def test_a_connection_that_stands_still_is_replaced(web: Web, fault: object) -> None:
    web.faults[NAME].append(fault)  # type: ignore[arg-type]
    assert get(web.url, patience=STALLING) == CONTENT
    assert len(web.requests[NAME]) >= 2


@pytest.mark.parametrize("fault", [drip, silence])
def test_a_server_that_never_gets_on_is_given_up(web: Web, fault: object) -> None:
    web.faults[NAME].extend([fault] * 1000)  # type: ignore[list-item]
    with pytest.raises(InputError, match=rf"{NAME}: cannot be fetched .*no progress for 1 s"):
        get(web.url, patience=replace(STALLING, give_up_s=1, slowest=10_000))


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(web: Web, code: int) -> None:
    web.faults[NAME].extend([status(code)] * 3)
    assert get(web.url) == CONTENT
    assert len(web.requests[NAME]) == 4


def test_retry_after_is_respected(web: Web) -> None:
    web.faults[NAME].append(status(503, Retry_After="1"))
    began = time.monotonic()
    assert get(web.url) == CONTENT
    assert time.monotonic() - began >= 1


def test_retry_after_may_be_a_date_or_nonsense(web: Web) -> None:
    past = "Wed, 21 Oct 2015 07:28:00 GMT"
    web.faults[NAME].extend([status(503, Retry_After=past), status(503, Retry_After="soon"), status(503)])
    assert get(web.url) == CONTENT


def test_a_wait_beyond_all_patience_is_not_begun(web: Web) -> None:
    web.faults[NAME].append(status(503, Retry_After="86400"))
    with pytest.raises(InputError, match="HTTP 503 Service Unavailable; no progress for 300 s"):
        get(web.url)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
def test_a_refusal_is_reported_at_once(web: Web, code: int) -> None:
    web.faults[NAME].append(status(code))
    with pytest.raises(InputError, match=rf"^http://127.0.0.1:\d+/{NAME}: cannot be fetched \(HTTP {code} ") as caught:
        get(web.url)
    assert "\n" not in str(caught.value)
    assert len(web.requests[NAME]) == 1


def test_wrong_bytes_are_fetched_again_and_then_refused(web: Web) -> None:
    wrong = b"x" * len(CONTENT)
    web.faults[NAME].extend([other(wrong), other(CONTENT + b"x")])
    assert get(web.url) == CONTENT
    web.faults[NAME].extend([other(wrong)] * 3)
    with pytest.raises(InputError, match=rf"{NAME}: cannot be fetched \(its content is not what the index says, 3 tim"):
        get(web.url)


def test_too_much_is_not_taken_in(web: Web, tmp_path: Path) -> None:
    web.faults[NAME].extend([other(CONTENT * 2)] * 3)
    with (tmp_path / "file").open("w+b", buffering=0) as file, pytest.raises(InputError, match="it is longer than"):
        fill(web.url, file)
    assert (tmp_path / "file").stat().st_size <= len(CONTENT)


def test_nobody_listens() -> None:
    patience = replace(PATIENT, give_up_s=0.2)
    with pytest.raises(InputError, match=r"Connection refused; no progress for 0\.2 s"):
        get("http://127.0.0.1:9", patience=patience)


@pytest.mark.parametrize("address", ["http://", "http://[", "http://a b", "https://:80:80/"])
def test_no_address(address: str) -> None:
    with pytest.raises(InputError):
        get(address, patience=replace(PATIENT, give_up_s=0.1))


def test_secrets_reach_the_server_and_no_message(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mmae")
    location = f"http://jane:pass%20word@127.0.0.1:{web.server_port}?sig=token"
    assert get(location) == CONTENT
    assert web.headers[0]["Authorization"].startswith("Basic ")
    patience = replace(PATIENT, give_up_s=5.5, first_delay_s=5)
    for address, fault in ((location, [status(403)]), (location, [status(503)] * 9)):
        web.faults[NAME].extend(fault)
        with pytest.raises(InputError) as caught:
            get(address, patience=patience if len(fault) == 1 else replace(PATIENT, give_up_s=0.05))
        web.faults[NAME].clear()
        assert not any(secret in str(caught.value) + caplog.text for secret in ("jane", "pass", "token"))
    with pytest.raises(InputError) as caught:
        get("http://jane:pass@127.0.0.1:9/a?sig=token", patience=replace(PATIENT, give_up_s=0.05))
    assert not any(secret in str(caught.value) for secret in ("jane", "pass", "token"))


def test_a_full_disk_is_not_the_networks_fault(web: Web) -> None:
    class Full(io.FileIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    with Full(os.devnull, "r+") as file, pytest.raises(OSError, match="No space left"):
        fill(web.url, file)
    assert len(web.requests[NAME]) == 1


def test_text_of_unknown_size(web: Web) -> None:
    web.faults[NAME].extend([status(503), cut(1000), stall])
    assert fetch_text(open_remote(web.url, STALLING), NAME, STALLING) == CONTENT
    with pytest.raises(InputError, match=r"index\.json: cannot be fetched \(HTTP 404"):
        fetch_text(open_remote(web.url, PATIENT), "index.json", PATIENT)


@pytest.mark.process
def test_a_command_writes_the_file(web: Web) -> None:
    assert get(f"pipe:cat {web.folder}/{{}}") == CONTENT
    assert get(f"pipe:cat {web.folder}/{{}} | cat", CONTENT[:7]) == CONTENT


@pytest.mark.process
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("false {}", r"pipe:false \*\*\* train-000000.tar: cannot be fetched \(exit status 1, 3 times\)"),
        ("cat /nowhere/{}", r"exit status 1: cat: /nowhere/train-000000.tar: No such file or directory, 3 times"),
        ("no-such-command {}", r"exit status 127: .*not found"),
        ("head -c 5 /dev/zero; true {}", r"it ended after 5 of 300000 bytes"),
        ("cat /dev/zero; true {}", r"it is longer than the 300000 bytes that the index says, 3 times"),
        ("head -c 300000 /dev/zero; true {}", r"its content is not what the index says, 3 times"),
    ],
)
def test_a_command_that_fails(command: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        get(f"pipe:{command}", patience=replace(PATIENT, give_up_s=0.5))


@pytest.mark.process
@pytest.mark.parametrize(
    ("command", "stall_s", "message"),
    [
        ("head -c 5 /dev/zero; sleep 60; true {}", 0.1, r"the command wrote nothing for 0\.1 s"),
        # Time enough for a shell to begin.
        ("exec >&-; sleep 60; true {}", 3, r"the command closed its output and did not end"),
    ],
)
def test_a_command_that_stalls(command: str, stall_s: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        get(f"pipe:{command}", patience=replace(PATIENT, give_up_s=0.5, stall_s=stall_s))


def is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.process
def test_the_processes_of_a_command_end_with_it(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    patience = replace(PATIENT, give_up_s=0.3, stall_s=3)
    with pytest.raises(InputError, match="wrote nothing"):
        get(f"pipe:(echo $$ > {mark}; sleep 61.5) | cat; true {{}}", patience=patience)
    group = int(mark.read_text())
    # Those that were killed stay for a moment until they are collected.
    until = time.monotonic() + 60
    while is_there(group):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_command_needs_a_place_for_the_name_and_is_not_shown() -> None:
    with pytest.raises(InputError, match=r"pipe:curl \*\*\*: write \{\}") as caught:
        get("pipe:curl -H 'Token: secret' https://host/train.tar")
    assert "secret" not in str(caught.value)


def test_any_store_that_fsspec_knows(web: Web) -> None:
    import fsspec  # type: ignore[import-untyped]

    fsspec.filesystem("memory").pipe(f"/bucket/{NAME}", CONTENT)
    assert get("memory://bucket") == CONTENT
    assert get("memory://bucket/", CONTENT[:1000]) == CONTENT
    assert get(f"file://{web.folder}") == CONTENT
    with pytest.raises(InputError, match=rf"memory://elsewhere/{NAME}: cannot be fetched \(FileNotFoundError"):
        get("memory://elsewhere")


def test_a_store_that_nobody_knows() -> None:
    with pytest.raises(InputError, match=r"data\.shards: nonsense://x: Protocol not known: nonsense"):
        get("nonsense://x")


class Flaky:
    """A file of a store that fails now and then, hangs, or is cut."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        self.file = io.BytesIO(CONTENT)

    def seek(self, offset: int) -> None:
        self.file.seek(offset)

    def read(self, length: int) -> bytes:
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "hang":
            time.sleep(1)
        if fault == "fail":
            raise OSError("s3://bucket/key?X-Amz-Signature=secret: reset")
        if fault == "refuse":
            raise type("NoCredentialsError", (Exception,), {})("Unable to locate credentials")
        return self.file.read(1000 if fault == "short" else length)

    def close(self) -> None:
        self.file.close()


@pytest.mark.parametrize("faults", [["fail"], ["short", "fail"], ["hang"], ["short", "hang", "fail", "short"]])
def test_a_store_that_fails_is_asked_again(monkeypatch: pytest.MonkeyPatch, faults: list[str]) -> None:
    monkeypatch.setattr("mmae.data.remote.object_store._open", lambda address: Flaky(faults))
    assert get("memory://bucket", patience=STALLING) == CONTENT


def test_a_stores_own_words_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmae.data.remote.object_store._open", lambda address: Flaky(["refuse"]))
    with pytest.raises(InputError, match="NoCredentialsError: Unable to locate credentials"):
        get("memory://bucket")
    monkeypatch.setattr("mmae.data.remote.object_store._open", lambda address: Flaky(["fail"] * 1000))
    with pytest.raises(InputError, match=r"OSError: s3://bucket/key.*reset") as caught:
        get("memory://bucket", patience=replace(PATIENT, give_up_s=0.2))
    assert "secret" not in str(caught.value)
