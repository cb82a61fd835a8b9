from __future__ import annotations

import pytest

from mmae.disk.json_text import parse_json, standard


def test_what_json_says_comes_back() -> None:
    assert parse_json('{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}
    assert parse_json(b"[]") == []


@pytest.mark.parametrize("text", ["", "{", "[" * 200_000, '{"a":' * 200_000, "9" * 10_000, b"\xff"])
def test_whatever_is_wrong_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


def test_numbers_that_standard_json_lacks_become_null() -> None:
    inf, nan = float("inf"), float("nan")
    assert standard({"a": [1.5, nan, (inf, "x")], "b": {"c": -inf}}) == {
        "a": [1.5, None, [None, "x"]],
        "b": {"c": None},
    }
    assert standard(True) is True
