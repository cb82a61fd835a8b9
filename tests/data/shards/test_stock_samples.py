"""Whole tiles of stock WebDataset's samples, as a user reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmae.data.shards.codec import CodecError, encode
from mmae.data.shards.stock_samples import constant_array, whole_tile


def entry(value: Any, shape: list[int]) -> list[Any]:
    scalar = np.asarray(value)
    return [scalar.dtype.str, shape, scalar.tobytes().hex()]


def sample(constants: dict[str, Any], **members: Any) -> dict[str, Any]:
    info = json.dumps({"row": 3, "constants": constants}).encode()
    return {"__key__": "000000003", "__url__": "x.tar", "json": info, **members}


def test_members_and_constants_stand_side_by_side() -> None:
    array = np.arange(6, dtype=np.uint16).reshape(1, 2, 3)
    given = sample({"esa_worldcover": entry(np.uint8(10), [1, 2, 3])}, **{"sentinel2.b2": encode(array)})
    whole = whole_tile(given)
    assert np.array_equal(whole["sentinel2.b2"], array)
    assert whole["esa_worldcover.b2"].dtype == np.uint8
    assert whole["esa_worldcover.b2"].tolist() == [[[10, 10, 10], [10, 10, 10]]]
    assert whole["json"]["row"] == 3
    assert (whole["__key__"], whole["__url__"]) == ("000000003", "x.tar")
    assert isinstance(given["json"], bytes), "what was given is left as it is"


def test_no_constants_no_members() -> None:
    assert whole_tile(sample({})).keys() == {"__key__", "__url__", "json"}


def test_decoded_members_are_left_alone() -> None:
    array = np.ones(2)
    given = sample({"a": entry(np.float32(1), [])}, **{"b.b2": array})
    given["json"] = json.loads(given["json"])
    whole = whole_tile(given)
    assert whole["b.b2"] is array
    assert whole["a.b2"].shape == ()
    assert whole_tile(whole).keys() == whole.keys()


@pytest.mark.parametrize(
    "value", [np.float32("nan"), np.float32("-inf"), np.bool_(True), np.float16(0.1), np.int64(-1)]
)
def test_every_bit_comes_back(value: Any) -> None:
    array = constant_array(entry(value, [2, 1]))
    assert array.tobytes() == np.asarray(value).tobytes() * 2
    array[0] = 0  # writable, as torch wants it


@pytest.mark.parametrize(
    "bad",
    [
        None,
        [],
        ["<u2", [1]],
        ["O", [1], "00"],
        [[], [1], "00"],
        ["<u2", [1], "00"],
        ["<u2", [-1], "0000"],
        ["<u2", [1.5], "0000"],
        ["<u2", 3, "0000"],
        ["<u2", [1], "zz"],
        ["<u2", [1], 5],
        ["|u1", [1 << 40], "00"],
        ["|u1", [1] * 9, "00"],
    ],
)
def test_damaged_or_hostile_constants(bad: Any) -> None:
    with pytest.raises(CodecError, match="no constant array"):
        constant_array(bad)


@pytest.mark.parametrize("info", [None, b"{", b"[]", b"{}", b'{"constants": 3}', {"constants": []}])
def test_samples_that_are_not_tiles_are_refused(info: Any) -> None:
    given = {"__key__": "x", **({"json": info} if info is not None else {})}
    with pytest.raises(CodecError, match="json"):
        whole_tile(given)


# webdataset leaves the file it reads to the garbage collector.
@pytest.mark.process
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_real_tiles_through_stock_webdataset(shared: Path, tmp_path: Path) -> None:
    """Nearly every tile lacks a member or two: each is read, with the source's values, in tuples and in batches."""
    import h5py
    import torch
    import webdataset

    from data_tools.repack.command import repack

    source = shared / "mini_mmearth" / "data_1M_v001_64" / "data_1M_v001_64.h5"
    repack(source, tmp_path / "out", tiles_per_shard=100)
    files = str(tmp_path / "out" / "train-{000000..000002}.tar")
    names = ("sentinel2.b2", "esa_worldcover.b2", "canopy_height_eth.b2", "era5.b2", "json")

    stock = webdataset.WebDataset(files, shardshuffle=False)
    with h5py.File(source) as file:
        count = 0
        for *arrays, info in stock.map(whole_tile).to_tuple(*names):
            for name, array in zip(names, arrays, strict=False):
                original = file[name.removesuffix(".b2")][info["row"]]
                assert array.dtype == original.dtype
                assert array.tobytes() == original.tobytes()
            count += 1
    assert count == 288

    batches = webdataset.WebDataset(files, shardshuffle=False).map(whole_tile).to_tuple(*names[:2]).batched(16)
    images, labels = next(iter(torch.utils.data.DataLoader(batches, batch_size=None, num_workers=1)))
    assert (images.shape, labels.shape) == ((16, 13, 64, 64), (16, 1, 64, 64))
