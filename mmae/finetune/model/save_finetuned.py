"""The folder of a fine-tuned model: weights, config.json, and a model card that names the model it started from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmae.finetune.model.lora import merged
from mmae.model.saved.saved_config import SavedModel
from mmae.model.saved.saved_model import save_finetuned as save_plain
from mmae.model.tuned.finetuned_model import FinetunedModel
from mmae.publish.hub.model_card import CARD_NAME, model_card
from mmae.version import __version__


def save_finetuned(
    folder: str | Path,
    model: FinetunedModel,
    band_stats: Mapping[str, Any],
    origin: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a model folder that all commands load. LoRA is merged; the model itself is left as it is.

    Args:
        folder: must not exist, or be empty.
        model: with whole weights, on any device.
        band_stats: the statistics that its inputs were normalised with in fine-tuning.
        origin: `Built.origin`.
        extra: further JSON-able notes, without paths: `finetuning` is shown in the card (recipe and scores).

    Raises:
        InputError: the folder holds something already, or cannot be written.
    """
    plain, notes = merged(model), {**origin, **(extra or {})}
    saved = SavedModel(plain.config, plain.variant, band_stats, notes, __version__, plain.tuned)
    save_plain(folder, plain, band_stats, notes, {CARD_NAME: model_card(saved)})
