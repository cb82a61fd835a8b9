"""A file brought to the grid of a scene, whose pixels without data are not mixed into their neighbours.

GDAL knows one no-data value a band, and a file may have several: the one that it declares, a mask, 0 in Sentinel-2, and
marks that it does not declare. So a virtual file stands between: in it all of these are one number, which is declared.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree

from mmae.inference.undeclared_no_data import ABOVE, BELOW
from mmae.modalities import MODALITIES
from mmae.scenes.files.geo_extra import rasterio

if TYPE_CHECKING:
    from mmae.scenes.files.ground_grid import Grid

_SENTINEL2: Final = "sentinel2"
_NEAR: Final = 1e-3
"""Between a number that means no data and the nearest one that is data."""


@contextmanager
def warped_file(file: Any, dataset: str, grid: Grid, resampling: str) -> Iterator[Any]:
    """An open file on another grid, with the same bands; it is closed at the end, and the given one is not.

    Args:
        file: open GeoTIFF.
        dataset: what its bands are: it decides which numbers are no data. Class codes are taken from the nearest
            pixel, whatever `resampling` says.
        resampling: `nearest`, `bilinear` or `average`.
    """
    from rasterio.enums import Resampling
    from rasterio.vrt import WarpedVRT

    rows = [row for row in MODALITIES.values() if row.dataset == dataset]
    codes = any(row.categorical for row in rows)
    numbers = {number for row in rows for number in row.no_data}
    nodata = rows[0].no_data[0] if codes or dataset == _SENTINEL2 else ABOVE
    kind = "UInt16" if dataset == _SENTINEL2 and set(file.dtypes) == {"uint16"} else "Float32"
    table = None if codes else _table(nodata, numbers)
    with (
        rasterio().open(_virtual(file, "Int32" if codes else kind, nodata, table)) as source,
        WarpedVRT(
            source,
            crs=grid.crs,
            transform=grid.affine,
            height=grid.height,
            width=grid.width,
            resampling=Resampling.nearest if codes else Resampling[resampling],
            nodata=nodata,
            # GDAL would otherwise take a pixel for data in all bands where one of them has data.
            UNIFIED_SRC_NODATA="NO",
        ) as warped,
    ):
        yield warped


def _virtual(file: Any, kind: str, nodata: float, table: str | None) -> str:
    """GDAL's description of a virtual file with the same bands, in which `nodata` alone means no data.

    Args:
        kind: GDAL's name of its dtype.
        table: what numbers become.
    """
    root = ElementTree.Element("VRTDataset", rasterXSize=str(file.width), rasterYSize=str(file.height))
    ElementTree.SubElement(root, "SRS").text = file.crs.to_wkt()
    ElementTree.SubElement(root, "GeoTransform").text = ", ".join(map(repr, file.transform.to_gdal()))
    for index in file.indexes:
        band = ElementTree.SubElement(root, "VRTRasterBand", dataType=kind, band=str(index))
        ElementTree.SubElement(band, "NoDataValue").text = str(nodata)
        source = ElementTree.SubElement(band, "ComplexSource")
        # A whole path: GDAL takes the beginning of some others for the name of a driver.
        ElementTree.SubElement(source, "SourceFilename", relativeToVRT="0").text = os.path.abspath(file.name)
        ElementTree.SubElement(source, "SourceBand").text = str(index)
        # What the file's mask or its own no-data value hides stays `nodata`.
        ElementTree.SubElement(source, "UseMaskBand").text = "true"
        if table is not None:
            ElementTree.SubElement(source, "LUT").text = table
    return ElementTree.tostring(root, encoding="unicode")


def _table(nodata: float, numbers: Set[float]) -> str:
    """Pairs of numbers, between which GDAL draws straight lines: all that means no data becomes `nodata`.

    That is what is `nodata` or less, the `numbers`, what is too large for a measurement, and NaN. The rest stays.
    """
    pairs = {nodata: nodata, BELOW - _NEAR: BELOW - _NEAR, BELOW: nodata}
    for number in {nodata, *numbers}:
        pairs |= {place: place for place in (number - _NEAR, number + _NEAR) if place > nodata} | {number: nodata}
    return ",".join(f"{stored!r}:{becomes!r}" for stored, becomes in sorted(pairs.items()))
