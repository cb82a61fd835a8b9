"""Labels of one's own that were packed with the shards: those of `mmae repack --labels`, and masks of the HDF5 file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from mmae.data.transforms.crop import gather_pixels
from mmae.data.transforms.validity import widen
from mmae.errors import InputError
from mmae.finetune.labelled.class_words import MOST_CLASSES, codes_and_names
from mmae.finetune.labelled.label_sources import UNKNOWN, RowLabels
from mmae.finetune.labelled.tile_reading import read_tiles
from mmae.modalities import DATASET_BANDS
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from mmae.config.finetune_schema import SourceConfig, TaskKind
    from mmae.data.sampling.shard_sets import ShardSet
    from mmae.data.shards.index import Index
    from mmae.types import Batch

_READ: Final = 65_536
"""Masks that are read to find their classes; of a larger set, every k-th."""
_MAP_NDIM: Final = 3
_WHOLE: Final = frozenset(map(np.dtype, ("?", "u1", "i1", "u2", "i2", "i4")))
_REAL: Final = frozenset(map(np.dtype, ("f2", "f4", "f8")))
"""What torch can pick pixels of, and int32 or float32 can hold."""


def labels_of_index(index: Index, name: str, kind: TaskKind) -> RowLabels:
    """A label that `mmae repack --labels` put into the index.

    Raises:
        InputError: it does not fit the kind of task.
    """
    label = index.labels[name]
    order = np.argsort(index.row)
    value_N, row_N = label.value_N[order], index.row[order]
    where = f"{index.folder}: task.target={name}"
    if label.info.classes:
        if kind != "classification":
            raise InputError(
                f"{where} holds names of classes, such as {label.info.classes[-1]!r}, and task.kind={kind} needs "
                "numbers: use task.kind=classification"
            )
        return RowLabels(row_N, value_N.astype(np.int64), label.info.classes, kind)
    if kind == "classification":
        return _numbered_classes(where, row_N, value_N, len(label.info.parts))
    known = value_N[np.isfinite(value_N)]
    if kind == "multilabel" and (strange := known[(known != 0) & (known != 1)]).size:
        raise InputError(
            f"{where} holds {strange[0]:g}, and task.kind=multilabel needs 0 or 1: use task.kind=regression"
        )
    return RowLabels(row_N, value_N.astype(np.float32), label.info.parts, kind)


def _numbered_classes(where: str, row_N: NDArray[np.int64], value_NP: NDArray[Any], parts: int) -> RowLabels:
    if parts != 1:
        raise InputError(f"{where} holds {parts} numbers a tile: use task.kind=multilabel or regression")
    value_N = value_NP[:, 0]
    known_N = np.isfinite(value_N)
    codes = np.unique(value_N[known_N])
    if (strange := codes[codes != np.round(codes)]).size:
        raise InputError(f"{where} holds {strange[0]:g}, which is no number of a class: use task.kind=regression")
    if not 2 <= len(codes) <= MOST_CLASSES:
        raise InputError(f"{where} holds {counted(len(codes), 'class', 'classes')}: 2 to {MOST_CLASSES} are needed")
    ids_N = np.where(known_N, np.searchsorted(codes, np.where(known_N, value_N, codes[0])), UNKNOWN)
    return RowLabels(row_N, ids_N.astype(np.int64), tuple(f"{code:.0f}" for code in codes.tolist()), "classification")


@dataclass(frozen=True, eq=False)
class MaskLabels:
    """A dataset of maps that is no modality, pixel by pixel: the number of a class, or values.

    Attributes:
        codes_K: the numbers of the classes, ascending; empty for values.
        names: of classes, or of the bands of values.
        ignore: numbers that are not scored.
    """

    dataset: str
    kind: TaskKind
    names: tuple[str, ...]
    codes_K: tuple[int, ...]
    ignore: tuple[int, ...]

    @property
    def datasets(self) -> tuple[str, ...]:
        return (self.dataset,)

    @property
    def codes(self) -> tuple[int, ...] | None:
        return self.codes_K or None

    @property
    def units(self) -> tuple[str, ...]:
        return () if self.codes_K else ("",) * len(self.names)

    def labels(self, batch: Batch, index_Bhw: Tensor) -> Tensor:
        pixels = batch.pixels[self.dataset]
        pixels_BCHW = pixels if pixels.dim() > _MAP_NDIM else pixels[:, None]
        bands = torch.arange(pixels_BCHW.shape[1], device=pixels.device)
        stored_BChw = widen(gather_pixels(pixels_BCHW, bands, index_Bhw), pixels.dtype == torch.uint16)
        ignored_BChw = torch.zeros_like(stored_BChw, dtype=torch.bool)
        for number in self.ignore:
            ignored_BChw |= stored_BChw == number
        if not self.codes_K:
            known_BChw = stored_BChw.isfinite() & ~ignored_BChw
            return torch.where(known_BChw, stored_BChw.to(torch.float32), torch.nan)
        codes = torch.tensor(self.codes_K, dtype=torch.int64, device=pixels.device)
        code_Bhw = stored_BChw[:, 0].to(torch.int64)
        place_Bhw = torch.searchsorted(codes, code_Bhw).clamp(max=len(codes) - 1)
        known_Bhw = (codes[place_Bhw] == code_Bhw) & ~ignored_BChw[:, 0]
        return torch.where(known_Bhw, place_Bhw, UNKNOWN)


def is_mask(index: Index, name: str) -> bool:
    """Whether a dataset holds maps, and is no modality's."""
    shape = index.datasets[name].shape
    sizes = {info.shape[-2:] for other, info in index.datasets.items() if other in DATASET_BANDS}
    return name not in DATASET_BANDS and (len(shape) == _MAP_NDIM or (len(shape) == _MAP_NDIM - 1 and shape in sizes))


def mask_labels(each: ShardSet, name: str, kind: TaskKind, source: SourceConfig) -> MaskLabels:
    """A dataset of masks as labels.

    Raises:
        InputError: its maps have another size than the images, or its numbers cannot be those of classes.
    """
    index, info = each.index, each.index.datasets[name]
    where = f"{index.folder}: {name} (task.target)"
    for other, image in index.datasets.items():
        if other in DATASET_BANDS and len(image.shape) == _MAP_NDIM and image.shape[-2:] != info.shape[-2:]:
            ours, theirs = ("x".join(map(str, shape[-2:])) for shape in (info.shape, image.shape))
            raise InputError(f"{where} holds maps of {ours} pixels, and {other} has {theirs}: bring them to one size")
    bands = info.shape[0] if len(info.shape) == _MAP_NDIM else 1
    if info.dtype not in (_WHOLE | _REAL if kind == "pixel_regression" else _WHOLE):
        fitting = "int32 or float32, for classes uint8"
        raise InputError(f"{where} holds {info.dtype} numbers, which task.kind={kind} does not take: store {fitting}")
    if kind == "pixel_regression":
        if source.classes is not None:
            raise InputError(f"source.classes names the classes of masks, task.kind={kind} has none: leave it out")
        names = (name,) if bands == 1 else tuple(f"{name} {band}" for band in range(bands))
        return MaskLabels(name, kind, names, (), source.ignore)
    if kind != "segmentation":
        raise InputError(f"{where} holds a number a pixel, and task.kind={kind} needs a label a tile: use segmentation")
    if bands != 1:
        raise InputError(f"{where} has {bands} bands, and a mask of classes has one: use task.kind=pixel_regression")
    seen = _seen(each, name) - set(source.ignore)
    if source.classes is None:
        codes = tuple(sorted(seen))
        names = tuple(f"class {code}" for code in codes)
    else:
        names, codes = codes_and_names(source.classes)
        if strange := seen - set(codes):
            raise InputError(
                f"{where} holds {min(strange)}, which is none of the classes {', '.join(map(str, codes))}: name it in "
                "source.classes, or in source.ignore if it is not to be scored"
            )
    if not 2 <= len(codes) <= MOST_CLASSES:
        raise InputError(f"{where} holds {counted(len(codes), 'class', 'classes')}: 2 to {MOST_CLASSES} are needed")
    return MaskLabels(name, kind, names, codes, source.ignore)


def _seen(each: ShardSet, name: str) -> set[int]:
    """The numbers that the masks of a set hold."""
    places = np.arange(0, len(each.index), max(1, len(each.index) // _READ), dtype=np.int64)
    found: set[int] = set()
    for batch in read_tiles(each, (name,), places):
        found.update(int(number) for number in np.unique(batch.pixels[name].numpy()).tolist())
    return found
