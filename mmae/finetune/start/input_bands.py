"""Which modalities a set of tiles can give a model, and with which of their bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mmae.errors import InputError
from mmae.modalities import MODALITIES, Modality, with_bands

if TYPE_CHECKING:
    from mmae.data.sampling.shard_sets import ShardSet


def missing_bands(each: ShardSet, row: Modality) -> tuple[str, ...]:
    """The bands of a modality that the tiles of a set do not hold; all where its dataset is missing."""
    if row.dataset not in each.index.datasets:
        return row.band_names
    if each.bands is None:
        return ()
    held = each.bands[row.dataset]
    return tuple(name for name, band in zip(row.band_names, row.bands, strict=True) if band not in held)


def usable(each: ShardSet, names: Sequence[str], table: Mapping[str, Modality]) -> tuple[str, ...]:
    """The modalities that the set holds at least one band of."""
    rows = [table.get(name, MODALITIES[name]) for name in names]
    return tuple(row.name for row in rows if len(missing_bands(each, row)) < len(row.bands))


def bands_there(
    each: ShardSet, inputs: Sequence[str], table: Mapping[str, Modality], asked: Mapping[str, tuple[str, ...]]
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Modality -> its bands, of those that the recipe names or that the set holds in part; and sentences about these.

    Args:
        table: what the pretrained model's modalities are.
        asked: modality -> bands that the recipe names.

    Raises:
        InputError: the recipe names a band that the set does not hold.
    """
    for row in with_bands(asked).values():
        if missing := missing_bands(each, row):
            raise InputError(
                f"{each.index.folder}: holds no {', '.join(missing)} of {row.dataset}, which model.bands names for "
                f"{row.name}: leave it out"
            )
    found, notes = dict(asked), []
    for row in (table.get(name, MODALITIES[name]) for name in inputs if name not in asked):
        if missing := missing_bands(each, row):
            found[row.name] = tuple(name for name in row.band_names if name not in missing)
            notes.append(f"{row.name} is made of {', '.join(found[row.name])}: the data has no {', '.join(missing)}")
    return found, notes
