"""GeoTIFFs as one scene: bands by name on one grid, checked before anything is computed, read window by window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.errors import InputError
from mmae.inference.undeclared_no_data import is_no_measurement
from mmae.modalities import MODALITIES
from mmae.scenes.files.geo_extra import rasterio
from mmae.scenes.files.ground_grid import Grid, grid_of, metre_grid
from mmae.scenes.files.warped_file import warped_file
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

SKIPPED: Final = "-"


@dataclass(frozen=True)
class SceneBand:
    """One band of a scene: `index` (from 1) of a file, as the band `name` of a dataset of MMEarth."""

    path: str
    index: int
    dataset: str
    name: str


@dataclass(frozen=True)
class Scene:
    """What is read of some GeoTIFFs. It holds no open file, so it can be given to other processes.

    Attributes:
        bands: in the order of the files.
        dtypes: dataset -> numpy dtype that its bands are read as.
        resampling: how files are brought to the grid; None: all are on it.
    """

    grid: Grid
    bands: tuple[SceneBand, ...]
    dtypes: Mapping[str, str]
    resampling: str | None

    @property
    def names(self) -> dict[str, list[str]]:
        """Dataset -> its bands in the order in which they are read."""
        found: dict[str, list[str]] = {}
        for band in self.bands:
            found.setdefault(band.dataset, []).append(band.name)
        return found

    @contextmanager
    def opened(self) -> Iterator[SceneReader]:
        """A reader, for one thread at a time."""
        with ExitStack() as stack:
            parts = dict.fromkeys((band.path, band.dataset) for band in self.bands)
            yield SceneReader(self, {part: stack.enter_context(_on_grid(*part, self)) for part in parts})


def band_names(paths: Sequence[str], wanted: Sequence[str] | None) -> list[tuple[str, int, str]]:
    """File, number from 1, and name of every band of some files: as `--bands` lists them, or as the files do.

    Raises:
        InputError: a file cannot be read, or the number of names is not that of the bands.
    """
    found: list[tuple[str, int, str]] = []
    for path in paths:
        with _open(path) as file:
            found += [(path, index + 1, told or "") for index, told in enumerate(file.descriptions)]
    if wanted is not None:
        if len(wanted) != len(found):
            files = counted(len(paths), "file")
            raise InputError(
                f"--bands names {counted(len(wanted), 'band')}, and {files} {'has' if len(paths) == 1 else 'have'} "
                f"{len(found)}: name each in the files' order, and say {SKIPPED} for one that is not to be read"
            )
        found = [(path, index, name.strip()) for (path, index, _), name in zip(found, wanted, strict=True)]
    for path, index, name in found:
        if not name:
            raise InputError(f"{path}: band {index} has no name in the file: say --bands, such as --bands B2,B3,B4,B8")
    return [(path, index, name) for path, index, name in found if name != SKIPPED]


def open_scene(bands: Sequence[SceneBand], resampling: str | None = None) -> Scene:
    """Check files and bands, and find their grid: that of the first file.

    Args:
        resampling: bring the files to 10 m, and to the first one's place, in this way; None: they must be there.

    Raises:
        InputError: a file cannot be read; no CRS; another resolution, or one that is too coarse to resample; a grid
            that is rotated, or not the first one's; numbers that are to be scaled; or dtypes that do not belong
            together.
    """
    grids: dict[str, Grid] = {}
    for path in dict.fromkeys(band.path for band in bands):
        with _open(path) as file:
            grids[path] = grid_of(path, file)
            _check_plain(path, file, [band.index for band in bands if band.path == path])
    first, grid = next(iter(grids.items()))
    for path, other in grids.items():
        if resampling is None:
            other.check_metres(path)
            if other != grid:
                raise InputError(
                    f"{path}: its grid ({other}) is not that of {first} ({grid}): bring the files to one grid, or "
                    "say --resample"
                )
    if resampling is not None:
        grid.check_not_coarse(first)
        grid = metre_grid(grid)
    return Scene(grid, tuple(bands), _dtypes(bands), resampling)


class SceneReader:
    """Reads windows of a scene whose files are open."""

    def __init__(self, scene: Scene, files: Mapping[tuple[str, str], Any]) -> None:
        # A file is open once for each dataset: what is no data in it differs.
        self._scene = scene
        self._files = files

    def read(self, top: int, left: int, height: int, width: int) -> dict[str, NDArray[Any]]:
        """Dataset -> (C, H, W), the bands in the order of `Scene.names`; no data also where the scene has ended.

        Raises:
            InputError: a file is damaged.
        """
        scene = self._scene
        below, right = min(top + height, scene.grid.height), min(left + width, scene.grid.width)
        found = {}
        for dataset, names in scene.names.items():
            fill = no_data_of(dataset, scene.dtypes[dataset])
            found[dataset] = np.full((len(names), height, width), fill, scene.dtypes[dataset])
        place = dict.fromkeys(found, 0)
        for (path, dataset), file in self._files.items():
            bands = [band for band in scene.bands if (band.path, band.dataset) == (path, dataset)]
            pixels = _read(path, file, [band.index for band in bands], ((top, below), (left, right)))
            for band, pixels_HW in zip(bands, pixels, strict=True):
                fill = no_data_of(band.dataset, scene.dtypes[band.dataset])
                out = found[band.dataset][place[band.dataset]]
                part_HW = _filled(pixels_HW, out.dtype, fill)
                if np.isnan(fill) and band.dataset != "sentinel2":
                    part_HW[is_no_measurement(part_HW)] = fill
                out[: below - top, : right - left] = part_HW
                place[band.dataset] += 1
        return found


def _check_plain(path: str, file: Any, indexes: Sequence[int]) -> None:
    """Raise InputError if a file declares that its numbers are to be scaled, which nothing here does."""
    for index in indexes:
        scale, offset = file.scales[index - 1], file.offsets[index - 1]
        if (scale, offset) != (1, 0):
            raise InputError(
                f"{path}: band {index} declares scale {scale:g} and offset {offset:g}, which are not applied here: "
                "remove them with gdal_edit.py -scale 1 -offset 0 and say --units and --offset instead, or apply "
                "them with gdal_translate -unscale"
            )


def no_data_of(dataset: str, dtype: str) -> float:
    """The stored value that says that there is no data."""
    if np.dtype(dtype).kind == "f":
        return float("nan")
    return next(row.no_data[0] for row in MODALITIES.values() if row.dataset == dataset)


def _filled(pixels_HW: Any, dtype: np.dtype[Any], fill: float) -> NDArray[Any]:
    """Pixels as another dtype; what is masked is not converted, as the dtype may not hold it."""
    masked_HW = np.ma.getmaskarray(pixels_HW)
    values_HW = np.where(masked_HW, 0, pixels_HW.data)
    if dtype.kind != "f" and values_HW.dtype.kind == "f":
        values_HW = np.rint(values_HW)
    # What float32 cannot hold becomes infinite, which is no data.
    with np.errstate(over="ignore"):
        found_HW: NDArray[Any] = values_HW.astype(dtype)
    found_HW[masked_HW] = fill
    return found_HW


def _read(path: str, file: Any, indexes: list[int], window: tuple[tuple[int, int], tuple[int, int]]) -> Any:
    try:
        return file.read(indexes, window=window, masked=True)
    except rasterio().errors.RasterioError as error:
        (top, _), (left, _) = window
        raise InputError(f"{path}: cannot be read at row {top}, column {left} ({error}): copy the file again") from None


@contextmanager
def _open(path: str) -> Iterator[Any]:
    library = rasterio()
    if not Path(path).exists():
        raise InputError(f"{path} does not exist: name a GeoTIFF")
    try:
        file = library.open(path, driver="GTiff")
    except library.errors.RasterioError as error:
        raise InputError(
            f"{path}: is no GeoTIFF ({error}): convert it first, with gdal_translate for example"
        ) from None
    with file:
        yield file


@contextmanager
def _on_grid(path: str, dataset: str, scene: Scene) -> Iterator[Any]:
    with _open(path) as file:
        if scene.resampling is None:
            yield file
            return
        with warped_file(file, dataset, scene.grid, scene.resampling) as warped:
            yield warped


def _rows(dataset: str) -> list[Any]:
    return [row for row in MODALITIES.values() if row.dataset == dataset]


def _dtypes(bands: Sequence[SceneBand]) -> dict[str, str]:
    """What each dataset is read as: its stored dtype where that can hold no-data values, else float32."""
    seen: dict[str, dict[str, SceneBand]] = {}
    for band in bands:
        with _open(band.path) as file:
            seen.setdefault(band.dataset, {}).setdefault(file.dtypes[band.index - 1], band)
    return {dataset: _dtype(dataset, stored) for dataset, stored in seen.items()}


def _dtype(dataset: str, stored: Mapping[str, SceneBand]) -> str:
    kinds = {np.dtype(name).kind in "iu": name for name in stored if np.dtype(name).kind in "iuf"}
    for name, band in stored.items():
        if np.dtype(name).kind not in "iuf":
            raise InputError(f"{band.path}: band {band.index} is {name}: give integers or floating-point numbers")
        if dataset == "sentinel2" and np.dtype(name).itemsize == 1:
            raise InputError(
                f"{band.path}: band {band.index} is {name}, which cannot hold reflectance x 10000: give the "
                "digital numbers of the product, not a picture of them"
            )
    if len(kinds) > 1:
        first, other = (f"{stored[name].path} is {name}" for name in (kinds[True], kinds[False]))
        raise InputError(f"{dataset}: {first}, and {other}: bring all bands to one dtype and the same units")
    if any(row.categorical for row in _rows(dataset)):
        if False in kinds:
            raise InputError(f"{stored[kinds[False]].path}: {dataset} is {kinds[False]}, and class codes are integers")
        return next(iter(stored))
    return "uint16" if set(stored) == {"uint16"} and any(row.no_data for row in _rows(dataset)) else "float32"
