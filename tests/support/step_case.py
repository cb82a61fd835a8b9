"""A small model, its recipe, and tiles with gaps: what one optimiser step or one validation works on."""

from __future__ import annotations

import torch

from mmae.config.recipe_file import build_config
from mmae.config.schema import Config
from mmae.data.transforms.preprocess import Preprocess
from mmae.draws import tile_keys
from mmae.engine.step import Prepared, prepare_step
from mmae.types import Batch
from mmae.variants import Variant

SIZE = 24
VARIANT = Variant(16, 1, 2, 32)
STATS = {
    level: {"mean": [1000.0] * 13, "std": [500.0] * 13, "min": [0.0] * 13, "max": [1e4] * 13}
    for level in ("sentinel2_l1c", "sentinel2_l2a")
} | {"aster": {"mean": [100.0, 1.0], "std": [50.0, 1.0], "min": [0.0, 0.0], "max": [1e3, 9e1]}}


def config(**flat: object) -> Config:
    small = {
        "model.input_size": SIZE, "model.num_encoded_tokens": 9, "model.decoder_dim": 8, "model.decoder_num_heads": 2,
        "model.decoder_depth": 1, "train.global_batch": 8,
    }  # fmt: skip
    return build_config({**small, **{key.replace("__", "."): value for key, value in flat.items()}}, "test")


def tiles(count: int) -> Batch:
    """Tiles of which half have no land cover and some have no optical data."""
    generator = torch.Generator().manual_seed(3)
    rows = torch.arange(count)
    s2 = torch.randint(1, 3000, (count, 13, SIZE, SIZE), generator=generator).to(torch.uint16)
    cover = torch.randint(1, 9, (count, 1, SIZE, SIZE), generator=generator) * 10
    cover[: count // 2] = 0
    s2[1] = 0
    aster = torch.randint(-50, 900, (count, 2, SIZE, SIZE), generator=generator).to(torch.int16)
    return Batch(
        pixels={"sentinel2": s2, "aster": aster, "esa_worldcover": cover.to(torch.uint8)},
        level_B=torch.zeros(count, dtype=torch.uint8),
        row_B=rows,
        key_B=torch.from_numpy(tile_keys(0, 0, rows.numpy())),
        real_B=torch.ones(count, dtype=torch.bool),
    )


def micro_batches(settings: Config, parts: int) -> Prepared:
    """Eight tiles as `parts` micro-batches, with floats and masks."""
    preprocess = Preprocess(settings.data, settings.model, STATS, torch.device("cpu"))
    return prepare_step(cut(tiles(8), parts), preprocess, settings)


def cut(batch: Batch, parts: int) -> list[Batch]:
    size = len(batch.row_B) // parts

    def piece(part: int) -> Batch:
        where = slice(part * size, (part + 1) * size)
        return Batch(
            {name: pixels[where] for name, pixels in batch.pixels.items()},
            batch.level_B[where], batch.row_B[where], batch.key_B[where], batch.real_B[where],
        )  # fmt: skip

    return [piece(part) for part in range(parts)]
