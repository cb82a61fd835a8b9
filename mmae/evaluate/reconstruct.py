"""`mmae reconstruct RUN`: reconstructions of partly hidden tiles by a run's model, one PNG for each tile."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmae.disk.ownership import add_trust_argument
from mmae.terminal.printable import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's folder (run.dir)")
    parser.add_argument("--out", help="folder for the pictures; RUN/pictures if not said")
    parser.add_argument("--tiles", type=int, default=1, help="how many tiles of the split (default 1)")
    parser.add_argument("--split", default="val", help="split to take them from (default val)")
    parser.add_argument(
        "--shards",
        action="append",
        help="where the shards are now, if not at the run's data.shards; once a set",
    )
    parser.add_argument("--step", type=int, help="checkpoint to use; the latest if not said")
    add_trust_argument(parser, "a run")


def run(args: argparse.Namespace) -> int:
    from mmae.disk.files import atomic_file, check_place, writing
    from mmae.errors import InputError
    from mmae.run.folder import open_run

    # A bad path is reported before imports that take seconds.
    run_folder = open_run(args.run, args.trust)
    if args.tiles < 1:
        raise InputError(f"--tiles {args.tiles}: at least one tile is needed")
    folder = Path(args.out) if args.out else run_folder.pictures
    check_place(folder / "picture", folder, "choose another --out")
    import torch

    from mmae.data.checks.stats_cover import check_split
    from mmae.data.loading.loader import read_batches
    from mmae.data.sampling.mixture import all_places
    from mmae.data.sampling.shard_sets import moved, open_sets, split_positions
    from mmae.data.transforms.preprocess import Preprocess
    from mmae.draws import VALIDATION_EPOCH
    from mmae.engine.checkpoint.consolidate import load_trained
    from mmae.engine.step import prepare
    from mmae.evaluate.tile_picture import draw
    from mmae.model.doubtful_weights import warn_of_weights

    trained = load_trained(args.run, args.step, args.trust)
    warn_of_weights(trained.model, args.run)
    config = trained.config
    sets = open_sets(moved(config.data, args.shards))
    for each in sets:
        check_split(each, args.split, config.model.domains, trained.band_stats)
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
    for tile, row in enumerate(batch.row_B.tolist()):
        picture = draw(tile, config.model, inputs, plan, output)
        path = folder / f"step{trained.step}-row{row:09d}.png"
        with writing(path, "make room, or choose another --out"):
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as file:
                picture.save(file, format="PNG")
        print(printable(path))
    return 0
