"""Predictions of pixels as GeoTIFFs, one a tile: codes of classes, or numbers in units.

A shard set knows the middle of each tile, and not its grid. So a map lies on the UTM grid of 10 m around that place: it
may be off by a few pixels, and its tags say so. A tile of a GeoTIFF has the grid of its file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.disk.files import file_name, writing
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
        covers_hw: height and width of a pixel of the maps in pixels of the tiles: not 1 where tiles were resized.
        grounds: position in the index -> the grid of the tile, where it is known.
        tile_hw: height and width of these tiles in pixels.
    """

    def __init__(
        self,
        folder: Path,
        index: Index,
        task: Task,
        covers_hw: tuple[float, float] = (1.0, 1.0),
        grounds: Mapping[int, Ground] = NO_GROUNDS,
        tile_hw: tuple[int, int] = (0, 0),
    ) -> None:
        self._folder, self._index, self._task = folder, index, task
        self._covers_hw, self._grounds, self._tile_hw = covers_hw, grounds, tile_hw
        self._pixel_hw = (_METRES * covers_hw[0], _METRES * covers_hw[1])
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
        path = self._folder / _name(tile_id, int(index.row[place]))
        known = self._grid(place, bands_CHW.shape[1], bands_CHW.shape[2])
        grid = known or _utm(float(index.lat[place]), float(index.lon[place]), bands_CHW.shape[1:], self._pixel_hw)
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

        (rows, columns), (tall, wide) = self._tile_hw, self._covers_hw
        a, b, c, d, e, f = ground.transform
        # The sample is the middle of the tile, as `centre_corners` has it.
        left, top = (columns - round(width * wide)) // 2, (rows - round(height * tall)) // 2
        inside = Affine(a * wide, b * tall, c + a * left + b * top, d * wide, e * tall, f + d * left + e * top)
        return {"crs": rasterio().crs.CRS.from_wkt(ground.crs), "transform": inside}


def _utm(lat: float, lon: float, size_hw: tuple[int, ...], pixel_hw: tuple[float, float]) -> dict[str, Any]:
    """CRS and transform of a tile around its middle; empty where its place is not known.

    Args:
        pixel_hw: height and width of a pixel in metres.
    """
    if not (np.isfinite(lat) and np.isfinite(lon)) or abs(lat) > 84:
        return {}
    from affine import Affine
    from rasterio.warp import transform

    zone = min(60, int((lon + 180) % 360 // 6) + 1)
    crs = rasterio().crs.CRS.from_epsg((32600 if lat >= 0 else 32700) + zone)
    (x,), (y,) = transform("EPSG:4326", crs, [lon], [lat])
    (height, width), (tall, wide) = size_hw, pixel_hw
    left, top = (round((middle + half) / _METRES) * _METRES
                 for middle, half in ((x, -width * wide / 2), (y, height * tall / 2)))  # fmt: skip
    return {"crs": crs, "transform": Affine(wide, 0, left, 0, -tall, top)}


def _name(tile_id: str, row: int) -> str:
    """The file of a tile: its id, and its row in the source where the id cannot name a file as it is."""
    safe = file_name(tile_id).lstrip(".")[:200]
    return f"{tile_id}.tif" if safe == tile_id and safe else f"{safe or 'tile'}_row{row}.tif"
