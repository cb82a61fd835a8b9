"""The vectors of tiles as one Parquet file: key, split, place, date and vector of each tile."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.disk.files import atomic_file, writing
from mmae.scenes.files.geo_extra import pyarrow
from mmae.scenes.files.number_format import Loss, NumberFormat
from mmae.scenes.files.partial_output import REMEDY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.data.shards.index import Index

METADATA: Final = b"mmae"


@dataclass(frozen=True, eq=False)
class TileVectors:
    """Vectors float32 (N, D) of the tiles at some positions of an index; NaN for a tile without data."""

    positions_N: NDArray[np.int64]
    vectors_ND: NDArray[np.float32]


def write_parquet(
    path: Path, index: Index, parts: Iterator[TileVectors], form: NumberFormat, facts: Mapping[str, Any]
) -> Loss:
    """Write parts one after the other, each as a row group; the file is there whole or not at all.

    Args:
        facts: JSON-able, into the file's metadata under `mmae`, with the scale of each dimension of an int8 vector.

    Returns:
        What the format loses against float32.

    Raises:
        InputError: the file cannot be written, or exists by now.
    """
    loss = Loss()
    library = pyarrow()
    writer = None
    with writing(path, REMEDY), atomic_file(path, replace=False) as file:
        try:
            for part in parts:
                if writer is None:
                    schema = _schema(form, part.vectors_ND.shape[1], facts)
                    writer = library.parquet.ParquetWriter(file, schema, compression="zstd")
                stored_ND = form.stored(part.vectors_ND)
                loss.add(part.vectors_ND, form.restored(stored_ND))
                writer.write_table(_table(index, part, stored_ND, schema))
        finally:
            if writer is not None:
                writer.close()
    return loss


def _schema(form: NumberFormat, dim: int, facts: Mapping[str, Any]) -> Any:
    library = pyarrow()
    number = {"float32": library.float32(), "float16": library.float16(), "int8": library.int8()}[form.dtype]
    scale = {} if form.scale_D is None else {"scale": form.scale_D.tolist()}
    return library.schema(
        [
            ("key", library.string()),
            ("split", library.string()),
            ("latitude", library.float64()),
            ("longitude", library.float64()),
            ("date", library.date32()),
            ("vector", library.list_(number, dim)),
        ],
        metadata={METADATA: json.dumps({**facts, **scale})},
    )


def _table(index: Index, part: TileVectors, stored_ND: NDArray[Any], schema: Any) -> Any:
    library, at_N = pyarrow(), part.positions_N
    empty_N = np.isnan(part.vectors_ND).any(1)
    rows, dim = stored_ND.shape
    vectors = library.FixedSizeListArray.from_arrays(
        library.array(np.ascontiguousarray(stored_ND).reshape(-1)), dim, mask=library.array(empty_N)
    )
    assert len(vectors) == rows
    return library.table(
        {
            "key": [name.decode(errors="replace") for name in index.tile_id[at_N].tolist()],
            "split": [index.splits[number] for number in index.split[at_N].tolist()],
            "latitude": library.array(index.lat[at_N], from_pandas=True),
            "longitude": library.array(index.lon[at_N], from_pandas=True),
            "date": _dates(index.date[at_N]),
            "vector": vectors,
        },
        schema=schema,
    )


def _dates(yyyymmdd_N: NDArray[np.int32]) -> Any:
    """Days; null where the date is not known, or is none."""
    library = pyarrow()
    words = [f"{day // 10000:04d}-{day // 100 % 100:02d}-{day % 100:02d}" for day in yyyymmdd_N.tolist()]
    days = [_day(word) for word in words]
    return library.array(days, library.date32())


def _day(word: str) -> Any:
    try:
        return np.datetime64(word, "D").item() if not word.startswith("0000") else None
    except ValueError:
        return None
