"""Rows of pictures, of a small model on made-up tiles."""

from __future__ import annotations

from functools import cache

import torch

from mmae.bench.step.step_batch import made_up_band_stats, made_up_batch
from mmae.config.recipe_file import build_config
from mmae.data.transforms.preprocess import Preprocess
from mmae.engine.step import prepare
from mmae.evaluate.pictures.tile_rows import RealNumbers, TileRow, rows_of
from mmae.model.mmae import MultiMAE
from mmae.types import Batch, Inputs, MaskPlan, ModelOutput
from mmae.variants import Variant

CONFIG = build_config(
    {
        "model.input_size": 32, "model.num_encoded_tokens": 20, "model.decoder_dim": 16, "model.decoder_num_heads": 2,
        "model.decoder_depth": 1, "model.in_domains": ["rgb", "depth", "semseg", "sired"],
        "model.out_domains": ["rgb", "depth", "semseg", "sired", "sentinel1"],
    },
    "test",
)  # fmt: skip


@cache
def case() -> tuple[Batch, Preprocess, Inputs, MaskPlan, ModelOutput]:
    """A batch of two tiles with a hole in rgb, and what a model with random weights makes of it."""
    batch = made_up_batch(CONFIG.model.domains, 2)
    batch.pixels["sentinel2"][:, :, 20:30, 20:30] = 0
    preprocess = Preprocess(CONFIG.data, CONFIG.model, made_up_band_stats(), torch.device("cpu"))
    inputs, plan = prepare(batch, preprocess, CONFIG, train=False)
    torch.manual_seed(0)
    with torch.no_grad():
        output = MultiMAE(CONFIG.model, Variant(32, 1, 2, 64)).eval()(inputs.values, plan)
    return batch, preprocess, inputs, plan, output


def real_numbers(tile: int) -> RealNumbers:
    batch, preprocess, *_ = case()
    scales = preprocess.tile_scales(batch, train=False)
    of_tile = {name: (float(mean_B[tile]), float(deviation_B[tile])) for name, (mean_B, deviation_B) in scales.items()}
    return RealNumbers(made_up_band_stats(), int(batch.level_B[tile]), of_tile)


def made_up_rows(tile: int = 0, real: bool = True) -> tuple[TileRow, ...]:
    _, _, inputs, plan, output = case()
    return rows_of(tile, CONFIG.model, inputs, plan, output, real_numbers(tile) if real else None)
