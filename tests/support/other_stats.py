"""Shard sets of `tiny_sets` whose index holds other band statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from mmae.data.shards.columns import Columns
from mmae.data.shards.index import Index, write_index
from mmae.data.shards.index_json import DatasetInfo
from tests.support.tiny_sets import DATASETS, write_set


def set_with_stats(
    folder: Path,
    splits: Mapping[str, Sequence[int]],
    band_stats: Mapping[str, Any],
    datasets: Mapping[str, DatasetInfo] = DATASETS,
) -> Index:
    """A set of the given source rows; even rows are L1C, odd ones L2A."""
    index = write_set(folder, splits, datasets=datasets)
    return write_index(
        folder,
        columns=Columns(**{each.name: np.array(getattr(index, each.name)) for each in fields(Columns)}),
        constants={name: np.array(values) for name, values in index.constants.items()},
        datasets=index.datasets,
        band_stats=band_stats,
        shards=index.shards,
        splits=index.splits,
        options=index.options,
        source=index.source,
    )
