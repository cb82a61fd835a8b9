from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.source.tile_info import TileInfo, read_tile_info
from mmae.errors import InputError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.long
@given(
    st.dictionaries(st.text(), st.dictionaries(st.text(), VALUES, max_size=4), max_size=6),
    st.sampled_from([None, 0, 2, "\t"]),
    st.booleans(),
)
def test_the_same_as_json(content: dict[str, Any], indent: Any, ascii_only: bool) -> None:
    text = json.dumps(content, indent=indent, ensure_ascii=ascii_only)
    info = TileInfo(f" {text}\n")
    assert list(info) == list(content)
    assert len(info) == len(content)
    for key, entry in content.items():
        assert key in info
        assert json.dumps(info[key]) == json.dumps(entry)
        assert json.loads(info.text(key)).keys() == entry.keys()
    assert "no such tile" not in info


@pytest.mark.parametrize(
    "text",
    ["", " ", "{", "[]", "3", "null", "{a: {}}", "{,}", "{1: {}}", "{} {}", "x{}", '{"a"}', '{"a": }', '{"a": {}'],
)
def test_what_is_no_object(text: str, tmp_path: Path) -> None:
    refused(text, tmp_path)


@pytest.mark.parametrize(
    "text", ['{"a": {},}', '{"a": {}} x', '{"a" {}}', '{"a": {} "b": {}}', '{"a": {}}}', '{"a: {}}', '{"a": {}, 3: {}}']
)
def test_what_ends_or_goes_on_wrongly(text: str, tmp_path: Path) -> None:
    refused(text, tmp_path)


def refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (json's own and ours)
        TileInfo(text)
    (tmp_path / "info.json").write_text(text)
    with pytest.raises(InputError, match=r"info.json: not JSON, or not a JSON object .*: download it again$") as caught:
        read_tile_info(tmp_path / "info.json")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_tile_info(tmp_path / "info.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_tile_info(tmp_path)
    (tmp_path / "info.json").write_bytes(b'{"\xff": {}}')
    with pytest.raises(InputError, match="not JSON"):
        read_tile_info(tmp_path / "info.json")
    (tmp_path / "info.json").write_text('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(InputError, match="not JSON"):
        read_tile_info(tmp_path / "info.json")


def test_encodings_of_json(tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        (tmp_path / "info.json").write_text('{"Å": {"lat": 1}}', encoding)
        assert read_tile_info(tmp_path / "info.json")["Å"] == {"lat": 1}


def test_of_a_key_that_comes_twice_the_last_counts() -> None:
    info = TileInfo('{"a": {"lat": 1}, "b": {}, "a": {"lat": 2}, "c": {}, "c": 3, "d": 3, "d": {}}')
    assert dict(info) == {"b": {}, "a": {"lat": 2}, "d": {}}
    assert info.facts(["a"]).lat.tolist() == [2.0]
    with pytest.raises(KeyError):
        info["c"]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({}, (None, None, 0, 255)),
        ({"lat": -90, "lon": 180.0, "S2_DATE": "2020-02-03", "biome": 0}, (-90, 180, 20200203, 0)),
        ({"lat": 90.1, "lon": float("inf"), "S2_DATE": 20200203, "biome": 255}, (None, None, 0, 255)),
        ({"lat": "1", "lon": None, "S2_DATE": "3.2.2020", "biome": -1}, (None, None, 0, 255)),
        ({"lat": float("nan"), "lon": 10**400, "S2_DATE": "2020-02-03T10:00"}, (None, None, 20200203, 255)),
        ({"lat": True, "biome": True}, (None, None, 0, 255)),
    ],
)
def test_facts(entry: dict[str, Any], expected: tuple[Any, ...]) -> None:
    facts = TileInfo(json.dumps({"a": {"lat": 5.0}, "b": entry})).facts(["b", "a", "b"])
    found = [None if np.isnan(values[0]) else values[0].item() for values in facts]
    assert tuple(found) == expected
    assert [values.dtype.str for values in facts] == ["<f8", "<f8", "<i4", "|u1"]
    assert facts.lat[1] == 5.0


def test_no_tiles() -> None:
    info = TileInfo("{}")
    assert list(info) == []
    assert [len(values) for values in info.facts([])] == [0, 0, 0, 0]
