"""Secrets in addresses, in every place of one, and in lines that hold several."""

from __future__ import annotations

import pytest

from mmae.addresses import (
    hide_in_command,
    hide_in_text,
    hide_in_words,
    is_incomplete,
    secrets_of,
    without_commands,
    without_secrets,
)

LOCATIONS = [
    ("", ""),
    ("/data/a?b", "/data/a?b"),
    ("https://host/a", "https://host/a"),
    ("https://[::1]:80/x@y", "https://[::1]:80/x@y"),
    ("s3://bucket/a@b", "s3://bucket/a@b"),
    ("https://me:SECRET@host:8080/set", "https://***@host:8080/set"),
    ("https://SECRET@host/set", "https://***@host/set"),
    ("https://me:SEC@RET@host/set", "https://***@host/set"),
    ("s3://key:SEC/RET@bucket/p", "s3://***@bucket/p"),
    ("https://me:SEC?R#ET@host/x", "https://***@host/x"),
    ("https://host/set?X-Amz-Signature=SECRET&b=1", "https://host/set?***"),
    ("https://host?SECRET", "https://host?***"),
    ("https://host/set#SECRET", "https://host/set#***"),
    ("simplecache::s3://key:SECRET@bucket/p", "simplecache::s3://***@bucket/p"),
    ("abfs://container@account.dfs/x", "abfs://container@account.dfs/x"),
    ("abfs://container@account.dfs/x?sig=SECRET", "abfs://container@account.dfs/x?***"),
    ("pipe:curl -H 'Authorization: Bearer SECRET' https://host/{}", "pipe:curl ***"),
    ("pipe:TOKEN=SECRET curl {}", "pipe: ***"),
    ("pipe:", "pipe: ***"),
]


@pytest.mark.parametrize(("said", "shown"), LOCATIONS)
def test_what_is_secret_is_not_shown_and_what_is_left_is_known_to_lack_it(said: str, shown: str) -> None:
    assert without_secrets(said) == shown
    assert without_secrets(shown) == shown
    assert is_incomplete(shown) is (shown != said or said == "pipe: ***")
    assert said == shown or not is_incomplete(said)


def test_a_command_with_stars_of_its_own_is_whole() -> None:
    assert not is_incomplete("pipe:cat /data/***/{}")
    assert not is_incomplete("/data/***")


def test_only_commands_of_files_are_disarmed() -> None:
    assert without_commands("pipe:touch X; cat {}") == "pipe:touch ***"
    assert without_commands("https://me:word@host/a") == "https://me:word@host/a"
    assert without_commands("/data") == "/data"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ([], []),
        (["data.shards=/a", "x=1"], ["data.shards=/a", "x=1"]),
        (["data.shards=[https://me:SECRET@h/a?SECRET,/local]"], ["data.shards=[https://***@h/a?***,/local]"]),
        (["data.shards=[s3://k:SEC]RET@b/p, s3://k:SEC,RET@c/p]"], ["data.shards=[s3://***@b/p, s3://***@c/p]"]),
        (["data.shards=[/a,pipe:curl SECRET {},/b]"], ["data.shards=[/a,pipe:curl ***"]),
    ],
)
def test_words_of_a_command_line_are_shown_without_secrets(words: list[str], shown: list[str]) -> None:
    assert hide_in_words(words) == shown


def test_a_line_for_a_shell_stays_one() -> None:
    assert hide_in_command("run 'a b' x=1") == "run 'a b' x=1"
    assert hide_in_command(r"A=x\ y run a=pipe:curl\ SECRET\ {} 'b c'=2") == r"A=x\ y run 'a=pipe:curl ***' 'b c'=2"
    assert hide_in_command('run "a=pipe:curl -H \\"X: SECRET\\" {}"') == "run 'a=pipe:curl ***'"
    assert hide_in_command("run 'torn pipe:curl SECRET") == "run 'torn pipe:curl ***"


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("https://me:SEC%2FRET@host/a", "login me, password SEC/RET, auth me:SEC%2FRET"),
        ("https://host/a?sig=SEC%2BRET&x=1", "GET /a?sig=SEC%2BRET&x=1 with SEC+RET"),
        ("https://host/a?SECRET", "asked for SECRET"),
        ("pipe:curl -H 'Auth: SECRET' {}", "sh: 1: SECRET: not found"),
        ("pipe:curl 'https://me:SECRET@host/{}'", "curl: (22) me:SECRET"),
    ],
)
def test_a_library_s_own_words_are_searched_for_secrets(location: str, said: str) -> None:
    shown = hide_in_text(said, secrets_of([location]))
    assert "***" in shown
    assert not any(secret in shown for secret in ("SECRET", "SEC/RET", "SEC%2FRET", "SEC%2BRET", "SEC+RET"))


def test_paths_and_programs_of_a_command_stay_readable() -> None:
    said = "cat: /data/set/index.json: No such file or directory"
    assert hide_in_text(said, secrets_of(["pipe:cat /data/set/{}"])) == said
    assert secrets_of(["/data/a", "https://host/a"]) == ()
