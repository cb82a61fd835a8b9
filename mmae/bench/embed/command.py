"""`mmae bench embed`: windows of a scene a second, beside the bare encoder's forward pass on the same windows."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmae.bench.arguments import at_least_one
from mmae.bench.clock import Speed, Stopwatch, median
from mmae.errors import InputError
from mmae.terminal.table import Column, Table, Value, add_json_argument, check_json_path, report
from mmae.variants import VARIANTS

if TYPE_CHECKING:
    from mmae.scenes.scene_job import SceneJob

SCENE_PIXELS: Final = 10_980
"""Side of a Sentinel-2 product at 10 m."""
BARE: Final = "forward alone"
STORED: Final = "embed, without the file"
WHOLE: Final = "embed"
COLUMNS: Final = (
    Column("way", "way"),
    Column("windows_per_s", "windows/s", "{:.1f}"),
    Column("of_bare", "% of the forward", "{:.1%}"),
    Column("windows_per_cpu_s", "windows a CPU second", "{:.1f}"),
    Column("cpu_of_bare", "% by CPU time", "{:.1%}"),
    Column("scene_hours", "hours a product", "{:.2f}"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", default="tiny", choices=tuple(VARIANTS), help="encoder (default: tiny)")
    parser.add_argument("--pixels", type=int, default=512, metavar="N", help="side of the scene (default: 512)")
    parser.add_argument("--batch", type=int, metavar="N", help="windows at once (default: 256, on a CPU 16)")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16", "int8"), help="of the vectors")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="take the median of N (default: 3)")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Exit status 0. Bad input is an InputError."""
    check_json_path(args.json)
    for name in ("batch", "repeats"):
        at_least_one(f"--{name}", getattr(args, name))
    from mmae.bench.embed.made_scene import WINDOW, make_job
    from mmae.bench.machine import facts, lines

    if not WINDOW <= args.pixels <= SCENE_PIXELS:
        raise InputError(f"--pixels {args.pixels}: give {WINDOW}, which is a window, to {SCENE_PIXELS}")
    known = facts()
    with tempfile.TemporaryDirectory(prefix="mmae-bench-") as folder:
        job = make_job(Path(folder), args.size, args.pixels, args.batch)
        windows = _windows(job, args.pixels)
        ways: dict[str, Callable[[], Speed]] = {
            BARE: lambda: _bare(job),
            STORED: lambda: _embed(job, Path(folder), windows, None),
            WHOLE: lambda: _embed(job, Path(folder), windows, args.dtype),
        }
        ways[BARE]()
        speeds: dict[str, list[Speed]] = {name: [] for name in ways}
        for _ in range(args.repeats):
            # They take turns, so that a slow minute of the machine meets all.
            for name, measure in ways.items():
                speeds[name].append(measure())
        rows = _rows({name: median(found) for name, found in speeds.items()}, _windows(job, SCENE_PIXELS))
        notes = _notes(job, args.pixels, windows, known)
    title = f"Embedding a scene of {args.pixels}x{args.pixels} pixels with ViT {args.size} on {job.devices[0]}"
    report(Table(title, COLUMNS, rows, [*notes, *lines(known)]), args.json, {**known, "device": job.devices[0]})
    return 0


def _rows(speeds: dict[str, Speed], product_windows: int) -> list[dict[str, Value]]:
    bare = speeds[BARE]
    return [
        {
            "way": name,
            "windows_per_s": speed.tiles_per_s,
            "of_bare": None if name == BARE else speed.tiles_per_s / bare.tiles_per_s,
            "windows_per_cpu_s": 1e6 / speed.cpu_us,
            "cpu_of_bare": None if name == BARE else bare.cpu_us / speed.cpu_us,
            "scene_hours": product_windows / speed.tiles_per_s / 3600,
        }
        for name, speed in speeds.items()
    ]


def _notes(job: SceneJob, pixels: int, windows: int, known: dict[str, Any]) -> list[str]:
    product = _windows(job, SCENE_PIXELS)
    alone = (SCENE_PIXELS / job.window_hw[0]) ** 2
    return [
        f"{windows} windows of {job.window_hw[0]} pixels that share {job.overlap}, {job.batch} at once; a product of "
        f"{SCENE_PIXELS}x{SCENE_PIXELS} pixels has {product:,}: {product / alone:.2f} times as many as without overlap",
        f"hours a product are extrapolated from {pixels}x{pixels} pixels by the number of windows, not measured",
    ]


def _windows(job: SceneJob, pixels: int) -> int:
    """Windows of a square scene, each counted once, however often it is computed."""
    from mmae.scenes.windows.window_axis import WindowAxis

    patch = job.encoder.patch_size
    axis = WindowAxis(-(-pixels // patch), job.window_hw[0] // patch, job.overlap // patch)
    return len(axis.starts) ** 2


def _bare(job: SceneJob) -> Speed:
    """The encoder's forward pass, on windows that are prepared already."""
    import torch

    from mmae.model.features import features
    from mmae.scenes.windows.scene_pass import cut

    side, model = job.window_hw[0], job.encoder.model
    with job.scene.opened() as reader:
        strip = reader.read(0, 0, side, job.scene.grid.width)
    room = job.scene.grid.width - side
    corners = [number * room // max(1, job.batch - 1) for number in range(job.batch)]
    inputs = job.inputs.prepare({name: cut(pixels, corners, side) for name, pixels in strip.items()})
    count = max(1, _windows(job, job.scene.grid.width) // job.batch)
    with torch.inference_mode():
        clock = Stopwatch()
        for _ in range(count):
            found = features(model, inputs.values).global_tokens
        # Waits for the device.
        found.sum().item()
        return clock.speed(job.batch * count)


def _embed(job: SceneJob, folder: Path, windows: int, dtype: str | None) -> Speed:
    """Embedding the scene in this process; with a dtype also writing the GeoTIFF."""
    from mmae.scenes.files.geotiff_output import write_cog
    from mmae.scenes.files.partial_output import partial_output
    from mmae.scenes.scene_job import compute

    out = folder / "out.tif"
    clock = Stopwatch()
    with partial_output(out, job.identity()) as partial:
        units = compute(job, partial, 1, "embed")
        if dtype is not None:
            raster, (rows, columns) = job.window_model.rasters[0], job.patches
            grid = job.scene.grid.coarser(job.encoder.patch_size, rows, columns)
            write_cog(partial, units, raster, grid, out, dtype)
        partial.remove()
    speed = clock.speed(windows)
    out.unlink(missing_ok=True)
    return speed
