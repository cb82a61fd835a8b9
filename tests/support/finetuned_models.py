"""Small pretrained and fine-tuned models for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mmae.config.schema import ModelConfig
from mmae.finetune.model.build_finetuned import Built, build_finetuned
from mmae.finetune.model.save_finetuned import save_finetuned
from mmae.model.heads.head_options import HeadOptions
from mmae.model.mmae import MultiMAE
from mmae.model.saved.saved_model import save_model
from mmae.model.tuned.finetuned_model import FinetunedModel
from mmae.model.tuned.task import Task
from tests.support.scenes import STATS

COVER = Task(kind="segmentation", name="cover", classes=("trees", "water", "city"), class_codes=(10, 80, 50), ignore=-1)
SCENE = Task(kind="classification", name="scene", classes=("desert", "coast"))
LABELS = Task(kind="multilabel", name="labels", classes=("fields", "roads", "lakes"))
HEIGHT = Task(kind="pixel_regression", name="height", targets=("canopy",), units=("m",), mean=(20.0,), std=(5.0,))
SOIL = Task(kind="regression", name="soil", targets=("pH", "carbon"), units=("", "g/kg"), mean=(6.0, 50.0),
            std=(0.5, 20.0))  # fmt: skip

NARROW = {"upernet": 16, "convnext": 32, "dpt": 16}
"""Widths that keep tests short."""
KINDS = ("linear", "attention", "patch_linear", "upernet", "convnext", "dpt")


def options(kind: str, **others: Any) -> HeadOptions:
    return HeadOptions(kind=kind, width=NARROW.get(kind), **others)  # type: ignore[arg-type]


def task_for(kind: str) -> Task:
    return COVER if options(kind).dense else SCENE


def pretrained(folder: Path, **others: Any) -> Path:
    """A pretrained model's folder: nano, 32 px, patches of 8, with random weights."""
    config = ModelConfig(
        **{
            "size": "nano", "in_domains": ("rgb", "depth", "semseg", "ebands"), "out_domains": ("rgb",),
            "input_size": 32, "num_encoded_tokens": 6, "decoder_dim": 16, "decoder_depth": 1, "decoder_num_heads": 2,
            **others,
        }
    )  # fmt: skip
    model = MultiMAE(config, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
    save_model(folder, model, STATS, {"step": 7, "license": "cc-by-4.0"})
    return folder


def shaken(model: FinetunedModel, seed: int = 5) -> FinetunedModel:
    """The model after something like training: its trained weights have moved."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model


def finetuned(folder: Path, source: Path, task: Task, kind: str, **others: Any) -> Built:
    """Build, move and save a fine-tuned model."""
    built = build_finetuned(str(source), task, head=options(kind), **others)
    shaken(built.model)
    save_finetuned(folder, built.model, built.band_stats, built.origin)
    return built
