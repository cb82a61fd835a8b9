"""The hostfile: as DeepSpeed reads it, and no name that a program could take for an option."""

from __future__ import annotations

from pathlib import Path

import pytest
from deepspeed.launcher.runner import fetch_hostfile

from mmae.errors import InputError
from mmae.launch.hostfile import Host, read_hostfile
from tests.support.paths import ROOT


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "hosts"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "line",
    [
        "-oProxyCommand=touch${IFS}x slots=1",
        "-l slots=1",
        "user@-oProxyCommand=x slots=1",
        "-oX@host slots=1",
        "a;b slots=1",
        "a$(b) slots=1",
        "a`b` slots=1",
        "a'b slots=1",
        "a|b slots=1",
        "a/b slots=1",
        "a@b@c slots=1",
        "@host slots=1",
        "host- slots=1",
        "hôst slots=1",
        f"{'a' * 254} slots=1",
    ],
)
def test_hostile_names_are_refused_with_their_line(tmp_path: Path, line: str) -> None:
    with pytest.raises(InputError, match=r"hosts:2: .* is not a host name"):
        read_hostfile(written(tmp_path, f"node-1 slots=1\n{line}\n"))


@pytest.mark.parametrize("line", ["node", "node slots", "node slots=", "node slots=two", "node slots = 2", "node 8",
                                  "node slots=8x", "slots=8", "node slots=-1", "node slots=1234567",
                                  "node slots=8 more"])  # fmt: skip
def test_lines_of_another_form(tmp_path: Path, line: str) -> None:
    with pytest.raises(InputError, match=r"hosts:1: .* is not NAME slots=N"):
        read_hostfile(written(tmp_path, line))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no host"),
        ("# a comment\n\n", "names no host"),
        ("a slots=1\nb slots=1\na slots=2\n", "hosts:3: a occurs twice"),
        ("a slots=0\n", "hosts:1: a has no slot"),
    ],
)
def test_contradicting_lines_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_hostfile(written(tmp_path, text))


def test_a_missing_file_and_a_file_without_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent: no such hostfile: see"):
        read_hostfile(tmp_path / "absent")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read"):
        read_hostfile(tmp_path / "bytes")


def test_it_is_read_as_deepspeed_does(tmp_path: Path) -> None:
    text = "# nodes\n\n  node-1 slots=8\nme@node-2.cluster\tslots=04 # half\n10.0.0.3 slots=2\nfe80::1 slots=1\n"
    path = written(tmp_path, text)
    found = read_hostfile(path)
    assert {host.name: host.slots for host in found} == dict(fetch_hostfile(str(path)))
    assert [host.address for host in found] == ["node-1", "node-2.cluster", "10.0.0.3", "fe80::1"]


def test_the_example() -> None:
    assert read_hostfile(ROOT / "launchers" / "hostfile.example") == [Host("node-1", 8), Host("node-2", 8)]
