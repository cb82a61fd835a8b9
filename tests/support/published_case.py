"""Published checkpoints for tests, small or of the published sizes, made from names and shapes alone."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmae.config.schema import ModelConfig
from mmae.model.mmae import MultiMAE
from mmae.model.published.weights import to_published
from mmae.variants import Variant


def published_model(config: ModelConfig, variant: Variant, seed: int = 0) -> dict[str, Tensor]:
    """The `model` entry: random weights under published names, alphabetical within decoders as published ones are."""
    generator = torch.Generator().manual_seed(seed)
    state = MultiMAE(config, variant).state_dict()
    random = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in state.items()}
    return to_published(random, config, variant)


def options(config: ModelConfig, **others: Any) -> argparse.Namespace:
    """Options as the published training keeps them, its own paths and switches among them."""
    return argparse.Namespace(
        in_domains=list(config.in_domains),
        out_domains=list(config.out_domains),
        input_size=config.input_size,
        patch_size=config.patch_size,
        num_encoded_tokens=config.num_encoded_tokens,
        alphas=config.alphas,
        decoder_num_heads=config.decoder_num_heads,
        output_dir="somewhere",
        auto_resume=True,
        opt_betas=[0.9, 0.95],
        fp32_output_adapters="",
        world_size=4,
        **others,
    )


def save_published(path: Path, weights: dict[str, Tensor], args: argparse.Namespace | None, **others: Any) -> Path:
    """A file as the published training writes it."""
    checkpoint = {"model": weights, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}, "epoch": 3, **others}
    checkpoint["scaler"] = {"scale": 65536.0, "growth_interval": 2000}
    torch.save(checkpoint if args is None else {**checkpoint, "args": args}, path)
    return path
