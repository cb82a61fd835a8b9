"""Options of the commands that take a scene, and what they mean."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmae.addresses import is_remote
from mmae.disk.ownership import add_trust_argument
from mmae.errors import InputError
from mmae.modalities import S2_LEVELS

if TYPE_CHECKING:
    from mmae.config.schema import ModelConfig
    from mmae.model.tuned.tuned_config import TunedConfig
    from mmae.scenes.scene_job import SceneJob

_RESAMPLINGS: Final = ("nearest", "bilinear", "average")
_BATCHES: Final = {"cuda": 256, "cpu": 16}
_OVERLAP_SHARE: Final = 4


def add_scene_arguments(parser: argparse.ArgumentParser, sources: str) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model folder, or owner/name on the Hugging Face hub")
    parser.add_argument("src", metavar="SRC", nargs="+", help=sources)
    parser.add_argument(
        "--bands",
        metavar="B,B",
        help="name of each band of the files in their order, such as B2,B3,B4,B8 or aster:elevation; - skips one, "
        "as in -,B3 (default: the names in the files)",
    )
    parser.add_argument("--level", choices=S2_LEVELS, help="Sentinel-2 level: l1c top of atmosphere, l2a surface")
    parser.add_argument("--units", help="reflectance (0 to 1) or linear (Sentinel-1); default: as MMEarth stores them")
    parser.add_argument(
        "--offset",
        type=float,
        default=0.0,
        metavar="DN",
        help="added to Sentinel-2 numbers: -1000 for baseline 04.00 and later (BOA_ADD_OFFSET)",
    )
    parser.add_argument("--no-unit-check", action="store_true", help="do not compare values with the statistics")
    parser.add_argument(
        "--resample",
        choices=_RESAMPLINGS,
        help="bring files to 10 m and to the first one's grid (default: refuse other grids)",
    )
    parser.add_argument(
        "--overlap", type=int, metavar="PX", help="pixels that windows share (default: at most a quarter)"
    )
    parser.add_argument("--batch", type=int, metavar="N", help="windows or tiles at once (default: 256, on a CPU 16)")
    parser.add_argument("--processes", type=int, metavar="N", help="processes (default: one a GPU; without a GPU, one)")
    add_trust_argument(parser, "a model")


def is_shards(sources: list[str]) -> bool:
    """Whether the sources are one shard set.

    Raises:
        InputError: a folder or an address stands among several sources.
    """
    sets = [source for source in sources if is_remote(source) or Path(source).is_dir()]
    if sets and len(sources) > 1:
        raise InputError(f"{sets[0]} is a shard set, and {len(sources)} sources are given: name one set, or only files")
    return bool(sets)


def check_suffix(out: Path, suffixes: tuple[str, ...], why: str) -> None:
    """Raise InputError if the name of an output says another format."""
    if out.suffix.lower() not in suffixes:
        raise InputError(f"{out}: {why}: give OUT a name that ends with {suffixes[0]}")


def place_output(whole: Path, out: Path) -> None:
    """Give a finished file or folder its name.

    Raises:
        InputError: something has taken the name meanwhile.
    """
    from mmae.disk.files import sync, writing

    if os.path.lexists(out):
        raise InputError(f"{out} exists by now: the result is {whole}: give it another name")
    with writing(out, "choose another OUT"):
        whole.replace(out)
        sync(out.absolute().parent)


def batch_of(asked: int | None, devices: tuple[str, ...]) -> int:
    """Windows or tiles that are computed at once.

    Raises:
        InputError: less than one.
    """
    if asked is not None and asked < 1:
        raise InputError(f"--batch {asked}: must be at least 1")
    return asked or _BATCHES[devices[0].partition(":")[0]]


def default_overlap(config: ModelConfig) -> int:
    """Pixels that windows share where nothing is said: whole patches, at most a quarter of a window."""
    return min(config.image_hw) // config.patch_size // _OVERLAP_SHARE * config.patch_size


def scene_job(args: argparse.Namespace, predict: bool) -> tuple[SceneJob, int]:
    """What the arguments ask for, and the number of processes. The files are open-able and fit together.

    Args:
        predict: predictions are wanted, not the encoder's vectors.

    Raises:
        InputError: they do not, or the model does not take their bands.
    """
    from mmae.scenes.files.geotiffs import band_names, open_scene

    if not math.isfinite(args.offset):
        raise InputError(f"--offset {args.offset}: give a number, such as -1000")
    # Files are looked at before imports that take seconds.
    named = band_names(args.src, None if args.bands is None else args.bands.split(","))
    from mmae.inference.model_location import model_folder
    from mmae.inference.process_model import devices_of
    from mmae.model.saved.saved_config import read_model_config
    from mmae.scenes.scene_job import SceneJob
    from mmae.scenes.windows.window_inputs import Numbers, scene_bands

    saved = read_model_config(model_folder(args.model), args.trust)
    config, outputs = saved.config, _outputs(args.outputs, saved.tuned) if predict else None
    scene = open_scene(scene_bands(config.in_domains, named, saved.table), args.resample)
    side = getattr(args, "window", None)
    window_hw = config.image_hw if side is None else (side, side)
    usual = default_overlap(config)
    overlap = (usual if usual < min(window_hw) else 0) if args.overlap is None else args.overlap
    devices = devices_of(args.processes)
    numbers = Numbers(args.level, args.units, args.offset, not args.no_unit_check)
    job = SceneJob(
        args.model, args.trust, scene, numbers, outputs, window_hw, overlap, batch_of(args.batch, devices), devices
    )
    return job, len(devices)


def _outputs(said: str | None, tuned: TunedConfig | None) -> tuple[str, ...]:
    """The names of the rasters to predict.

    Raises:
        InputError: none is named of a pretrained model, or another than the task of a fine-tuned one.
    """
    names = None if said is None else tuple(name.strip() for name in said.split(","))
    if tuned is None:
        if names is None:
            raise InputError("--outputs is missing: name the decoders of this pretrained model, such as semseg,rgb")
        return names
    if names not in {None, (tuned.task.name,)}:
        raise InputError(f"--outputs {said}: this model is fine-tuned for {tuned.task.name} alone: leave it out")
    return (tuned.task.name,)


def scene_tags(job: SceneJob) -> dict[str, str]:
    """Facts for readers of a raster."""
    from mmae.inference.process_model import model_name
    from mmae.version import __version__

    bands = "; ".join(f"{dataset}: {' '.join(names)}" for dataset, names in job.scene.names.items())
    return {
        "mmae_version": __version__,
        "mmae_model": model_name(job.model),
        "mmae_bands": bands,
        "mmae_level": job.numbers.level or "",
        "mmae_window": f"{job.window_hw[0]}x{job.window_hw[1]} pixels, {job.overlap} shared",
    }
