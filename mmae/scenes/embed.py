"""`mmae embed MODEL SRC OUT`: vectors of a shard set's tiles as Parquet, or of a scene's patches as a GeoTIFF."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmae.scenes.scene_options import add_scene_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_scene_arguments(parser, "shards (a folder or an address), or GeoTIFFs whose bands are one scene")
    parser.add_argument("out", metavar="OUT", help="file to write: .parquet for shards, .tif for a scene")
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16", "int8"),
        default="float32",
        help="of the vectors; int8 has a scale a dimension, and the loss is printed (default: float32)",
    )
    parser.add_argument("--window", type=int, metavar="PX", help="pixels of a window's side (default: as trained)")
    shards = parser.add_argument_group("shards only")
    shards.add_argument("--split", help="tiles of this split only (default: all tiles)")
    shards.add_argument("--pooling", choices=("mean", "global"), help="a tile's vector (default: mean)")
    shards.add_argument("--cache-dir", help="folder for shards that are fetched from an address")


def run(args: argparse.Namespace) -> int:
    from mmae.scenes.scene_options import is_shards

    if is_shards(args.src):
        from mmae.scenes.tile_vectors import embed_shards

        return embed_shards(args)
    return _embed_scene(args)


def _check_options(args: argparse.Namespace) -> None:
    """Raise InputError if options of shards are given: a scene has neither splits nor an address."""
    from mmae.errors import InputError

    for option in ("split", "pooling", "cache_dir"):
        if getattr(args, option) is not None:
            raise InputError(f"--{option.replace('_', '-')} is for shards, and these are GeoTIFFs: leave it out")


def _embed_scene(args: argparse.Namespace) -> int:
    from mmae.scenes.files.geotiff_output import write_cog
    from mmae.scenes.files.partial_output import check_new_output, partial_output
    from mmae.scenes.scene_job import check_job, compute
    from mmae.scenes.scene_options import check_suffix, place_output, scene_job, scene_tags
    from mmae.terminal.printable import printable

    _check_options(args)
    out = Path(args.out)
    check_suffix(out, (".tif", ".tiff"), "a scene's vectors are a GeoTIFF")
    check_new_output(out)
    job, workers = scene_job(args, predict=False)
    check_job(job, out)
    (rows, columns), patch, dim = job.patches, job.encoder.patch_size, job.encoder.dim
    with partial_output(out, job.identity()) as partial:
        units = compute(job, partial, workers, "embed")
        raster = job.window_model.rasters[0]
        grid = job.scene.grid.coarser(patch, rows, columns)
        whole = partial.folder / "whole.tif"
        loss = write_cog(partial, units, raster, grid, whole, args.dtype, scene_tags(job))
        place_output(whole, out)
        partial.remove()
    print(printable(f"{out}: {rows}x{columns} patches of {patch} pixels, {dim} dimensions, {args.dtype}"))
    if loss:
        print(f"{args.dtype}: {loss}")
    return 0
