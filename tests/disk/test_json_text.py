from __future__ import annotations

import pytest

from mmae.disk.json_text import parse_json, standard_json


def test_what_json_says_comes_back() -> None:
    assert parse_json('{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}
    assert parse_json(b"[]") == []


@pytest.mark.parametrize("text", ["", "{", "[" * 200_000, '{"a":' * 200_000, "9" * 10_000, b"\xff"])
def test_whatever_is_wrong_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


def test_what_is_parsed_may_be_too_deep_to_be_made_standard() -> None:
    value = parse_json("[" * 600 + "NaN" + "]" * 600)
    with pytest.raises(ValueError, match="nested too deeply"):
        standard_json(value)


def test_what_json_cannot_say_is_null() -> None:
    nan, infinity = float("nan"), float("inf")
    assert standard_json({"a": [nan, 1, {"b": -infinity}], "c": (infinity, "nan", 0.5)}) == {
        "a": [None, 1, {"b": None}],
        "c": [None, "nan", 0.5],
    }
