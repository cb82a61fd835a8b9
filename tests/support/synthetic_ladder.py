"""Points of a law that is known, and ladders made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmae.config.recipe_file import load_config
from mmae.config.schema import flatten
from mmae.scaling_law.ladder_file import Ladder, Rung, read_ladder, write_ladder
from mmae.scaling_law.law import Law, Point

LAW = Law(0.15, 8.0, 0.35, 12.0, 0.4)
SIZES = (100_000, 800_000, 5_300_000, 21_000_000, 85_000_000)
BUDGETS = (2_000, 8_000, 32_000, 128_000, 512_000)
NAMES = ("nano", "micro", "tiny", "small", "base")


def points(sizes: int, budgets: int, noise: float = 0.0, law: Law = LAW, seed: int = 1) -> list[Point]:
    """The points of the first sizes and budgets; `noise` is a share of the loss."""
    draw = np.random.default_rng(seed)
    return [
        Point(name, parameters, tiles, law.loss(parameters, tiles) * float(np.exp(noise * draw.normal())))
        for name, parameters in zip(NAMES[:sizes], SIZES[:sizes], strict=True)
        for tiles in BUDGETS[:budgets]
    ]


def written_ladder(folder: Path, sizes: int = 4, budgets: int = 4) -> Ladder:
    """A ladder's folder of the recipe mini with two outputs: one has the law's losses, the other half of them."""
    config = load_config("mini", [])
    rungs = [
        Rung(
            each.size, each.parameters, each.tiles, 1e9 * each.tiles, 1.0, {"rgb": each.loss, "ired": each.loss / 2}, {}
        )
        for each in points(sizes, budgets, noise=0.002)
    ]
    folder.mkdir()
    write_ladder(folder, {key: value for key, value in flatten(config).items() if key.startswith("model.")}, rungs)
    return read_ladder(folder)
