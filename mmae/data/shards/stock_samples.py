"""Samples as stock WebDataset reads them from shards -> whole tiles.

    files = "shards/train-{000000..000299}.tar"
    dataset = webdataset.WebDataset(files).map(whole_tile).to_tuple("sentinel2.b2", "esa_worldcover.b2", "json")

An array that is constant over a tile has no member in the shard: it stands in the tile's `.json` member, under
`constants`. `whole_tile` puts it where the others are.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.data.shards.codec import DTYPES, MAX_NBYTES, MAX_NDIM, CodecError, decode
from mmae.disk.json_text import parse_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ARRAY: Final = ".b2"
_INFO: Final = "json"
_DTYPES: Final = MappingProxyType({dtype.str: dtype for dtype in DTYPES})


def whole_tile(sample: dict[str, Any]) -> dict[str, Any]:
    """A sample with every dataset of its tile as an array `<dataset>.b2`, and `json` as an object.

    A map function for `webdataset.WebDataset`: at module level, so that it reaches workers. What an earlier step has
    decoded is left as it is.

    Args:
        sample: member extension -> its bytes, and WebDataset's own keys.

    Raises:
        CodecError: a member is damaged, or no `.json` member says what is constant.
    """
    info = _info(sample.get(_INFO))
    whole = {
        key: decode(value) if key.endswith(_ARRAY) and isinstance(value, bytes) else value
        for key, value in sample.items()
    }
    whole[_INFO] = info
    for name, entry in info["constants"].items():
        whole.setdefault(name + _ARRAY, constant_array(entry))
    return whole


def constant_array(entry: Any) -> NDArray[Any]:
    """The array that an entry of `constants` describes: its dtype, its shape, one element's bytes in hexadecimal.

    Raises:
        CodecError: it does not describe an array that a shard may hold.
    """
    try:
        code, shape, bits = entry
        dtype, value = _DTYPES[code], bytes.fromhex(bits)
        sound = len(value) == dtype.itemsize and len(shape) <= MAX_NDIM
        sound = sound and all(type(length) is int and length >= 0 for length in shape)
        if not sound or math.prod(shape) * dtype.itemsize > MAX_NBYTES:
            raise ValueError("sizes that do not fit together")
    except (TypeError, ValueError, KeyError) as error:
        raise CodecError(f"no constant array: {error!r}") from None
    return np.full(shape, np.frombuffer(value, dtype)[0], dtype)


def _info(member: object) -> dict[str, Any]:
    try:
        info = parse_json(member) if isinstance(member, bytes) else member
    except ValueError as error:
        raise CodecError(f"the .json member is not JSON ({error})") from None
    if not isinstance(info, dict) or not isinstance(info.get("constants"), dict):
        raise CodecError("no .json member that lists constant arrays: is this a tile of mmae repack?")
    return info
