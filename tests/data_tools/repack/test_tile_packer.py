from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.repack.tile_packer import LostTileError, Memo, TilePacker, constant_entry, info_member, is_constant
from data_tools.source.raw_read import UnreadableTileError
from data_tools.stats.moments import Moments
from mmae.data.shards.codec import DTYPES, decode
from mmae.data.shards.index_json import DatasetInfo
from mmae.disk.json_text import standard_json
from mmae.modalities import S2_LEVELS


@pytest.mark.long
@given(
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 4), max_size=3),
    st.integers(0, 2**64 - 1),
    st.integers(0, 200),
    st.booleans(),
)
def test_is_constant_looks_at_bits(dtype: Any, shape: list[int], value: int, place: int, turned: bool) -> None:
    bits = value.to_bytes(8, "little")[: dtype.itemsize]
    array = np.frombuffer(bits * int(np.prod(shape)), dtype).reshape(shape).copy()
    array = array.T if turned else array
    assert is_constant(array) == (array.size > 0)
    if array.size > 1:
        array.view(f"u{dtype.itemsize}")[np.unravel_index(place % array.size, array.shape)] ^= 1
        assert not is_constant(array)


def test_a_late_difference_is_seen() -> None:
    array = np.zeros((2, 64, 64), np.int16)
    array[-1, -1, -1] = 1
    assert not is_constant(array)
    assert not is_constant(np.array([0.0, -0.0]))
    assert is_constant(np.full(70, np.nan, np.float32))
    assert is_constant(np.array(3, np.int32))
    assert is_constant(np.broadcast_to(np.int16(3), (5, 5)))


CONSTANTS = st.dictionaries(
    st.text("abz_09AZ", min_size=1, max_size=5), st.integers(0, 255).map(lambda value: np.array(value, np.uint8))
)
ENTRIES = st.dictionaries(st.text(), st.none() | st.floats() | st.text() | st.lists(st.floats(), max_size=2))


@pytest.mark.long
@given(st.integers(0, 10**10), st.text(), st.sampled_from([0, 1]), ENTRIES, CONSTANTS)
def test_the_info_member_is_sorted_standard_json(
    row: int, tile_id: str, level: int, entry: dict[str, Any], constants: dict[str, Any]
) -> None:
    listed = [f'"{key}":{json.dumps(constant_entry((2, 3), value))}' for key, value in constants.items()]
    made = info_member(row, tile_id, "val", level, json.dumps(entry), [text.replace(" ", "") for text in listed])
    expected = {
        "row": row,
        "tile_id": tile_id,
        "split": "val",
        "s2_level": S2_LEVELS[level],
        "tile_info": standard_json(entry),
        "constants": {key: constant_entry((2, 3), value) for key, value in constants.items()},
    }
    assert made == json.dumps(expected, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


class Arrays:
    """Tiles that are in memory; None cannot be read."""

    def __init__(self, *arrays: Any) -> None:
        self.arrays = arrays

    def array(self, number: int) -> Any:
        if self.arrays[number] is None:
            raise UnreadableTileError("cannot be read (for a test)")
        return self.arrays[number]


def packer(tiles: dict[str, Any], moments: Moments, statistics: tuple[str, ...] = ()) -> TilePacker:
    infos = {name: DatasetInfo(of.arrays[0].dtype.newbyteorder("<"), of.arrays[0].shape) for name, of in tiles.items()}
    return TilePacker(infos, tiles, "small", "train", Memo(), moments, statistics)


def test_members_and_constants() -> None:
    varied, flat = np.arange(8, dtype=">i2").reshape(2, 4), np.full((1, 2), 7, ">u4")
    tile = packer({"a": Arrays(varied), "b": Arrays(flat)}, Moments()).pack(0, 11, "id", 1, "{}")
    assert list(tile.members) == ["a"]
    assert np.array_equal(decode(tile.members["a"]), varied)
    assert tile.constants["b"].dtype == np.dtype("<u4")
    assert tile.constants["b"] == 7
    assert json.loads(tile.info)["constants"] == {"b": ["<u4", [1, 2], "07000000"]}


def test_a_tile_with_an_entry_that_is_nested_too_deeply_is_lost() -> None:
    moments = Moments()
    made = packer({"aster": Arrays(np.arange(8, dtype=np.int16).reshape(2, 4))}, moments, ("aster",))
    with pytest.raises(LostTileError) as caught:
        made.pack(0, 0, "x", 0, "[" * 600 + "NaN" + "]" * 600)
    assert (caught.value.dataset, caught.value.what) == ("tile_info", "cannot be read (it is nested too deeply)")
    made.finish()
    assert moments.counts() == {}


def test_a_lost_tile_is_not_counted() -> None:
    moments = Moments()
    good = np.arange(8, dtype=np.int16).reshape(2, 4)
    tiles = {"aster": Arrays(good, good), "esa_worldcover": Arrays(good, None)}
    made = packer(tiles, moments, ("aster",))
    made.pack(0, 0, "x", 0, "{}")
    with pytest.raises(LostTileError) as caught:
        made.pack(1, 1, "y", 0, "{}")
    assert (caught.value.dataset, caught.value.what) == ("esa_worldcover", "cannot be read (for a test)")
    made.finish()
    assert moments.counts() == {"aster": [4, 4]}


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.float32])
def test_constant_arrays_are_counted_as_often_as_they_come(dtype: Any) -> None:
    flat = [np.full((2, 3, 3), value, dtype) for value in (5, 127, 5, 0, 127, 5)]
    varied = np.arange(18, dtype=dtype).reshape(2, 3, 3)
    moments, expected = Moments(), Moments()
    made = packer({"canopy_height_eth": Arrays(*flat, varied)}, moments, ("canopy_height_eth",))
    for number, array in enumerate([*flat, varied]):
        made.pack(number, number, "x", 0, "{}")
        expected.update("canopy_height_eth", array)
    made.finish()
    assert moments.counts() == expected.counts() == {"canopy_height_eth": [4 * 9 + 9, 4 * 9 + 9]}
    found, wanted = (of.band_stats()["canopy_height_eth"] for of in (moments, expected))
    for kind, values in wanted.items():
        assert np.allclose(found[kind], values, rtol=1e-12)  # type: ignore[arg-type]


def test_nothing_but_gaps_is_counted_as_nothing() -> None:
    moments = Moments()
    made = packer({"canopy_height_eth": Arrays(np.full((2, 3), 127, np.int8))}, moments, ("canopy_height_eth",))
    made.pack(0, 0, "x", 0, "{}")
    made.finish()
    assert moments.counts() == {"canopy_height_eth": [0, 0]}


def test_a_memo_is_bounded() -> None:
    memo = Memo()
    varied = packer({"a": Arrays(np.arange(8, dtype=np.int16))}, Moments())._encode("a", np.arange(8, dtype=np.int16))
    for number in range(100_000):
        key = ("a", 0, str(number).encode())
        memo.put(key, varied)
        assert memo.get(key) is varied
        assert len(memo._packed) < 20_000
