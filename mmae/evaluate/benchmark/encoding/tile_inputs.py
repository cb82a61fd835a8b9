"""The tiles of a benchmark as a model's inputs: which of its modalities they complete, and how they are normalised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from mmae.errors import InputError
from mmae.evaluate.benchmark.encoding.band_choice import Column, choose_columns, left_out, no_bands, with_columns
from mmae.evaluate.benchmark.encoding.task_statistics import task_statistics
from mmae.evaluate.benchmark.encoding.tile_windows import WindowGrid, window_grid
from mmae.evaluate.benchmark.tasks.benchmark_task import TRAIN
from mmae.inference.band_plan import plan_bands
from mmae.modalities import MODALITIES, S2_LEVELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.evaluate.benchmark.tasks.benchmark_task import BenchmarkTask
    from mmae.inference.raw_encoder import RawEncoder
    from mmae.modalities import S2Level
    from mmae.types import Inputs

Normalisation = Literal["auto", "model", "task"]
NORMALISATIONS: Final[tuple[Normalisation, ...]] = ("auto", "model", "task")

_CHECKED: Final = 32
"""Training tiles that are compared with the model's statistics."""


@dataclass(frozen=True)
class Reading:
    """How tiles become inputs, said by the user.

    Attributes:
        normalisation: by the statistics of the model or of the task; `auto`: of the model where numbers have its units.
        substitutes: band that is missing -> band that is taken for it, or `none`; also dataset -> `none`.
        window: pixels of a window's side; None: chosen by the size of the tiles.
        check_units: compare values with the model's statistics.
        offset: is added to Sentinel-2's digital numbers that the model's statistics normalise.
    """

    normalisation: Normalisation = "auto"
    substitutes: tuple[tuple[str, str], ...] = ()
    window: int | None = None
    check_units: bool = True
    offset: float = 0.0


@dataclass(frozen=True, eq=False)
class TileInputs:
    """Makes the inputs of one task for one model.

    Attributes:
        encoder: with the statistics that normalise.
        modalities: the model's modalities that the task completes.
        normalisation: `model` or `task`.
        level: of Sentinel-2.
        grid: how a tile is cut into windows.
        notes: sentences about what is left out or substituted, to print.
        columns: dataset -> the bands that the encoder is given.
        shift: dataset -> what is added to its numbers, whatever normalises them.
        offset: is added to Sentinel-2's digital numbers.
    """

    encoder: RawEncoder
    modalities: tuple[str, ...]
    normalisation: str
    level: S2Level | None
    grid: WindowGrid
    notes: tuple[str, ...]
    columns: Mapping[str, tuple[Column, ...]]
    shift: Mapping[str, float]
    offset: float = 0.0

    def __call__(self, arrays: Mapping[str, NDArray[Any]], check: bool = False) -> Inputs:
        """The windows of all tiles, tile after tile, as the model's inputs.

        Args:
            arrays: as `BenchmarkTask.read` gives them.
            check: compare values with the model's statistics.

        Raises:
            InputError: they cannot be in its units.
        """
        windows = {dataset: self.grid.cut(self._array(arrays[dataset], dataset)) for dataset in self.columns}
        bands = {dataset: [column.name for column in columns] for dataset, columns in self.columns.items()}
        offset = self.offset if "sentinel2" in windows else 0.0
        return self.encoder.inputs(windows, bands=bands, level=self.level, offset=offset, check_units=check)

    def _array(self, array: NDArray[Any], dataset: str) -> NDArray[Any]:
        return with_columns(array, self.columns[dataset]) + self.shift.get(dataset, 0)


def tile_inputs(encoder: RawEncoder, task: BenchmarkTask, said: Reading) -> TileInputs:
    """Find out how a task's tiles are encoded, and compare some with the model's statistics.

    Raises:
        InputError: its bands complete no modality of the model, a substitution fits nothing, or values cannot be in the
            units of the model's statistics.
    """
    saved, name = encoder.saved, task.info.name
    columns, notes = choose_columns(saved.config.in_domains, task, said.substitutes)
    if not columns:
        raise InputError(no_bands(task, saved.config.in_domains))
    try:
        plan = plan_bands(saved.config.in_domains, {key: [each.name for each in row] for key, row in columns.items()})
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    used = {MODALITIES[modality].dataset for modality in plan.names}
    notes += left_out(name, saved.config.in_domains, plan.names, columns)
    columns = {dataset: row for dataset, row in columns.items() if dataset in used}
    pictures = {dataset for dataset in columns if task.units[dataset] == "picture"}
    normalisation = said.normalisation
    if normalisation == "auto":
        normalisation = "task" if pictures else "model"
    if normalisation == "model" and pictures:
        raise InputError(f"{name}: its 8-bit pictures have no units in which the model's statistics are: use task")
    level = task.level if task.level is not None else _any_level(saved.band_stats)
    sample = task.read(task.splits[TRAIN][:1]).arrays
    grid = window_grid(sample[next(iter(columns))].shape[-2:], saved.config.image_hw, encoder.patch_size, said.window)
    # Sentinel-2's 0 is no data, and a picture's black is black.
    found = TileInputs(
        encoder, plan.names, normalisation, level, grid, tuple(notes), columns, dict.fromkeys(pictures, 1.0)
    )
    if normalisation == "task":
        stats = task_statistics(task, columns, plan.places, found.shift, level, saved.band_stats)
        return replace(found, encoder=replace(encoder, saved=replace(saved, band_stats=stats)))
    found = replace(found, offset=said.offset)
    if said.check_units:
        step = max(1, len(task.splits[TRAIN]) // _CHECKED)
        _checked(found, task, task.splits[TRAIN][::step][:_CHECKED])
    return found


def _checked(inputs: TileInputs, task: BenchmarkTask, ids: Sequence[str]) -> None:
    try:
        inputs(task.read(ids).arrays, check=True)
    except InputError as error:
        raise InputError(f"{task.info.name}: {error} (here: --offset, --no-unit-check)") from None


def _any_level(band_stats: Mapping[str, Any]) -> S2Level:
    """A level that the model has statistics of: pictures are normalised by their own all the same."""
    return next((level for level in reversed(S2_LEVELS) if f"sentinel2_{level}" in band_stats), S2_LEVELS[-1])
