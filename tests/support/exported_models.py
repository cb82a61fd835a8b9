"""Models with many inputs for tests of exports, and inputs for them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmae.cli import main
from mmae.config.schema import ModelConfig
from mmae.modalities import MODALITIES
from mmae.model.mmae import MultiMAE
from mmae.model.saved.saved_model import save_model
from tests.support.paths import ROOT

IMAGES = ("rgb", "ired", "sired", "ebands", "depth", "sentinel1", "canopy_height", "slope")


def _entry(bands: int, first: float) -> dict[str, list[float]]:
    return {"mean": [first + band for band in range(bands)], "std": [1.5 + band for band in range(bands)]}


BAND_STATS: dict[str, Any] = {
    "sentinel2_l1c": _entry(13, 1000.0),
    "sentinel2_l2a": _entry(13, 2000.0),
    "sentinel1": _entry(8, -20.0),
    "aster": _entry(2, 300.0),
    "canopy_height_eth": _entry(2, 7.0),
}


def many_inputs(size: str = "nano", num_global_tokens: int = 1, **others: Any) -> MultiMAE:
    """A model whose inputs are all image modalities and `semseg`, with random weights, in eval mode."""
    config = ModelConfig(
        size=size, in_domains=(*IMAGES, "semseg"), out_domains=("rgb",), extra_norm_pix_loss=False, decoder_dim=16,
        decoder_depth=1, decoder_num_heads=2, num_global_tokens=num_global_tokens, **others,
    )  # fmt: skip
    model = MultiMAE(config, seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in (*model.tokenizer.parameters(), *model.encoder.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return model


def saved(model: MultiMAE, folder: Path) -> Path:
    save_model(folder, model, BAND_STATS)
    return folder


def tells_no_path(*files: Path) -> None:
    """No file says where this project, torch or the interpreter lie, nor holds a stack trace."""
    for file in files:
        content = file.read_bytes()
        for place in (str(ROOT), str(Path(torch.__file__).parent), sys.prefix, 'File "/'):
            assert place.encode() not in content, f"{file.name} says {place}"


def image(name: str, batch: int, hw: tuple[int, int] = (56, 56), seed: int = 3) -> Tensor:
    """Random normalised floats (B, C, H, W) of an image modality, or class ids (B, h, w)."""
    modality, generator = MODALITIES[name], torch.Generator().manual_seed(seed)
    height, width = (side // modality.stride for side in hw)
    if modality.categorical:
        return torch.randint(modality.num_classes, (batch, height, width), generator=generator)
    return torch.randn(batch, len(modality.bands), height, width, generator=generator)


def export(*words: object) -> int:
    return main(["export", *map(str, words)])


def near_the_largest(ours: Tensor, theirs: Tensor) -> None:
    """Equal within 1e-5 of the largest value: the rounding of float32 grows with depth, also where values are small."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())


def near(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
