"""The comparison of a sample of tiles with the source's band statistics, before anything is packed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.data.checks.units import SAMPLE_TILES, code_problem, thinned, unit_problem
from mmae.errors import InputError
from mmae.modalities import DATASET_BANDS, MODALITIES, entry_levels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from data_tools.source.dataset import Source

_SWITCH: Final = "if they are right all the same, use --no-unit-check"


def check_source(source: Source, computed: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse a source whose values cannot fit its statistics. Report each dataset from which no modality can be made.

    A few tiles of each Sentinel-2 level are read. Tiles that cannot be read are left to the packing.

    Args:
        computed: dataset -> entries that are computed from the tiles themselves, and so agree with them.

    Raises:
        InputError: the scale, offset, level or order of bands of a dataset, or its class codes, cannot be right.
    """
    own = {entry for entries in computed.values() for entry in entries}
    for entry, (dataset, levels, categorical) in _entries(source).items():
        tiles = list(_tiles(source, dataset, levels))
        if not tiles:
            continue
        if categorical:
            problem = code_problem(dataset, np.stack(tiles))
        elif entry in own:
            continue
        else:
            problem = unit_problem(entry, np.stack([thinned(tile, entry) for tile in tiles]), source.band_stats)
        if problem:
            raise InputError(f"{source.path}: {entry}: {problem}; {_SWITCH}")


def unfit(source: Source) -> Iterator[str]:
    """A line for each dataset that is packed as it is, although no modality can use it."""
    for dataset, bands in DATASET_BANDS.items():
        info = source.datasets.get(dataset)
        if info is not None and not _fits(info.shape, bands):
            yield (
                f"note: a tile of {dataset} is {info.shape}, and modalities need ({bands}, height, width) as MMEarth "
                "stores it: it is packed, and training with it is refused"
            )


def _fits(shape: tuple[int, ...], bands: int) -> bool:
    return shape[:1] == (bands,) and len(shape) == 3 and 0 not in shape


def _entries(source: Source) -> dict[str, tuple[str, tuple[int, ...], bool]]:
    """Entry, or categorical dataset -> its dataset, its levels, whether it is categorical."""
    found: dict[str, tuple[str, tuple[int, ...], bool]] = {}
    for row in MODALITIES.values():
        info = source.datasets.get(row.dataset)
        if info is not None and _fits(info.shape, DATASET_BANDS[row.dataset]):
            found |= {
                entry: (row.dataset, levels, row.categorical) for entry, levels in entry_levels(row.dataset).items()
            }
    return found


def _tiles(source: Source, dataset: str, levels: tuple[int, ...]) -> Iterator[NDArray[Any]]:
    rows = np.concatenate([*source.splits.values(), np.empty(0, np.int64)])
    rows = np.sort(rows[np.isin(source.level[rows], levels)])
    some = np.unique(np.linspace(0, len(rows) - 1, min(SAMPLE_TILES, len(rows))).astype(np.int64))
    for row in rows[some].tolist():
        try:
            yield source.read(dataset, row)
        except InputError:
            continue
