"""A folder of GeoTIFFs as labelled data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xxhash

from mmae.disk.regular_file import read_regular
from mmae.errors import InputError
from mmae.finetune.sources.band_names import BandMatch, match_bands
from mmae.finetune.sources.geotiff_files import (
    Cut,
    ImageHead,
    cut_images,
    find_images,
    ground_of_cut,
    middles,
    opened,
    read_head,
    read_window,
)
from mmae.finetune.sources.geotiff_labels import ImageLabels, labels_of_file, labels_of_folders, splits_of_folders
from mmae.finetune.sources.geotiff_masks import Masks, find_masks
from mmae.finetune.sources.image_units import ImageUnits, image_units
from mmae.finetune.sources.labelled_data import LABEL, DataFacts
from mmae.scenes.files.geo_extra import rasterio
from mmae.scenes.files.ground_grid import METRES, Grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.config.finetune_schema import SourceConfig, TaskConfig

_NEAR: Final = 0.05
"""Share by which pixels may be larger or smaller than those that models have learned from."""


@dataclass(frozen=True, eq=False)
class GeotiffData:
    """See `LabelledData`.

    Attributes:
        facts: of the folder.
        heads: of the labelled images.
        cuts: of tiles.
        matched: bands of the images.
        units: of their numbers.
        labels: of images, or of pixels.
    """

    facts: DataFacts
    heads: tuple[ImageHead, ...]
    cuts: tuple[Cut, ...]
    matched: BandMatch
    units: ImageUnits
    labels: ImageLabels | Masks

    def read(self, position: int, datasets: Sequence[str]) -> Mapping[str, NDArray[Any]]:
        cut = self.cuts[position]
        found = {}
        if any(name != LABEL for name in datasets):
            found = self._images(cut, [name for name in self.facts.bands if name in datasets])
        if LABEL in datasets:
            found[LABEL] = (
                self.labels.read(cut, self.facts.size)
                if isinstance(self.labels, Masks)
                else self.labels.labels[cut.image]
            )
        return found

    def _images(self, cut: Cut, datasets: Sequence[str]) -> dict[str, NDArray[Any]]:
        head, found = self.heads[cut.image], {}
        with opened(head.path) as file:
            for dataset in datasets:
                indexes = [place + 1 for place in self.matched.places[dataset]]
                values, data = read_window(file, cut, self.facts.size, indexes)
                found[dataset] = self.units(dataset, values, data)
        return found


def open_geotiffs(source: SourceConfig, task: TaskConfig) -> GeotiffData:
    """Look at every image of a folder, and at its labels.

    Raises:
        InputError: files are missing, damaged or do not fit together; bands or units cannot be told; or labels do not
            fit the kind of task.
    """
    assert source.folder is not None
    folder = Path(source.folder)
    rasterio()
    images = {key: read_head(path) for key, path in find_images(folder, "source.folder").items()}
    first = next(iter(images.values()))
    matched = match_bands(_names(source, first), str(first.path))
    for head in images.values():
        _check_image(head, first)
    dtypes = {first.dtypes[place] for row in matched.places.values() for place in row}
    units = image_units(source, matched.bands, dtypes, str(first.path), source.level)
    keys, labels, splits, notes = _labels(source, task, folder, images)
    heads = tuple(images[key] for key in keys)
    cuts, size = cut_images(heads, source.tile, folder)
    grounds = {place: ground for place, cut in enumerate(cuts) if (ground := ground_of_cut(heads[cut.image], cut))}
    lat_N, lon_N = middles(grounds, len(cuts), size)
    pixel_m = _pixel_m(heads[0])
    if pixel_m is not None and abs(pixel_m / METRES - 1) > _NEAR:
        notes.append(f"pixels measure {pixel_m:.3g} m on the ground; pretrained models have learned from {METRES:g} m")
    regression = task.kind in {"regression", "pixel_regression"}
    facts = DataFacts(
        where=str(folder),
        name=source.task or "label",
        kind=task.kind,
        names=labels.names,
        codes=labels.codes if isinstance(labels, Masks) else None,
        units=("",) * len(labels.names) if regression else (),
        keys=tuple(_key(keys[cut.image], cut, source.tile) for cut in cuts),
        splits=_of_tiles(splits, cuts),
        bands=matched.bands,
        level=source.level if "sentinel2" in matched.bands and not units.pictures else None,
        size=size,
        fingerprint=_fingerprint(source, task, keys, heads, labels),
        pictures=units.pictures,
        notes=(*matched.notes, *units.notes, *notes),
        lat_N=lat_N,
        lon_N=lon_N,
        pixel_m=METRES if pixel_m is None else pixel_m,
        grounds=grounds,
    )
    return GeotiffData(facts, heads, tuple(cuts), matched, units, labels)


def _names(source: SourceConfig, first: ImageHead) -> tuple[str, ...]:
    """The names of the images' bands."""
    count = len(first.dtypes)
    if source.bands is not None:
        if len(source.bands) != count:
            raise InputError(
                f"{first.path}: has {count} bands, and source.bands names {len(source.bands)}: name each in the file's "
                "order, with - for one that is not to be read"
            )
        return source.bands
    if not first.names:
        raise InputError(
            f"{first.path}: its bands have no names: set source.bands to those in the file's order, such as "
            "[B2,B3,B4,B8]"
        )
    return first.names


def _check_image(head: ImageHead, first: ImageHead) -> None:
    if len(head.dtypes) != len(first.dtypes):
        raise InputError(f"{head.path}: has {len(head.dtypes)} bands, and {first.path.name} has {len(first.dtypes)}")
    if head.names != first.names:
        raise InputError(
            f"{head.path}: its bands are {', '.join(head.names) or 'without names'}, and those of {first.path.name} "
            f"{', '.join(first.names) or 'without names'}: write all images with the same bands in the same order"
        )
    if head.dtypes != first.dtypes:
        raise InputError(
            f"{head.path}: its numbers are {head.dtypes[0]}, and those of {first.path.name} are {first.dtypes[0]}: "
            "write all images with the same dtype and units"
        )
    if head.scaled:
        raise InputError(
            f"{head.path}: declares a scale or an offset of its numbers, which are not applied here: apply them with "
            "gdal_translate -unscale"
        )


def _labels(
    source: SourceConfig, task: TaskConfig, folder: Path, images: Mapping[str, ImageHead]
) -> tuple[list[str], ImageLabels | Masks, dict[str, NDArray[np.int64]], list[str]]:
    """The keys of images that have labels, these, the splits of these images, and sentences."""
    every = list(images)
    if source.masks is not None:
        masks, notes = find_masks(source, task.kind, images)
        keys = list(masks.keys)
        return keys, masks, _splits(keys, {}), list(notes)
    if task.labels is None:
        found = labels_of_folders(every, str(folder))
    else:
        files = [head.path for head in images.values()]
        found = labels_of_file(Path(task.labels), task.kind, every, files, str(folder))
    keys = [every[place] for place in found.images.tolist()]
    place_of = {place: new for new, place in enumerate(found.images.tolist())}
    said = {
        split: np.array([place_of[place] for place in places.tolist()], np.int64)
        for split, places in found.splits.items()
    }
    return keys, found, _splits(keys, said), list(found.notes)


def _splits(keys: Sequence[str], said: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
    """The splits that a file says, or folders; all in `train` where neither does."""
    return dict(said) or splits_of_folders(keys) or {"train": np.arange(len(keys), dtype=np.int64)}


def _of_tiles(splits: Mapping[str, NDArray[np.int64]], cuts: Sequence[Cut]) -> dict[str, NDArray[np.int64]]:
    image_N = np.array([cut.image for cut in cuts], np.int64)
    return {split: np.flatnonzero(np.isin(image_N, images)).astype(np.int64) for split, images in splits.items()}


def _key(key: str, cut: Cut, side: int | None) -> str:
    return key if side is None else f"{key}@{cut.top},{cut.left}"


def _pixel_m(head: ImageHead) -> float | None:
    """Side of a pixel on the ground; None where it is not known."""
    if head.ground is None:
        return None
    sides = Grid(head.ground.crs, head.ground.transform, *head.size).metres()
    mean = float(np.mean(sides))
    return mean if np.isfinite(mean) and mean > 0 else None


def _fingerprint(
    source: SourceConfig, task: TaskConfig, keys: Sequence[str], heads: Sequence[ImageHead], labels: ImageLabels | Masks
) -> str:
    """Of names and sizes of files, and of how they are read; not of the folder that they lie in."""
    said = [
        *zip(keys, (head.bytes for head in heads), strict=True), labels.names, source.bands, source.level, source.units,
        source.offset, source.tile, source.ignore,
    ]  # fmt: skip
    hashed = xxhash.xxh3_128(repr(said).encode())
    if isinstance(labels, Masks):
        hashed.update(repr((labels.codes, labels.bytes)).encode())
    elif task.labels is not None:
        hashed.update(read_regular(Path(task.labels)))
    return hashed.hexdigest()
