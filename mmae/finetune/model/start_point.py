"""What fine-tuning starts from: a model folder, a run, a model of the hub, or a published checkpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mmae.errors import InputError
from mmae.model.encoder import EncoderModel
from mmae.publish.hub.tuned_card import BASE, BASE_LICENSE

SCRATCH: Final = "none"


@dataclass(frozen=True)
class Start:
    """A pretrained model.

    Attributes:
        model: float32, on the CPU; its decoders or head are not used.
        band_stats: the statistics its inputs were normalised with.
        origin: JSON-able notes about it, without paths.
        notes: sentences for the user.
    """

    model: EncoderModel
    band_stats: Mapping[str, Any]
    origin: Mapping[str, Any]
    notes: tuple[str, ...] = field(default=())


def read_start(source: str, step: int | None = None, trust: bool = False) -> Start:
    """Read what `init_from` names.

    Args:
        source: folder of a model or a run, `owner/name` on the hub, or the file of a published checkpoint.
        step: of a run's checkpoint; None: the latest.
        trust: read files that other users wrote or can write.

    Raises:
        InputError: there is nothing of the kind, or it is damaged.
    """
    place = Path(source)
    if place.is_dir() and not (place / "config.json").is_file():
        return _of_run(source, step, trust)
    if step is not None:
        raise InputError(f"step {step}: {source} is no run, and only runs have several steps: leave it out")
    return _of_file(place, trust) if place.is_file() else _of_model(source, trust)


def _of_run(run: str, step: int | None, trust: bool) -> Start:
    from mmae.engine.checkpoint.consolidate import load_trained

    trained = load_trained(run, step, trust)
    return Start(trained.model, trained.band_stats, {BASE: _last(run), "base_step": trained.step})


def _of_file(path: Path, trust: bool) -> Start:
    from mmae.model.published.file import read_published
    from mmae.publish.import_published import build

    model, notes = build(read_published(path, trust))
    said = (*notes, "the file has no band statistics: inputs are normalised with those of the data")
    return Start(model, {}, {BASE: path.name}, said)


def _of_model(source: str, trust: bool) -> Start:
    from mmae.inference.model_location import model_folder
    from mmae.model.saved.saved_model import load_saved

    folder = model_folder(source)
    saved, model = load_saved(folder, trust)
    # The name of a folder of this machine says enough, and its path is private.
    origin: dict[str, Any] = {BASE: _last(source) if Path(source).exists() else source}
    kept = {"step": "base_step", "license": BASE_LICENSE, "training": "base_training"}
    origin |= {ours: saved.extra[theirs] for theirs, ours in kept.items() if theirs in saved.extra}
    return Start(model, saved.band_stats, origin)


def _last(path: str) -> str:
    return os.path.basename(os.path.abspath(path))
