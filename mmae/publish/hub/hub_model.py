"""`mmae.MultiMAE`: the model, with the hub's three methods over our own folder and strict loader.

`huggingface_hub.PyTorchModelHubMixin` is not used: it ignores weights that are missing or unknown, and may read a
pickle. Of its parent only the upload is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import ModelCard, ModelHubMixin

from mmae.config.schema import ModelConfig
from mmae.errors import InputError
from mmae.inference.model_location import model_folder
from mmae.model.mmae import MultiMAE as PlainMultiMAE
from mmae.model.saved.saved_config import SavedModel
from mmae.model.saved.saved_model import load_pretrained, save_model
from mmae.publish.hub.model_card import CARD_NAME, LICENSE, check_license, model_card
from mmae.variants import Variant
from mmae.version import __version__


class MultiMAE(ModelHubMixin, PlainMultiMAE):
    """Multi-modal masked autoencoder that is loaded from and pushed to the Hugging Face hub.

    The mixin comes first: after a ZeRO-3 engine, `torch.nn.Module` no longer tells it of new classes.

    Attributes:
        saved: what config.json says or would say: statistics of the inputs, notes of the training.
    """

    def __init__(
        self,
        config: ModelConfig,
        variant: Variant | None = None,
        band_stats: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        """A model with initial weights.

        Args:
            config: already checked.
            variant: encoder size; that of `config.size` if None.
            band_stats: JSON-able statistics that the inputs are normalised with.
            extra: JSON-able notes.
            seed: of the initial weights.
        """
        super().__init__(config, variant, seed=seed)
        self.saved = SavedModel(config, self.variant, band_stats or {}, extra or {}, __version__)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        trust: bool = False,
    ) -> Self:
        """The model of a folder or of the hub, float32 on the CPU, in eval mode.

        Args:
            source: a folder that `mmae export` or `save_pretrained` wrote, or `owner/name` on the hub.
            revision: branch, tag or commit on the hub.
            cache_dir, token, local_files_only, force_download: as in `huggingface_hub.snapshot_download`.
            trust: read files that other users wrote or can write.

        Raises:
            InputError: there is no such model, a file is damaged, or a weight is missing, unknown or of another shape.
        """
        folder = model_folder(
            source,
            revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            force_download=force_download,
        )
        saved, loaded = load_pretrained(folder, trust)
        with torch.device("meta"):
            model = cls(saved.config, saved.variant)
        model.load_state_dict(loaded.state_dict(), assign=True)
        model.saved = saved
        return model.eval()

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: str | Path,
        *,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: Mapping[str, Any] | None = None,
        config: None = None,
        **push: Any,
    ) -> str | None:
        """Write weights, config.json and a model card, whole or not at all; then push them if asked.

        Args:
            save_directory: must not exist, or be empty.
            repo_id: `owner/name` on the hub; the folder's name if None.
            model_card_kwargs: `license`, an identifier such as `cc-by-4.0`; nothing else.
            config: is that of the model, and cannot be another.
            push: further arguments of `push_to_hub`.

        Returns:
            Address of the commit on the hub, if the model was pushed.

        Raises:
            InputError: the folder holds something already, or the arguments are others.
        """
        saved = self._described(model_card_kwargs or {})
        if config is not None:
            raise InputError("config: a model is saved with its own configuration; leave the argument out")
        others = {CARD_NAME: model_card(saved)}
        save_model(save_directory, self, saved.band_stats, saved.extra, others)
        if not push_to_hub:
            return None
        name = repo_id or Path(save_directory).name
        return self.push_to_hub(name, model_card_kwargs=dict(model_card_kwargs or {}), **push)

    def generate_model_card(self, *_: Any, **words: Any) -> ModelCard:
        """The model card as `save_pretrained` writes it."""
        return ModelCard(model_card(self._described(words)))

    def _described(self, words: Mapping[str, Any]) -> SavedModel:
        if others := set(words) - {LICENSE}:
            raise InputError(f"model_card_kwargs: {', '.join(sorted(others))} is not known; it takes {LICENSE!r} only")
        stated = words.get(LICENSE)
        check_license(stated)
        return replace(self.saved, extra={**self.saved.extra, LICENSE: stated}) if stated else self.saved
