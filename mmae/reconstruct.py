"""`mmae reconstruct RUN`: what a run's model makes of tiles it sees a part of, as a PNG grid a tile."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmae.config import Config
    from mmae.types import Inputs, MaskPlan, ModelOutput

COLUMNS = ("input", "visible", "prediction", "target")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's folder (run.dir)")
    parser.add_argument("--out", help="folder for the pictures; RUN/pictures if not said")
    parser.add_argument("--tiles", type=int, default=1, help="how many tiles of the split (default 1)")
    parser.add_argument("--split", default="val", help="split to take them from (default val)")
    parser.add_argument(
        "--shards", action="append", help="where the shards are, if not at the run's data.shards any more; once a set"
    )
    parser.add_argument("--step", type=int, help="checkpoint to use; the latest if not said")
    parser.add_argument("--trust", action="store_true", help="load a checkpoint that another user wrote")


def run(args: argparse.Namespace) -> int:
    from mmae.engine.run_folder import open_run
    from mmae.errors import InputError

    # Before seconds of imports.
    open_run(args.run)
    if args.tiles < 1:
        raise InputError(f"--tiles {args.tiles}: at least one tile is needed")
    import torch

    from mmae.data.atomic import atomic_file
    from mmae.data.loader import read_batches
    from mmae.data.mixture import all_places
    from mmae.data.preprocess import Preprocess
    from mmae.data.sets import moved, open_sets, split_positions
    from mmae.draws import VALIDATION_EPOCH
    from mmae.engine.consolidate import load_trained
    from mmae.engine.step import prepare

    trained = load_trained(args.run, args.step, args.trust)
    config = trained.config
    sets = open_sets(moved(config.data, args.shards))
    places = all_places(split_positions(sets, args.split))[: args.tiles]
    batch = next(
        read_batches(
            sets,
            config.model.domains,
            places,
            seed=config.train.seed,
            epoch=VALIDATION_EPOCH,
            size=len(places),
        )
    )
    preprocess = Preprocess(config.data, config.model, trained.band_stats, torch.device("cpu"))
    inputs, plan = prepare(batch, preprocess, config, train=False)
    with torch.no_grad():
        output = trained.model(inputs.values, plan)
    folder = Path(args.out) if args.out else trained.folder.pictures
    folder.mkdir(parents=True, exist_ok=True)
    for tile, row in enumerate(batch.row_B.tolist()):
        picture = draw(tile, config, inputs, plan, output)
        path = folder / f"step{trained.step}-row{row:09d}.png"
        with atomic_file(path) as file:
            picture.save(file, format="PNG")
        print(path)
    return 0


def draw(tile: int, config: Config, inputs: Inputs, plan: MaskPlan, output: ModelOutput) -> Any:
    """The grid of one tile of a batch: a row an output; input, what was visible of it, prediction, target."""
    from mmae.pictures import grid

    rows = [(name, _row(name, tile, config, inputs, plan, output)) for name in config.model.outputs]
    return grid(rows, COLUMNS)


def _row(
    name: str, tile: int, config: Config, inputs: Inputs, plan: MaskPlan, output: ModelOutput
) -> list[NDArray[np.uint8]]:
    import numpy as np

    from mmae.modalities import NORM_RGB, output_source
    from mmae.pictures import Stretch, colour_classes, hide

    modality = output_source(name)
    target = inputs.values[modality.name][tile].numpy()
    valid = inputs.valid[modality.name][tile].numpy()
    predicted = _as_image(output.patches[name][tile], config.model.grid_hw)
    if name == NORM_RGB:
        predicted = _undo_patch_norm(predicted, target, config.model.grid_hw)
    if modality.categorical:
        whole = colour_classes(target, modality)
        guess = colour_classes(predicted[: modality.no_data_class].argmax(0), modality)
    else:
        stretch = Stretch.of(target, valid)
        whole = stretch.colour(target, valid)
        guess = stretch.colour(predicted, np.ones_like(valid))
    if modality.name not in config.model.in_domains:
        nothing = hide(whole, np.ones((1, 1), dtype=bool))
        return [nothing, nothing, guess, whole]
    place = config.model.in_domains.index(modality.name)
    hidden = plan.hidden_BN[tile].view(len(config.model.in_domains), *config.model.grid_hw)[place].numpy()
    return [whole, hide(whole, hidden), guess, whole]


def _as_image(patches_nCpp: Any, grid_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Patches (n, C, p, p) laid out as one image (C, h, w)."""
    rows, columns = grid_hw
    _, channels, side, _ = patches_nCpp.shape
    image = patches_nCpp.float().reshape(rows, columns, channels, side, side).permute(2, 0, 3, 1, 4)
    array: NDArray[np.float32] = image.reshape(channels, rows * side, columns * side).numpy()
    return array


def _undo_patch_norm(
    image_Chw: NDArray[np.float32], target_Chw: NDArray[np.float32], grid_hw: tuple[int, int]
) -> NDArray[np.float32]:
    """A prediction of normalised patches, with the mean and deviation of the target's patches put back."""
    channels, height, width = image_Chw.shape
    rows, columns = grid_hw
    shape = channels, rows, height // rows, columns, width // columns
    target = target_Chw.reshape(shape)
    mean = target.mean(axis=(0, 2, 4), keepdims=True)
    deviation = (target.var(axis=(0, 2, 4), ddof=1, keepdims=True) + 1e-6) ** 0.5
    restored: NDArray[np.float32] = (image_Chw.reshape(shape) * deviation + mean).reshape(image_Chw.shape)
    return restored
