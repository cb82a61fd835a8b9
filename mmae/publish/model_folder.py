"""`mmae export --format folder`: what `mmae.load_model` and `mmae.load_encoder` read."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from pathlib import Path

    from mmae.publish.export_source import Source

OPTIONS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "--license": {
            "metavar": "ID",
            "help": "licence of the weights, for the model card, such as cc-by-4.0; not said: the card says so",
        }
    }
)


def check(out: Path, args: argparse.Namespace) -> None:
    """Refuse a folder that holds something, and what is no licence."""
    from mmae.disk.files import check_new_folder
    from mmae.publish.hub.model_card import check_license

    check_license(args.license)
    check_new_folder(out)


def write(out: Path, source: Source, args: argparse.Namespace) -> None:
    """Write `model.safetensors`, `config.json` and the model card."""
    from mmae.model.saved.saved_config import SavedModel
    from mmae.model.saved.saved_model import save_finetuned, save_model
    from mmae.model.tuned.finetuned_model import FinetunedModel
    from mmae.publish.hub.model_card import CARD_NAME, LICENSE, model_card
    from mmae.version import __version__

    model = source.model
    extra = {**source.extra, **({LICENSE: args.license} if args.license else {})}
    tuned = model.tuned if isinstance(model, FinetunedModel) else None
    card = model_card(SavedModel(model.config, model.variant, source.band_stats, extra, __version__, tuned))
    others = {CARD_NAME: card}
    if isinstance(model, FinetunedModel):
        save_finetuned(out, model, source.band_stats, extra, others)
    else:
        save_model(out, model, source.band_stats, extra, others)
