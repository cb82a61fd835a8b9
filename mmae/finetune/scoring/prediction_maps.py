"""Predictions of pixels as GeoTIFFs, one a tile: codes of classes, or numbers in units.

A shard set knows the middle of each tile, and not its grid. So a map lies on the UTM grid of 10 m around that place: it
may be off by a few pixels, and its tags say so. A tile of a GeoTIFF has the grid of its file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.disk.files import writing
from mmae.errors import InputError
from mmae.scenes.files.geo_extra import rasterio

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from mmae.data.shards.index import Index
    from mmae.finetune.labelled.tuning_samples import Samples
    from mmae.finetune.sources.labelled_data import Ground
    from mmae.model.tuned.task import Task
    from mmae.types import Batch

NO_GROUNDS: Final[Mapping[int, Ground]] = MappingProxyType({})

_METRES: Final = 10.0
_REMEDY: Final = "make room, or choose another run.dir"
_BYTE: Final = 255
_PLACED: Final = "middle of the tile on the nearest 10 m of UTM: the tile's own grid is not known"


class PredictionMaps:
    """Writes the maps of this rank's tiles into a folder that all ranks share.

    Args:
        grounds: position in the index -> the grid of the tile, where it is known.
        resized: samples are whole tiles in another size, not their middle.
    """

    def __init__(
        self,
        folder: Path,
        index: Index,
        task: Task,
        grounds: Mapping[int, Ground] = NO_GROUNDS,
        tile_hw: tuple[int, int] = (0, 0),
        resized: bool = False,
    ) -> None:
        self._folder, self._index, self._task = folder, index, task
        self._grounds, self._tile_hw, self._resized = grounds, tile_hw, resized
        self._names = _file_names([each.decode() for each in index.tile_id.tolist()])
        self._place_of = {row: place for place, row in enumerate(index.row.tolist())}
        # Before tiles are predicted: the extra may be missing.
        rasterio()

    def take(self, predicted: Tensor, samples: Samples, batch: Batch) -> None:
        """Write the real tiles of a batch.

        Raises:
            InputError: a file cannot be written.
        """
        with writing(self._folder, _REMEDY):
            self._folder.mkdir(parents=True, exist_ok=True)
        for tile in batch.real_B.nonzero().flatten().tolist():
            place = self._place_of[int(batch.row_B[tile])]
            self._write(place, self._bands(predicted[tile]))

    def _bands(self, predicted_KHW: Tensor) -> NDArray[Any]:
        if self._task.regression:
            numbers: NDArray[Any] = predicted_KHW.float().cpu().numpy()
            return numbers
        codes = np.array(self._task.codes)
        dtype = np.uint8 if codes.min() >= 0 and codes.max() < _BYTE else np.int32
        ids_HW = predicted_KHW.argmax(0).cpu().numpy()
        bands: NDArray[Any] = codes.astype(dtype)[ids_HW][None]
        return bands

    def _write(self, place: int, bands_CHW: NDArray[Any]) -> None:
        library, index, task = rasterio(), self._index, self._task
        tile_id = index.tile_id[place].decode()
        path = self._folder / f"{self._names[place]}.tif"
        known = self._grid(place, bands_CHW.shape[1], bands_CHW.shape[2])
        grid = known or _utm(float(index.lat[place]), float(index.lon[place]), *bands_CHW.shape[1:])
        try:
            with library.open(
                path, "w", driver="GTiff", dtype=bands_CHW.dtype, count=len(bands_CHW), compress="deflate",
                height=bands_CHW.shape[1], width=bands_CHW.shape[2], **grid,
            ) as file:  # fmt: skip
                file.write(bands_CHW)
                file.descriptions = task.targets if task.regression else (task.name,)
                tags = {"tile": tile_id, "task": task.name, **({"place": _PLACED} if grid and not known else {})}
                if not task.regression:
                    tags["classes"] = ", ".join(
                        f"{code} {name}" for code, name in zip(task.codes, task.classes, strict=True)
                    )
                file.update_tags(**tags)
        except (library.errors.RasterioError, OSError) as error:
            path.unlink(missing_ok=True)
            raise InputError(f"{path}: cannot be written ({error}): {_REMEDY}") from error

    def _grid(self, place: int, height: int, width: int) -> dict[str, Any]:
        """CRS and transform of a sample of a tile whose grid is known; empty where it is not."""
        ground = self._grounds.get(place)
        if ground is None:
            return {}
        from affine import Affine

        (rows, columns), whole = self._tile_hw, Affine(*ground.transform)
        if self._resized:
            inside = Affine.scale(columns / width, rows / height)
        else:
            inside = Affine.translation((columns - width) // 2, (rows - height) // 2)
        return {"crs": rasterio().crs.CRS.from_wkt(ground.crs), "transform": whole * inside}


def _utm(lat: float, lon: float, height: int, width: int) -> dict[str, Any]:
    """CRS and transform of a tile around its middle; empty where its place is not known."""
    if not (np.isfinite(lat) and np.isfinite(lon)) or abs(lat) > 84:
        return {}
    from affine import Affine
    from rasterio.warp import transform

    zone = min(60, int((lon + 180) % 360 // 6) + 1)
    crs = rasterio().crs.CRS.from_epsg((32600 if lat >= 0 else 32700) + zone)
    (x,), (y,) = transform("EPSG:4326", crs, [lon], [lat])
    left, top = (round((middle + sign * side * _METRES / 2) / _METRES) * _METRES
                 for middle, sign, side in ((x, -1, width), (y, 1, height)))  # fmt: skip
    return {"crs": crs, "transform": Affine(_METRES, 0, left, 0, -_METRES, top)}


def _file_names(tile_ids: list[str]) -> list[str]:
    """A name of a file for each tile, no two alike, whatever the case of letters."""
    names = [_file_name(tile_id) for tile_id in tile_ids]
    count = Counter(name.lower() for name in names)
    return [name if count[name.lower()] == 1 else f"{place}-{name}" for place, name in enumerate(names)]


def _file_name(tile_id: str) -> str:
    """The tile's id as it may name a file."""
    safe = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_.-") else "_" for letter in tile_id)
    return safe.lstrip(".")[:200] or "tile"
