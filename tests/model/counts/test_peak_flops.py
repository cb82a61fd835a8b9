"""Makers' figures."""

from __future__ import annotations

import pytest
import torch

from mmae.config.recipe_file import load_config
from mmae.model.counts.flops import training_flops_per_tile
from mmae.model.counts.peak_flops import datasheet_flops, flops_of_model, peak_of_recipe


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("NVIDIA H100 80GB HBM3", (989e12, "H100")),
        ("NVIDIA A100-SXM4-80GB", (312e12, "A100")),
        ("NVIDIA GH200 480GB", (989e12, "GH200")),
        ("NVIDIA A10", None),
        ("", None),
    ],
)
def test_a_model_is_told_by_its_whole_name(name: str, found: tuple[float, str] | None) -> None:
    assert flops_of_model(name) == found


def test_a_step_partly_in_float8_has_a_peak_between() -> None:
    def peak(*words: str) -> float | None:
        return peak_of_recipe(100.0, load_config("vit_l", [*words]))

    assert peak() == 100
    assert peak("train.float8=emulated") is None
    # Of the encoder's block qkv and fc1 gain: 7 of 12 width^2; the huge encoder gains in all layers.
    large, huge = (
        ["train.float8=tensorwise", "train.compile=true", f"model.size={size}"] for size in ("large", "huge")
    )
    share = 7 / 12 * 12 * 1024**2 * 24 * 2 * 50 * 3 / training_flops_per_tile(load_config("vit_l", []).model)
    assert peak(*large) == pytest.approx(100 / (1 - share / 2))
    assert 190 < (peak(*huge) or 0) < 200
    # With a frozen encoder behind a frozen tokenizer only its forward pass is left.
    frozen = peak(*huge, "train.frozen=[tokenizer,encoder]")
    assert frozen is not None
    assert 170 < frozen < 200


def test_nothing_is_claimed_of_a_cpu() -> None:
    assert datasheet_flops(torch.device("cpu"), torch.bfloat16) is None
