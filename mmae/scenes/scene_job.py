"""A scene through a model, in one process or several: everything between the open files and the finished units."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from data_tools.workers.pool import Tally, in_processes
from data_tools.workers.progress import progress
from mmae.disk.free_space import need_space
from mmae.errors import InputError
from mmae.inference.process_model import load_here, model_hash
from mmae.scenes.files.geotiffs import Scene, SceneReader
from mmae.scenes.files.partial_output import REMEDY, PartialOutput
from mmae.scenes.files.rasters import Unit, runs_of, units_of
from mmae.scenes.windows.window_axis import WindowAxis

if TYPE_CHECKING:
    from mmae.inference.raw_encoder import RawEncoder
    from mmae.scenes.windows.scene_pass import Windows
    from mmae.scenes.windows.window_inputs import Numbers, WindowInputs
    from mmae.scenes.windows.window_model import WindowModel

_DISK_COPIES: Final = 4
"""Times the size of the finished rasters: finished units, the plain file with overviews, and the GeoTIFF."""
_SAMPLE: Final = 32
"""Windows whose values are compared with the statistics before the work begins."""


@dataclass(frozen=True)
class SceneJob:
    """What is done with a scene. It is given to worker processes.

    Attributes:
        model: folder, or name on the hub.
        outputs: decoders, or the task of a fine-tuned model, whose predictions are wanted; None: the encoder's vectors.
        window_hw: pixels of a window.
        overlap: pixels that neighbouring windows share.
        batch: the most windows that are computed at once.
        devices: `cuda:0` and so on, one a process; a process takes the one of its number.
    """

    model: str
    trust: bool
    scene: Scene
    numbers: Numbers
    outputs: tuple[str, ...] | None
    window_hw: tuple[int, int]
    overlap: int
    batch: int
    devices: tuple[str, ...]

    @cached_property
    def encoder(self) -> RawEncoder:
        return load_here(self.model, self.trust, self.devices)

    def __getstate__(self) -> dict[str, Any]:
        # Each process loads the model itself, onto its own device.
        return {key: value for key, value in self.__dict__.items() if key not in {"encoder", "window_model"}}

    @property
    def inputs(self) -> WindowInputs:
        from mmae.scenes.windows.window_inputs import WindowInputs

        return WindowInputs(self.encoder, self.scene.names, self.numbers)

    @cached_property
    def window_model(self) -> WindowModel:
        if self.outputs is None:
            from mmae.scenes.windows.encoded_windows import EncodedWindows

            return EncodedWindows(self.inputs)
        if self.encoder.saved.tuned is not None:
            from mmae.scenes.windows.task_windows import TaskWindows

            return TaskWindows(self.inputs)
        from mmae.scenes.windows.decoded_windows import DecodedWindows

        return DecodedWindows(self.inputs, self.outputs)

    @property
    def patches(self) -> tuple[int, int]:
        """Rows and columns of patches; the last ones may reach beyond the scene."""
        patch = self.encoder.patch_size
        return -(-self.scene.grid.height // patch), -(-self.scene.grid.width // patch)

    @property
    def windows(self) -> Windows:
        from mmae.scenes.windows.scene_pass import Windows

        patch = self.encoder.patch_size
        down, across = (
            WindowAxis(length, window // patch, self.overlap // patch)
            for length, window in zip(self.patches, self.window_hw, strict=True)
        )
        return Windows(down, across, patch)

    def units(self) -> list[Unit]:
        rasters = self.window_model.rasters
        size = sum(4 * (raster.channels + 1) * raster.cells**2 for raster in rasters)
        return units_of(*self.patches, self.windows.down.window, size)

    def identity(self) -> dict[str, Any]:
        """Everything that the result depends on, JSON-able."""
        files = {band.path for band in self.scene.bands}
        return {
            "model": model_hash(self.model),
            "outputs": self.outputs and list(self.outputs),
            "files": sorted([Path(path).name, os.stat(path).st_size, os.stat(path).st_mtime_ns] for path in files),
            "bands": [[Path(band.path).name, band.index, band.dataset, band.name] for band in self.scene.bands],
            "grid": [self.scene.grid.crs, list(self.scene.grid.transform)],
            "resampling": self.scene.resampling,
            "level": self.numbers.level,
            "units": self.numbers.units,
            "offset": self.numbers.offset,
            "window": list(self.window_hw),
            "overlap": self.overlap,
        }


def check_job(job: SceneJob, out: Path) -> None:
    """Check what can be checked before anything is computed or written: what is refused leaves nothing behind.

    Args:
        out: the file or folder that is made.

    Raises:
        InputError: windows are no whole patches, or do not fit into the scene; values cannot be in the units of the
            model's statistics, or there are none; or the disk has no room for the result.
    """
    _check_window(job)
    rows, columns = job.patches
    size = sum(4 * len(raster.bands) * raster.cells**2 for raster in job.window_model.rasters)
    _check_sample(job)
    need_space(out.absolute().parent, _DISK_COPIES * rows * columns * size, REMEDY)


def _check_window(job: SceneJob) -> None:
    patch, grid = job.encoder.patch_size, job.scene.grid
    height, width = job.window_hw
    if height % patch or width % patch or min(height, width) < patch:
        raise InputError(f"--window {height}: windows are whole patches: give a multiple of {patch}")
    if job.overlap % patch or not 0 <= job.overlap < min(height, width):
        raise InputError(
            f"--overlap {job.overlap}: give a multiple of {patch} from 0 to {min(height, width) - patch}, less than "
            "the window"
        )
    if height > grid.height or width > grid.width:
        fitting = min(grid.height, grid.width) // patch * patch
        remedy = f"say --window {fitting}" if fitting and job.outputs is None else "give a larger scene"
        if fitting and job.outputs is None and job.overlap >= fitting:
            remedy = f"{remedy} --overlap 0"
        raise InputError(
            f"{job.scene.bands[0].path}: the scene has {grid.height}x{grid.width} pixels, and a window "
            f"{height}x{width}: {remedy}"
        )


def _check_sample(job: SceneJob) -> None:
    """Compare some windows with the model's statistics, or the first one with data if these have none."""
    count = len(job.windows.down.starts) * len(job.windows.across.starts)
    step = -(-count // _SAMPLE)
    with job.scene.opened() as reader:
        others = ([number] for number in range(count if step > 1 else 0))
        chosen = chain([range(step // 2, count, step)], others)
        if any(_checked(job, reader, numbers) for numbers in chosen):
            return
    raise InputError(f"{job.scene.bands[0].path}: the scene holds no data: look at its no-data value and its pixels")


def _checked(job: SceneJob, reader: SceneReader, numbers: Sequence[int]) -> bool:
    """Whether some of these windows have data, which is then in the right units."""
    import numpy as np

    windows, across = job.windows, job.windows.across.starts
    found = [
        reader.read(
            windows.down.starts[number // len(across)] * windows.patch,
            across[number % len(across)] * windows.patch,
            *job.window_hw,
        )
        for number in numbers
    ]
    arrays = {name: np.stack([each[name] for each in found]) for name in found[0]}
    try:
        inputs = job.inputs.prepare(arrays, check=job.numbers.check)
    except InputError as error:
        raise InputError(_as_options(str(error))) from None
    return any(bool(valid.any()) for valid in inputs.token_valid.values())


def _as_options(message: str) -> str:
    """A message about arguments of Python, with the command's options instead."""
    message = message.replace("check_units=False", "--no-unit-check")
    message = re.sub(r"\b(units|level|offset)='?(-?\w+)'?", r"--\1 \2", message)
    return re.sub(r"(--\w+ .*) or '(\w+)'", r"\1 or \2", message)


def compute(job: SceneJob, partial: PartialOutput, workers: int, what: str) -> list[Unit]:
    """Compute all units that are not stored yet, with a progress bar. The unit of the bar is a window.

    Returns:
        All units.

    Raises:
        InputError: a file is damaged, a unit cannot be written, or a worker process was killed.
    """
    units = job.units()
    todo = [unit for unit in units if not partial.has(unit.name)]
    # Several runs a process: where there is no data, a run is quickly done.
    runs = runs_of(todo, 1 if workers == 1 else 2 * workers)
    total = sum(_count(job, run) for run in runs)
    work = _Work(job, partial)
    with progress(total, what) as shown, closing(in_processes(work, runs, workers, shown, _place)) as done:
        for _ in done:
            pass
    return units


@dataclass(frozen=True)
class _Work:
    """A run of units, computed and stored; the file of a unit is the record that it is finished."""

    job: SceneJob
    partial: PartialOutput

    def __call__(self, run: tuple[Unit, ...], tally: Tally) -> None:
        from mmae.scenes.windows.scene_pass import finished_units

        job = self.job
        with job.scene.opened() as reader:
            for unit, rasters in finished_units(run, job.windows, job.window_model, reader, job.batch, tally):
                self.partial.save(unit.name, rasters)


def _count(job: SceneJob, run: Sequence[Unit]) -> int:
    windows = job.windows
    down = windows.down.touching(run[0].top, run[-1].bottom)
    return len(down) * len(windows.across.touching(run[0].left, run[0].right))


def _place(run: tuple[Unit, ...]) -> str:
    return f"rows {run[0].top} to {run[-1].bottom} of patches"
