"""Masks of images as labels: numbers of classes, or values, in GeoTIFFs of the same names and sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.errors import InputError
from mmae.finetune.labelled.class_words import MOST_CLASSES, codes_and_names
from mmae.finetune.labelled.label_sources import UNKNOWN
from mmae.finetune.sources.geotiff_files import Cut, ImageHead, find_images, opened, read_head, read_window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.config.finetune_schema import SourceConfig

_SHIFT: Final = 0.01
"""Pixels by which the corners of image and mask may lie apart."""


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks of some images.

    Attributes:
        keys: of the images that have one.
        paths: one an image, in this order.
        names: of classes, or of targets.
        codes: the number of each class in the files, ascending; None: the masks hold values.
        ignore: numbers that are not scored.
        bytes: of all files.
        masked: whether what the files declare as no data is not scored.
    """

    keys: tuple[str, ...]
    paths: tuple[Path, ...]
    names: tuple[str, ...]
    codes: tuple[int, ...] | None
    ignore: tuple[int, ...]
    bytes: int
    masked: bool = True

    def read(self, cut: Cut, size: tuple[int, int]) -> NDArray[Any]:
        """The label of a tile: class ids int32 (1, H, W), -1 where not known; or values float32 (K, H, W), NaN.

        Raises:
            InputError: the file is damaged, or holds a number that is no class.
        """
        path = self.paths[cut.image]
        with opened(path) as file:
            indexes = range(1, 1 + (len(self.names) if self.codes is None else 1))
            values, data = read_window(file, cut, size, indexes, self.masked)
        if self.codes is None:
            # What float32 cannot hold becomes infinite, which is no value.
            with np.errstate(over="ignore"):
                found: NDArray[Any] = np.where(data & np.isfinite(values), values, np.nan).astype(np.float32)
            return np.where(np.isfinite(found), found, np.float32(np.nan))
        known = data & np.isfinite(values) & ~np.isin(values, self.ignore)
        codes = np.array(self.codes)
        place = np.searchsorted(codes, values).clip(max=len(codes) - 1)
        strange = known & (codes[place] != values)
        if strange.any():
            raise InputError(
                f"{path}: {int(strange.sum())} pixels hold {values[strange][0]:g}, which is none of the classes "
                f"{', '.join(map(str, self.codes))}: name it in source.classes, or in source.ignore if it is not to "
                "be scored"
            )
        return np.where(known, place, UNKNOWN).astype(np.int32)


def find_masks(source: SourceConfig, kind: str, images: Mapping[str, ImageHead]) -> tuple[Masks, tuple[str, ...]]:
    """The masks of images that have one, in the order of these, and sentences on what was found.

    Raises:
        InputError: no image has one, one has another size or place than its image, or classes cannot be told.
    """
    assert source.masks is not None
    folder = Path(source.masks)
    there = find_images(folder, "source.masks")
    found = {key: path for key in images if (path := _mask_of(key, there)) is not None}
    if not found:
        raise InputError(
            f"{folder}: none of its {len(there)} masks has the name of an image ({next(iter(there))}, "
            f"{next(iter(images))}): name masks as their images, in the same subfolders"
        )
    heads = {key: read_head(path) for key, path in found.items()}
    for key, head in heads.items():
        _check(head, images[key])
    paths, size = tuple(found.values()), sum(head.bytes for head in heads.values())
    notes = []
    if missing := len(images) - len(found):
        notes.append(f"{missing} of {len(images)} images have no mask and are left out")
    first = next(iter(heads.values()))
    if kind == "pixel_regression":
        names = first.names or tuple(
            f"{source.task or 'value'} {band}".removesuffix(" 0") for band in range(len(first.dtypes))
        )
        for head in heads.values():
            if len(head.dtypes) != len(names):
                raise InputError(f"{head.path}: has {len(head.dtypes)} bands, and {first.path.name} has {len(names)}")
        return Masks(tuple(found), paths, names, None, (), size), tuple(notes)
    for head in heads.values():
        if len(head.dtypes) != 1:
            raise InputError(f"{head.path}: a mask of classes has one band, this one has {len(head.dtypes)}")
    names, codes = codes_and_names(source.classes) if source.classes is not None else _seen(paths, source.ignore)
    # A class that the recipe names is one, whatever the files declare.
    masked = source.classes is None or first.no_data not in codes
    if first.no_data is not None and masked:
        notes.append(f"masks declare {first.no_data:g} as no data: it is no class, and is not scored")
    return Masks(tuple(found), paths, names, codes, source.ignore, size, masked), tuple(notes)


def _mask_of(key: str, there: Mapping[str, Path]) -> Path | None:
    """The mask in the image's subfolder, or, where masks lie in no subfolders, that of its name."""
    return there.get(key) or there.get(PurePosixPath(key).name)


def _check(mask: ImageHead, image: ImageHead) -> None:
    if mask.size != image.size:
        raise InputError(
            f"{mask.path}: is {mask.size[0]}x{mask.size[1]} pixels, and its image {image.size[0]}x{image.size[1]}: "
            "bring the mask to the grid of its image"
        )
    ours, theirs = mask.ground, image.ground
    if ours is None or theirs is None:
        return
    scale = abs(theirs.transform[0]) + abs(theirs.transform[1])
    apart = max(abs(one - other) for one, other in zip(ours.transform, theirs.transform, strict=True))
    if ours.crs == theirs.crs and apart > _SHIFT * scale:
        raise InputError(f"{mask.path}: does not lie where its image does: bring the mask to the grid of its image")


def _seen(paths: Sequence[Path], ignore: Sequence[int]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The classes that masks hold."""
    codes: set[int] = set()
    for path in paths:
        with opened(path) as file:
            size = (file.height, file.width)
            values, data = read_window(file, Cut(0, 0, 0), size, [1])
        numbers = np.unique(values[data & np.isfinite(values)])
        if (wrong := numbers[numbers != np.round(numbers)]).size:
            raise InputError(
                f"{path}: holds {wrong[0]:g}, which is no number of a class: use task.kind=pixel_regression for values"
            )
        codes |= {int(number) for number in numbers.tolist()} - set(ignore)
        if len(codes) > MOST_CLASSES:
            raise InputError(
                f"{path.parent}: its masks hold more than {MOST_CLASSES} numbers: use task.kind=pixel_regression for "
                "values, or name the classes with source.classes"
            )
    if len(codes) < 2:
        listed = ", ".join(map(str, codes)) or "none"
        raise InputError(f"{paths[0].parent}: the masks hold {len(codes)} class ({listed}), two are needed")
    found = tuple(sorted(codes))
    return tuple(f"class {code}" for code in found), found
