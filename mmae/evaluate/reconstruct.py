"""`mmae reconstruct RUN [RUN ...]`: what the models of runs make of partly hidden tiles, a picture for each tile."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmae.disk.ownership import add_trust_argument
from mmae.errors import InputError
from mmae.terminal.missing_package import missing_package
from mmae.terminal.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from mmae.data.sampling.mixture import Places
    from mmae.data.sampling.shard_sets import ShardSet
    from mmae.evaluate.pictures.mask_choice import MaskChoice
    from mmae.evaluate.pictures.picture_model import PictureModel
    from mmae.evaluate.pictures.tile_figure import ModelRows

FORMATS: Final = ("png", "svg", "pdf")
MOST_LETTERS: Final = 200
"""Of a file's name; a file system takes 255 bytes."""
_COMMAND: Final = "mmae reconstruct"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help="a run's folder (run.dir); several are drawn side by side"
    )
    parser.add_argument("--out", help="folder for the pictures; RUN/pictures of the first run if not said")
    tiles = parser.add_mutually_exclusive_group()
    tiles.add_argument("--tiles", type=int, default=1, metavar="N", help="the first N tiles of the split (default 1)")
    tiles.add_argument("--random", type=int, metavar="N", help="N tiles of the split at random (see --seed)")
    tiles.add_argument("--worst", type=int, metavar="N", help="the N tiles with the largest loss of the first run")
    tiles.add_argument("--keys", metavar="A,B|FILE", help="the tiles with these ids, of any split")
    parser.add_argument("--seed", type=int, default=0, help="another number takes other random tiles")
    parser.add_argument("--split", default="val", help="split to take them from (default val)")
    parser.add_argument(
        "--mask", type=int, default=0, metavar="N", help="another random mask; 0 is validation's (default)"
    )
    parser.add_argument("--hide", metavar="A,B", help="let the models see no patch of these input modalities")
    parser.add_argument(
        "--visible",
        metavar="A=0.5,B=1",
        help="let the models see this share of these modalities' patches, and no other",
    )
    parser.add_argument(
        "--shards",
        action="append",
        help="where the first run's shards are now, if not at its data.shards; once a set",
    )
    parser.add_argument(
        "--step", type=int, action="append", help="checkpoint to use, the latest if not said; once, or once a run"
    )
    parser.add_argument("--format", choices=FORMATS, default="png", help="kind of file (default png)")
    add_trust_argument(parser, "a run")


def run(args: argparse.Namespace) -> int:
    from mmae.disk.files import check_place
    from mmae.run.folder import open_run

    # A bad path is reported before imports that take seconds.
    folders = [open_run(path, args.trust) for path in args.runs]
    _check_numbers(args)
    folder = Path(args.out) if args.out else folders[0].pictures
    check_place(folder / "picture", folder, "choose another --out")
    plain = _plain(args)
    from mmae.data.checks.stats_cover import check_levels
    from mmae.data.sampling.shard_sets import moved, open_sets
    from mmae.evaluate.pictures import tile_choice
    from mmae.evaluate.pictures.picture_model import check_alike, load_picture_model

    models = [load_picture_model(path, step, args.trust) for path, step in _runs_and_steps(args)]
    check_alike(models)
    sets = open_sets(moved(models[0].config.data, args.shards))
    masks = _masks(args, models)
    places = _places(args, sets, models[0], masks)
    for number, each in enumerate(sets):
        positions = places.tile_B[places.set_B == number]
        for model in models:
            check_levels(each.index, positions, args.split, model.config.model.domains, model.band_stats)
    for tile in range(len(places)):
        rows = [model.rows(sets, places[tile : tile + 1], masks) for model in models]
        path = folder / f"{file_name(_stem(models), _tile_name(sets, places, tile), masks.name)}.{args.format}"
        about = f"{tile_choice.level_in_words(sets, places, tile)} · {masks.in_words}"
        _write(path, args.format, (tile_choice.describe(sets, places, tile), about), rows, plain)
        print(printable(path))
    return 0


def _check_numbers(args: argparse.Namespace) -> None:
    for option in ("tiles", "random", "worst"):
        number = getattr(args, option)
        if number is not None and number < 1:
            raise InputError(f"--{option} {number}: at least one tile is needed")
    if args.mask < 0:
        raise InputError(f"--mask {args.mask}: masks are numbered from 0")
    if args.hide is not None and args.visible is not None:
        raise InputError("--hide and --visible contradict each other: give one of them")
    if args.step is not None and len(args.runs) > 1 < len(args.step) != len(args.runs):
        raise InputError(
            f"--step is given {len(args.step)} times for {len(args.runs)} runs: give it once, or once a run"
        )


def _runs_and_steps(args: argparse.Namespace) -> list[tuple[str, int | None]]:
    """Each model to load. One run with several steps is drawn at each of them."""
    steps: list[int | None] = args.step or [None]
    count = max(len(args.runs), len(steps))
    runs = args.runs * count if len(args.runs) == 1 else args.runs
    return list(zip(runs, steps * count if len(steps) == 1 else steps, strict=False))[:count]


def _plain(args: argparse.Namespace) -> bool:
    """Whether matplotlib is missing, so that the plain picture is drawn, which a line says.

    Raises:
        InputError: what is asked for cannot be drawn without it.
    """
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        line = missing_package(error, _COMMAND)
        if line is None:
            raise
        if args.format != "png" or len(args.runs) > 1 or len(args.step or ()) > 1:
            raise InputError(line) from error
        import sys

        print(f"a plain picture without units and legend: {line}", file=sys.stderr)
        return True
    return False


def _masks(args: argparse.Namespace, models: Sequence[PictureModel]) -> MaskChoice:
    from mmae.evaluate.baseline import hidden_names
    from mmae.evaluate.pictures.mask_choice import MaskChoice, parse_shares

    hidden: tuple[str, ...] = ()
    shares: dict[str, float] = {}
    for model in models:
        hidden = hidden_names(args.hide, model.config.model)
        shares = parse_shares(args.visible, model.config.model.in_domains) if args.visible is not None else {}
    return MaskChoice(args.mask, hidden, shares)


def _places(args: argparse.Namespace, sets: Sequence[ShardSet], model: PictureModel, masks: MaskChoice) -> Places:
    from mmae.evaluate.pictures import tile_choice

    if args.keys is not None:
        return tile_choice.named_tiles(sets, args.keys)
    if args.random is not None:
        return tile_choice.random_tiles(sets, args.split, args.random, args.seed)
    if args.worst is not None:
        losses_of: Callable[[Places], NDArray[np.float64]] = lambda places: model.losses(sets, places, masks)  # noqa: E731
        return tile_choice.worst_tiles(sets, args.split, args.worst, losses_of)
    return tile_choice.first_tiles(sets, args.split, args.tiles)


def file_name(*parts: str) -> str:
    """The parts that are not empty, joined; of a long name a hash stands for its end, so that no two are alike."""
    name = "-".join(filter(None, parts))
    if len(name) <= MOST_LETTERS:
        return name
    return f"{name[:MOST_LETTERS]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _stem(models: Sequence[PictureModel]) -> str:
    if len(models) == 1:
        return f"step{models[0].step}"
    return "-".join(f"{Path(model.name).name[:40]}-step{model.step}" for model in models)


def _tile_name(sets: Sequence[ShardSet], places: Places, tile: int) -> str:
    number, position = int(places.set_B[tile]), int(places.tile_B[tile])
    of_set = f"set{number}-" if len(sets) > 1 else ""
    return f"{of_set}row{int(sets[number].index.row[position]):09d}"


def _write(path: Path, kind: str, head: tuple[str, str], models: Sequence[ModelRows], plain: bool) -> None:
    from mmae.disk.files import atomic_file, writing
    from mmae.evaluate.pictures.plain_grid import draw_plain
    from mmae.evaluate.pictures.tile_figure import draw_tile, save_figure

    with writing(path, "make room, or choose another --out"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            if plain:
                draw_plain(models[0].rows).save(file, format="PNG")
            else:
                save_figure(draw_tile(head[0], models, head[1]), file, kind)
