"""Place, date and biome of each tile: from tile_info, or from the datasets that encode them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from data_tools.source.dataset import Source
import numpy as np

from data_tools.source.tile_info import Facts
from mmae.data.shards.columns import UNKNOWN_BIOME


def tile_facts(source: Source) -> Facts:
    """One entry a source row: from tile_info, or else from the datasets that encode places and biomes."""
    listed = source.tile_info.facts(source.tile_ids)
    return Facts(
        lat=_degrees(listed.lat, source, "lat", 90.0),
        lon=_degrees(listed.lon, source, "lon", 180.0),
        date=listed.date,
        biome=_biomes(listed.biome, source),
    )


def _degrees(listed: NDArray[np.float64], source: Source, name: str, bound: float) -> NDArray[np.float64]:
    unknown = np.isnan(listed)
    encoded = source.read_all(name) if unknown.any() else None
    if encoded is None or encoded.shape[1:] != (2,):
        return listed
    sine, cosine = encoded[:, 0].astype(np.float64), encoded[:, 1].astype(np.float64)
    angle = np.degrees(np.arctan2(sine, cosine))
    # A zero vector encodes no angle.
    known = unknown & (np.abs(np.hypot(sine, cosine) - 1) < 0.1) & (np.abs(angle) <= bound)
    return np.where(known, angle, listed)


def _biomes(listed: NDArray[np.uint8], source: Source) -> NDArray[np.uint8]:
    one_hot = source.read_all("biome")
    if one_hot is None or one_hot.ndim != 2 or one_hot.shape[1] >= UNKNOWN_BIOME:
        return listed
    return np.where(one_hot.any(axis=1), one_hot.argmax(axis=1), listed).astype(np.uint8)
