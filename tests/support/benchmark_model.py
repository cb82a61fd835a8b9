"""A model folder that is small enough for benchmarks in tests, and a suite that it can be scored on."""

from __future__ import annotations

import csv
from pathlib import Path

import torch

from mmae.cli import main
from mmae.config.schema import ModelConfig
from mmae.model.mmae import MultiMAE
from mmae.model.saved.saved_model import save_model
from tests.support.raw_encoder_case import STATS


def write_model(folder: Path, inputs: tuple[str, ...] = ("rgb", "sired"), weight: float | None = None) -> Path:
    """A nano model of 16 pixels and patches of 4.

    Args:
        weight: of all of its encoder; None: random.
    """
    config = ModelConfig(
        size="nano", in_domains=inputs, out_domains=inputs[:1], input_size=16, patch_size=4, num_encoded_tokens=4,
        decoder_dim=16, decoder_num_heads=2, decoder_depth=1, extra_norm_pix_loss=False,
    )  # fmt: skip
    model = MultiMAE(config, seed=1)
    if weight is not None:
        with torch.no_grad():
            for parameter in model.encoder.parameters():
                parameter.fill_(weight)
    save_model(folder, model, STATS)
    return folder


def benchmark(*words: object) -> int:
    return main(["benchmark", *map(str, words)])


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
