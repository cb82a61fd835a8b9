"""Windows of a scene as a model's inputs: the encoder with what is said about the scene's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mmae.errors import InputError
from mmae.inference.band_plan import find_dataset, plan_bands
from mmae.modalities import MODALITIES, Modality
from mmae.scenes.files.geotiffs import SceneBand

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.inference.raw_encoder import RawEncoder
    from mmae.types import Inputs

SENTINEL2: Final = tuple(f"B{number}" for number in (1, 2, 3, 4, 5, 6, 7, 8, "8A", 9, 10, 11, 12))


@dataclass(frozen=True)
class Numbers:
    """What the numbers of a scene are; see `RawEncoder.inputs`.

    Attributes:
        level: Sentinel-2 processing level.
        units: None: as MMEarth stores them.
        offset: is added to Sentinel-2's numbers.
        check: compare a sample with the model's statistics.
    """

    level: str | None
    units: str | None
    offset: float
    check: bool


@dataclass(frozen=True)
class WindowInputs:
    """The encoder, and how it takes windows: `bands` is dataset -> names of the bands that are read."""

    encoder: RawEncoder
    bands: Mapping[str, Sequence[str]]
    numbers: Numbers

    def prepare(self, arrays: Mapping[str, NDArray[Any]], check: bool = False) -> Inputs:
        """The inputs of windows, dataset -> (B, C, H, W).

        Raises:
            InputError: as `RawEncoder.inputs`; values are compared with statistics only where `check` says so.
        """
        said = self.numbers
        return self.encoder.inputs(
            arrays, bands=self.bands, level=said.level, units=said.units, offset=said.offset, check_units=check
        )


def scene_bands(
    inputs: Sequence[str], named: Sequence[tuple[str, int, str]], table: Mapping[str, Modality] = MODALITIES
) -> list[SceneBand]:
    """The bands that the model takes, with their datasets; Sentinel-2 bands that it does not take are left out.

    Args:
        inputs: the model's input modalities.
        named: file, number and name of each band; `dataset:NAME` where a name alone would not say it.
        table: what the inputs are.

    Raises:
        InputError: a band is unknown or given twice, or no modality is complete.
    """
    if not named:
        raise InputError("--bands skips all bands: name at least one")
    found: list[SceneBand] = []
    for path, index, name in named:
        dataset, _, plain = name.rpartition(":")
        if not dataset:
            if _is_unused(inputs, plain, table):
                continue
            dataset = find_dataset(inputs, [plain], table)
        found.append(SceneBand(path, index, dataset, plain))
    if not found:
        raise InputError(f"the model takes none of the bands {', '.join(name for *_, name in named)}: see its inputs")
    names: dict[str, list[str]] = {}
    for band in found:
        names.setdefault(band.dataset, []).append(band.name)
    plan = plan_bands(inputs, names, table)
    return [band for band in found if band.name not in plan.unused.get(band.dataset, ())]


def _is_unused(inputs: Sequence[str], name: str, table: Mapping[str, Modality]) -> bool:
    """Whether a name is that of a Sentinel-2 band that the model has no modality for."""
    upper = name.strip().upper().replace("B0", "B")
    if upper not in SENTINEL2:
        return False
    try:
        return find_dataset(inputs, [name], table) != "sentinel2"
    except InputError:
        return True
