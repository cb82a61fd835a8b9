"""The check of one tile against the index and the source: header, checksum, padding, content of each member."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from data_tools.verify.differences import Difference
from data_tools.verify.header import Headers
from mmae.data.shards.codec import CodecError, decode
from mmae.data.shards.tar_layout import BLOCK, extents, info_name, member_checksum, member_name
from mmae.disk.json_text import parse_json, standard_json
from mmae.modalities import S2_LEVELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from data_tools.verify.source_comparison import Reference
    from mmae.data.shards.index import Index

INFO: Final = "json"
"""The name of the `.json` member in messages, in place of a dataset's."""


class TileCheck:
    """Checks the tiles of an index.

    Attributes:
        regular: so far, each header belonged to the member that the index has there.
    """

    def __init__(self, index: Index, reference: Reference | None) -> None:
        self._index = index
        self._reference = reference
        self._datasets = list(index.datasets.items())
        self._headers = Headers()
        self.regular = True

    def differences(self, position: int, content: bytes, tile_info: str | None) -> Iterator[Difference]:
        """The faults of a tile.

        Args:
            content: its bytes in the shard; fewer than in the index if the shard ends too early.
            tile_info: the source's entry as JSON; None without a source.
        """
        index = self._index
        shard, row = index.shards[index.shard.item(position)].name, index.row.item(position)
        for dataset, what in self._differences(position, row, memoryview(content), tile_info):
            yield Difference(shard, row, dataset, what)

    def _differences(
        self, position: int, row: int, content: memoryview, tile_info: str | None
    ) -> Iterator[tuple[str | None, str]]:
        index, begin = self._index, self._index.offset.item(position)
        if len(content) == 0:
            self.regular = False
            yield None, "the shard ends before it"
            return
        sizes, checksums = index.size[position].tolist(), index.checksum[position].tolist()
        sizes.append(index.info_size.item(position))
        for column, start, length in extents(sizes[:-1], sizes[-1]):
            dataset = INFO if column == len(self._datasets) else self._datasets[column][0]
            name = info_name(row) if dataset is INFO else member_name(row, dataset)
            extent = content[start : start + length]
            wrong = self._extent(extent, length, begin + start, name, sizes[column], checksums[column])
            yield from ((dataset, what) for what in wrong)
            if wrong:
                continue
            payload = extent[BLOCK : BLOCK + sizes[column]]
            if dataset is INFO:
                yield from ((INFO, what) for what in self._info(position, row, payload, tile_info))
            else:
                yield from ((dataset, what) for what in self._array(row, dataset, payload))
        if self._reference is not None:
            for column, (dataset, info) in enumerate(self._datasets):
                if sizes[column] == 0:
                    constant = np.broadcast_to(index.constants[dataset][position], info.shape)
                    yield from ((dataset, what) for what in self._reference.compare(row, dataset, constant))

    def _extent(self, extent: memoryview, length: int, begin: int, name: str, size: int, checksum: int) -> list[str]:
        if len(extent) < length:
            self.regular = False
            return ["the shard ends within it" if len(extent) else "the shard ends before it"]
        fault = self._headers.fault(bytes(extent[:BLOCK]), name, size)
        self.regular &= fault is None
        if member_checksum(extent) != checksum:
            detail = f" ({fault})" if fault else ""
            return [f"the checksum of its {length} bytes from {begin} on differs{detail}"]
        padding = ["its padding is not 0"] if bytes(extent[BLOCK + size :]).strip(b"\0") else []
        return [fault, *padding] if fault else padding

    def _array(self, row: int, dataset: str, payload: memoryview) -> list[str]:
        info = self._index.datasets[dataset]
        try:
            array = decode(payload)
        except CodecError as error:
            return [str(error)]
        if array.dtype != info.dtype or array.shape != info.shape:
            return [f"{array.dtype} {array.shape}, the index says {info.dtype} {info.shape}"]
        wrong = ["constant, yet stored as a member"] if _is_constant(array) else []
        return wrong if self._reference is None else wrong + self._reference.compare(row, dataset, array)

    def _info(self, position: int, row: int, payload: memoryview, tile_info: str | None) -> list[str]:
        index = self._index
        try:
            info = parse_json(bytes(payload))
        except ValueError as error:
            return [f"not JSON ({error})"]
        if not isinstance(info, dict):
            return ["not a JSON object"]
        split = index.splits[index.split[position]]
        expected = {
            "row": row,
            "tile_id": index.tile_id[position].decode(),
            "split": split,
            "s2_level": S2_LEVELS[index.level[position]],
            "constants": {
                name: [described.dtype.str, list(described.shape), index.constants[name][position].tobytes().hex()]
                for column, (name, described) in enumerate(self._datasets)
                if index.size[position, column] == 0
            },
        }
        wrong = [
            f"{key} is {info.get(key)!r}, not {value!r}" for key, value in expected.items() if info.get(key) != value
        ]
        shard = index.shards[index.shard[position]]
        if split != shard.split:
            wrong.append(f"split {split!r} in a shard of {shard.split!r}")
        if tile_info is not None:
            wrong += _against_source(info.get("tile_info"), tile_info)
        return wrong


def _against_source(packed: object, tile_info: str) -> list[str]:
    try:
        same = packed == standard_json(parse_json(tile_info))
    except (ValueError, RecursionError) as error:
        return [f"tile_info of the source cannot be compared ({error})"]
    return [] if same else ["tile_info differs from the source"]


def _is_constant(array: NDArray[Any]) -> bool:
    bits = array.reshape(-1).view(f"u{array.dtype.itemsize}")
    # Most arrays that differ already differ at their ends.
    return bits.size > 0 and bits.item(0) == bits.item(-1) and bool((bits == bits[0]).all())
