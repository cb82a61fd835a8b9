"""Finished units as one cloud-optimised GeoTIFF (COG): assembled in a plain file, given overviews, and copied."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmae.disk.files import sync
from mmae.errors import InputError
from mmae.scenes.files.geo_extra import rasterio
from mmae.scenes.files.ground_grid import Grid
from mmae.scenes.files.number_format import NO_DATA_INT8, Loss, NumberFormat, number_format
from mmae.scenes.files.partial_output import REMEDY, PartialOutput
from mmae.scenes.files.rasters import UNIT_ROWS, Raster, Unit
from mmae.terminal.printable import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Stored = Callable[[NDArray[Any]], NDArray[Any]]

_STDERR: Final = 2
_PLAIN_WIDTH: Final = 256
"""Columns of a block of the plain file, which is read block by block when it is copied."""
_BLOCK: Final = 512
_LEAST_BLOCK: Final = 64
_BLOCK_BYTES: Final = 1 << 24
"""A reader takes a whole block with all of its bands into memory."""
_SMALLEST_OVERVIEW: Final = 256


def write_cog(
    partial: PartialOutput,
    units: Sequence[Unit],
    raster: Raster,
    grid: Grid,
    path: Path,
    dtype: str | None = None,
    tags: dict[str, str] | None = None,
) -> str:
    """Write the raster of finished units into a file that does not exist yet.

    Args:
        grid: that of the raster.
        dtype: of vectors, one of `number_format.DTYPES`; None: the raster's own.
        tags: facts for readers, beside the raster's own.

    Returns:
        What the dtype loses, in words; empty where it loses nothing.

    Raises:
        InputError: it cannot be written, or a unit is damaged.
    """
    form = None if dtype is None else number_format(dtype, (_vectors(partial, unit, raster) for unit in units))
    loss = Loss()
    plain = partial.folder / f"{raster.name}.plain.tif"
    with _written(path):
        _assemble(partial, units, raster, grid, plain, form, loss)
        notes = dict(raster.tags) | (tags or {})
        said = str(loss) if form is not None and form.dtype != "float32" else ""
        if said:
            notes["mmae_loss"] = said
        _finish(plain, notes, form)
        _copy(plain, path, raster)
        plain.unlink()
        sync(path)
    return said


def _assemble(
    partial: PartialOutput,
    units: Sequence[Unit],
    raster: Raster,
    grid: Grid,
    plain: Path,
    form: NumberFormat | None,
    loss: Loss,
) -> None:
    with rasterio().open(plain, "w", **_profile(raster, grid, form)) as file:
        for unit in units:
            pixels = partial.load(unit.name)[raster.name]
            if form is not None:
                values_ND = _flat(pixels)
                stored_ND = form.stored(values_ND)
                if form.dtype != "float32":
                    loss.add(values_ND, form.restored(stored_ND))
                pixels = stored_ND.T.reshape(pixels.shape).astype(file.dtypes[0], copy=False)
            rows, columns = (
                (begin * raster.cells, end * raster.cells)
                for begin, end in ((unit.top, unit.bottom), (unit.left, unit.right))
            )
            file.write(pixels, window=(rows, columns))
        for number, told in enumerate(raster.bands):
            file.set_band_description(number + 1, told)


def _finish(plain: Path, notes: dict[str, str], form: NumberFormat | None) -> None:
    """Tags, scales and overviews, in this order: a change after the overviews would be lost."""
    with rasterio().open(plain, "r+") as file:
        file.update_tags(**notes)
        if form is not None and form.scale_D is not None:
            file.scales = form.scale_D.tolist()


def _profile(raster: Raster, grid: Grid, form: NumberFormat | None) -> dict[str, Any]:
    # GDAL has half precision as float32 with 16 bits a number.
    dtype = raster.dtype if form is None or form.scale_D is None else "int8"
    return {
        "driver": "GTiff",
        "width": grid.width,
        "height": grid.height,
        "count": len(raster.bands),
        "dtype": dtype,
        "nodata": raster.no_data if dtype != "int8" else NO_DATA_INT8,
        "crs": rasterio().crs.CRS.from_wkt(grid.crs),
        "transform": grid.affine,
        "tiled": True,
        "blockxsize": _PLAIN_WIDTH,
        "blockysize": UNIT_ROWS,
        # Band after band is many times faster to copy, and to make overviews of.
        "interleave": "band",
        "BIGTIFF": "IF_SAFER",
    } | ({"NBITS": 16} if form is not None and form.dtype == "float16" else {})


def _copy(plain: Path, path: Path, raster: Raster) -> None:
    from rasterio.enums import Resampling
    from rasterio.shutil import copy

    with rasterio().open(plain, "r+") as file:
        if raster.colours:
            file.write_colormap(1, {0: (0, 0, 0, 0)} | {code: (*rgb, 255) for code, rgb in raster.colours.items()})
        factors = list(_factors(file.width, file.height))
        size, longest = sum(_item_bytes(name) for name in file.dtypes), max(file.width, file.height)
        if factors:
            file.build_overviews(factors, Resampling.mode if raster.colours else Resampling.average)
    copy(
        str(plain),
        str(path),
        driver="COG",
        BLOCKSIZE=_block(size, longest),
        COMPRESS="DEFLATE",
        PREDICTOR="NO" if raster.colours else "YES",
        BIGTIFF="IF_SAFER",
        OVERVIEWS="AUTO" if factors else "NONE",
    )


def _factors(width: int, height: int) -> Iterator[int]:
    factor = 2
    while max(width, height) * 2 / factor > _SMALLEST_OVERVIEW * 2:
        yield factor
        factor *= 2


def _block(pixel_bytes: int, longest: int) -> int:
    side = _BLOCK
    while side > _LEAST_BLOCK and (side * side * pixel_bytes > _BLOCK_BYTES or side >= 2 * longest):
        side //= 2
    return side


def _item_bytes(dtype: str) -> int:
    import numpy as np

    return np.dtype(dtype).itemsize


def _vectors(partial: PartialOutput, unit: Unit, raster: Raster) -> NDArray[np.float32]:
    return _flat(partial.load(unit.name)[raster.name])


def _flat(pixels_DRC: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors (N, D) of a raster."""
    return pixels_DRC.reshape(len(pixels_DRC), -1).T


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """In this block what GDAL cannot write becomes one line, and a half-written file is removed."""
    from rasterio._err import CPLE_BaseError

    failures = (OSError, rasterio().errors.RasterioError, CPLE_BaseError)
    held: list[str] = []
    try:
        with _lines_of_libtiff(held):
            yield
    except failures as error:
        path.unlink(missing_ok=True)
        # libtiff alone tells what the system said: `_tiffWriteProc: No space left on device.`
        told = held[-1].rpartition(": ")[2].rstrip(".") if held else ""
        reason = getattr(error, "strerror", None) or told or str(error)
        raise InputError(f"{path}: cannot be written ({reason}): {REMEDY}") from None
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def _lines_of_libtiff(held: list[str]) -> Iterator[None]:
    """In this block what a library in C writes to stderr is held back as lines; they are shown if it succeeds."""
    if sys.__stderr__ is None:
        # Another file may have its descriptor.
        yield
        return
    sys.stderr.flush()
    own, memory = os.dup(_STDERR), os.memfd_create("stderr")
    os.dup2(memory, _STDERR)
    try:
        yield
    finally:
        os.dup2(own, _STDERR)
        os.close(own)
        with os.fdopen(memory, "rb") as said:
            said.seek(0)
            held += said.read().decode(errors="replace").splitlines()
    for line in held:
        print(printable(line), file=sys.stderr)
