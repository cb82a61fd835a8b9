"""The GeoTIFFs of a folder: found, looked at without reading a pixel, and cut into tiles of one size."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.disk.regular_file import check_regular
from mmae.errors import InputError
from mmae.finetune.sources.labelled_data import Ground
from mmae.scenes.files.geo_extra import rasterio

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SUFFIXES: Final = (".tif", ".tiff")


@dataclass(frozen=True)
class ImageHead:
    """What a file says before its pixels are read.

    Attributes:
        names: descriptions of its bands; empty where there is none.
        ground: None where it does not say its place.
        scaled: a band declares a scale or an offset.
        no_data: the number that the file declares as no data.
    """

    path: Path
    size: tuple[int, int]
    names: tuple[str, ...]
    dtypes: tuple[str, ...]
    ground: Ground | None
    scaled: bool
    no_data: float | None
    bytes: int


@dataclass(frozen=True)
class Cut:
    """A tile: a window of an image, which may reach beyond its lower and right edges."""

    image: int
    top: int
    left: int


def find_images(folder: Path, what: str) -> dict[str, Path]:
    """Key -> file of every GeoTIFF below a folder, by key. The key is the path below the folder without its suffix.

    Args:
        what: names the key of the recipe in messages.

    Raises:
        InputError: there is no such folder, no GeoTIFF in it, or two that differ in their suffix only.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder: give {what} a folder of GeoTIFFs")
    found: dict[str, Path] = {}
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            if name.startswith(".") or suffix.lower() not in _SUFFIXES:
                continue
            path = Path(root) / name
            key = (path.parent.relative_to(folder) / stem).as_posix()
            if key in found:
                raise InputError(f"{path} and {found[key].name} have the same name: keep one of them")
            found[key] = path
    if not found:
        raise InputError(f"{folder}: holds no GeoTIFF (.tif): give {what} a folder that does")
    return dict(sorted(found.items()))


def read_head(path: Path) -> ImageHead:
    """Look at a file.

    Raises:
        InputError: it cannot be read as a GeoTIFF.
    """
    with opened(path) as file:
        plain = all(scale == 1 for scale in file.scales) and all(offset == 0 for offset in file.offsets)
        named = any(file.descriptions)
        ground = None
        if file.crs is not None and not file.transform.is_identity:
            ground = Ground(file.crs.to_wkt(), tuple(file.transform)[:6])
        return ImageHead(
            path,
            (file.height, file.width),
            tuple(name or f"band {place + 1}" for place, name in enumerate(file.descriptions)) if named else (),
            tuple(file.dtypes),
            ground,
            not plain,
            file.nodata,
            path.stat().st_size,
        )


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A GeoTIFF, open for reading.

    Raises:
        InputError: it is none, is damaged, or may not be read.
    """
    library = rasterio()
    try:
        check_regular(path)
        with library.open(path, driver="GTiff") as file:
            yield file
    except FileNotFoundError:
        raise InputError(f"{path}: does not exist any more: put it back, or start again") from None
    except (OSError, library.errors.RasterioError) as error:
        raise InputError(f"{path}: cannot be read as a GeoTIFF ({error}): copy it again, or leave it out") from None


def cut_images(heads: Sequence[ImageHead], side: int | None, folder: Path) -> tuple[list[Cut], tuple[int, int]]:
    """All tiles, image after image and row after row, and their size.

    Args:
        side: of a tile in pixels; None: each image is one tile.

    Raises:
        InputError: images that are not cut have several sizes.
    """
    if side is None:
        size = heads[0].size
        for head in heads:
            if head.size != size:
                raise InputError(
                    f"{head.path}: is {head.size[0]}x{head.size[1]} pixels, and {heads[0].path.name} is {size[0]}x"
                    f"{size[1]}: bring the images to one size, or cut them into tiles with source.tile=PIXELS"
                )
        return [Cut(number, 0, 0) for number in range(len(heads))], size
    cuts = [
        Cut(number, top, left)
        for number, head in enumerate(heads)
        for top in range(0, head.size[0], side)
        for left in range(0, head.size[1], side)
    ]
    return cuts, (side, side)


def read_window(
    file: Any, cut: Cut, size: tuple[int, int], indexes: Sequence[int], masked: bool = True
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Bands of a tile, (C, H, W) in the stored dtype, and where they are data, bool; no data beyond the image.

    Args:
        indexes: of bands, from 1.
        masked: whether what the file declares as no data is none.
    """
    height, width = min(size[0], file.height - cut.top), min(size[1], file.width - cut.left)
    window = ((cut.top, cut.top + height), (cut.left, cut.left + width))
    read = file.read(list(indexes), window=window, masked=masked)
    values = np.zeros((len(indexes), *size), read.dtype)
    data = np.zeros(values.shape, np.bool_)
    values[:, :height, :width] = np.ma.getdata(read)
    data[:, :height, :width] = ~np.ma.getmaskarray(read)
    return values, data


def ground_of_cut(head: ImageHead, cut: Cut) -> Ground | None:
    """Where a tile's pixels lie."""
    if head.ground is None:
        return None
    a, b, c, d, e, f = head.ground.transform
    return Ground(head.ground.crs, (a, b, c + a * cut.left + b * cut.top, d, e, f + d * cut.left + e * cut.top))


def middles(grounds: Mapping[int, Ground], count: int, size: tuple[int, int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Latitude and longitude of the middle of each tile, float64 (N,); NaN where it is not known."""
    from rasterio.warp import transform

    lat_N, lon_N = np.full((2, count), np.nan)
    by_crs: dict[str, list[int]] = {}
    for position, ground in grounds.items():
        by_crs.setdefault(ground.crs, []).append(position)
    for crs, positions in by_crs.items():
        x, y = zip(*(_middle(grounds[position], size) for position in positions), strict=True)
        lon, lat, *_ = transform(rasterio().crs.CRS.from_wkt(crs), "EPSG:4326", x, y)
        lat_N[positions], lon_N[positions] = lat, lon
    wrong_N = ~np.isfinite(lat_N) | ~np.isfinite(lon_N) | (np.abs(lat_N) > 90)
    lat_N[wrong_N], lon_N[wrong_N] = np.nan, np.nan
    return lat_N, lon_N


def _middle(ground: Ground, size: tuple[int, int]) -> tuple[float, float]:
    a, b, c, d, e, f = ground.transform
    row, column = size[0] / 2, size[1] / 2
    return c + a * column + b * row, f + d * column + e * row
