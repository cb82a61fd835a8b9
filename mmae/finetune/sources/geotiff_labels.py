"""Labels of whole images: from a CSV file, or from the folder of its class that an image lies in; and their splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.errors import InputError
from mmae.finetune.labelled.label_file import read_label_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.config.finetune_schema import TaskKind

SPLIT_FOLDERS: Final = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
}  # fmt: skip
"""Names of folders directly below the images' -> the split of the images in it."""


@dataclass(frozen=True, eq=False)
class ImageLabels:
    """Labels of some images.

    Attributes:
        images: their places, int64 (n,), ascending.
        labels: of these, (n, 1) int32 of a classification, (n, K) float32 otherwise.
        names: of classes or targets.
        splits: split -> places of images; empty: nothing is said.
        notes: what was left out.
    """

    images: NDArray[np.int64]
    labels: NDArray[Any]
    names: tuple[str, ...]
    splits: Mapping[str, NDArray[np.int64]]
    notes: tuple[str, ...]


def labels_of_file(path: Path, kind: TaskKind, keys: Sequence[str], files: Sequence[Path], where: str) -> ImageLabels:
    """The labels that a CSV file says.

    It names an image by its path below the folder, or by its name if only one has it.

    Args:
        keys, files: of all images, in one order.

    Raises:
        InputError: see `read_label_table`.
    """
    found = read_label_table(path, kind, _ways_to_say(keys, files), where)
    labels = found.labels.astype(np.int32)[:, None] if kind == "classification" else found.labels
    notes = list(found.notes)
    if missing := len(keys) - len(found.places):
        notes.append(f"{missing} of {len(keys)} images have no line in {path} and are left out")
    return ImageLabels(found.places, labels, found.names, found.split_of, tuple(notes))


def labels_of_folders(keys: Sequence[str], where: str) -> ImageLabels:
    """Each image is of the class whose name its folder has.

    Raises:
        InputError: an image lies in no folder of a class, or all lie in one.
    """
    said = []
    for key in keys:
        parts = PurePosixPath(key).parts[:-1]
        parts = parts[1:] if parts and parts[0].lower() in SPLIT_FOLDERS else parts
        if not parts:
            raise InputError(
                f"{where}: {key!r} lies in no folder of a class: give task.labels a CSV file, or put the images of "
                "each class into a folder of its name"
            )
        said.append("/".join(parts))
    names = tuple(sorted(set(said)))
    if len(names) < 2:
        raise InputError(f"{where}: all images lie in the folder of one class ({names[0]}): two are needed")
    ids = {name: number for number, name in enumerate(names)}
    labels = np.array([[ids[name]] for name in said], np.int32)
    return ImageLabels(np.arange(len(keys), dtype=np.int64), labels, names, {}, ())


def splits_of_folders(keys: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Split -> places of the images that lie in its folder; empty if some lie in none."""
    found: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        parts = PurePosixPath(key).parts
        split = SPLIT_FOLDERS.get(parts[0].lower()) if len(parts) > 1 else None
        if split is None:
            return {}
        found.setdefault(split, []).append(place)
    return {split: np.array(places, np.int64) for split, places in found.items()}


def _ways_to_say(keys: Sequence[str], files: Sequence[Path]) -> dict[str, int]:
    """Each way in which a file may name an image -> its place."""
    ways: dict[str, int] = {}
    short: dict[str, set[int]] = {}
    for place, (key, file) in enumerate(zip(keys, files, strict=True)):
        parent = PurePosixPath(key).parent
        ways |= {key: place, (parent / file.name).as_posix(): place}
        for name in (file.name, PurePosixPath(key).name):
            short.setdefault(name, set()).add(place)
    unique = {name: next(iter(places)) for name, places in short.items() if len(places) == 1}
    return {**unique, **ways}
