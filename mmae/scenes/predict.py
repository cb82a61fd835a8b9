"""`mmae predict MODEL SCENE OUT`: what a fine-tuned model, or pretrained decoders, say about a scene, as GeoTIFFs."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmae.scenes.scene_options import add_scene_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_scene_arguments(parser, "GeoTIFFs whose bands are one scene")
    parser.add_argument("out", metavar="OUT", help="folder to write, with one GeoTIFF an output")
    parser.add_argument(
        "--outputs",
        metavar="NAME,NAME",
        help="decoders of a pretrained model: semseg (land cover), depth (relative elevation), rgb, ired, sired, "
        "ebands (reflectance) and others; a fine-tuned model has its task only",
    )


def run(args: argparse.Namespace) -> int:
    from mmae.disk.files import writing
    from mmae.errors import InputError
    from mmae.scenes.files.geotiff_output import write_cog
    from mmae.scenes.files.partial_output import REMEDY, check_new_output, partial_output
    from mmae.scenes.scene_job import check_job, compute
    from mmae.scenes.scene_options import is_shards, place_output, scene_job, scene_tags
    from mmae.terminal.printable import printable

    if is_shards(args.src):
        raise InputError(f"{args.src[0]}: predictions are made of GeoTIFFs: `mmae reconstruct` draws tiles of shards")
    out = Path(args.out)
    check_new_output(out)
    job, workers = scene_job(args, predict=True)
    check_job(job, out)
    rasters = job.window_model.rasters
    rows, columns = job.patches
    patch = job.encoder.patch_size
    with partial_output(out, job.identity()) as partial:
        units = compute(job, partial, workers, "predict")
        whole = partial.folder / "whole"
        with writing(whole, REMEDY):
            whole.mkdir(exist_ok=True)
        for raster in rasters:
            cells = raster.cells
            grid = job.scene.grid.coarser(patch / cells, rows * cells, columns * cells)
            path = whole / f"{raster.name}.tif"
            path.unlink(missing_ok=True)
            write_cog(partial, units, raster, grid, path, tags=scene_tags(job))
        place_output(whole, out)
        partial.remove()
    for raster in rasters:
        about = raster.tags["units"]
        print(printable(f"{out / raster.name}.tif: {rows * raster.cells}x{columns * raster.cells} pixels, {about}"))
    return 0
