"""Shapes, dtypes and counts of stored tiles, against the table of modalities and the band statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from mmae.errors import InputError
from mmae.modalities import DATASET_BANDS, MODALITIES, entry_levels

if TYPE_CHECKING:
    import numpy as np

_IMAGE_NDIM: Final = 3


def check_shapes(
    where: str, shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, np.dtype[Any]], domains: Sequence[str]
) -> None:
    """Refuse datasets from which the modalities of `domains` would take other bands than they name.

    Args:
        where: names the tiles in the message.
        shapes: dataset -> shape of one tile, (C, H, W).
        dtypes: dataset -> stored dtype.

    Raises:
        InputError: the number of axes or bands is not MMEarth's, a tile is empty, or class codes are not integers.
    """
    for name in domains:
        row = MODALITIES[name]
        shape, bands = shapes[row.dataset], DATASET_BANDS[row.dataset]
        if len(shape) != _IMAGE_NDIM or 0 in shape:
            raise InputError(
                f"{where}: a tile of {row.dataset} has shape {shape}, and modality {name!r} needs ({bands}, height, "
                "width): repack a source that stores it so, or leave the modality out"
            )
        if shape[0] != bands:
            raise InputError(
                f"{where}: {row.dataset} has {shape[0]} bands, but modality {name!r} takes {', '.join(row.band_names)} "
                f"by their places among MMEarth's {bands}: insert each missing band as 0 at its place before mmae "
                "repack (that means no data, as in MMEarth's B10 of L2A), or leave the modality out"
            )
        if row.categorical and dtypes[row.dataset].kind not in "iu":
            raise InputError(
                f"{where}: {row.dataset} is {dtypes[row.dataset]}, but class codes must be integers: repack a source "
                "that stores integers, or leave the modality out"
            )


def check_counts(
    where: str, shapes: Mapping[str, tuple[int, ...]], domains: Sequence[str], band_stats: Mapping[str, Any]
) -> None:
    """Refuse statistics with more or fewer numbers than their dataset has bands.

    Raises:
        InputError: an entry does not fit; it is named with both counts.
    """
    for row in (MODALITIES[name] for name in domains if not MODALITIES[name].categorical):
        for entry in entry_levels(row.dataset):
            table, bands = band_stats.get(entry), shapes[row.dataset][0]
            for kind in ("mean", "std"):
                listed = table.get(kind) if isinstance(table, Mapping) else None
                if isinstance(listed, list) and len(listed) != bands:
                    raise InputError(
                        f"{where}: {row.dataset} has {bands} bands, and the band statistics of {entry} have "
                        f"{len(listed)} numbers ({kind}): compute them from these shards with mmae stats"
                    )
