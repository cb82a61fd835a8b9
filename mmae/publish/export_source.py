"""The model that `mmae export` writes: from a run's checkpoint, or from a model folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmae.errors import InputError

if TYPE_CHECKING:
    from mmae.model.mmae import MultiMAE
    from mmae.model.tuned.finetuned_model import FinetunedModel


@dataclass(frozen=True)
class Source:
    """A model to export.

    Attributes:
        model: whole, float32, on the CPU.
        band_stats: the statistics its inputs are normalised with.
        extra: JSON-able notes: `run`, `step`, `log_vars` by output, `training`, `license`, ...
    """

    model: MultiMAE | FinetunedModel
    band_stats: Mapping[str, Any]
    extra: Mapping[str, Any]


def read_source(path: str, step: int | None, out: Path, trust: bool = False, averaged: bool = False) -> Source:
    """Load a run's checkpoint, or a model folder.

    Args:
        path: folder of a run, or a model folder.
        step: of the checkpoint; None: the latest.
        out: what will be written; its disk is measured before weights are consolidated.
        trust: read files that other users wrote or can write.
        averaged: take the averaged weights of the checkpoint (`train.ema`).

    Raises:
        InputError: there is no such run, step or model, it is damaged, or the disk is too small.
    """
    return (
        _from_folder(path, step, out, trust, averaged)
        if (Path(path) / "config.json").is_file()
        else _from_run(path, step, out, trust, averaged)
    )


def _from_run(path: str, step: int | None, out: Path, trust: bool, averaged: bool) -> Source:
    from mmae.run.folder import open_run

    # A bad path is reported before imports that take seconds.
    config = open_run(path, trust).stored_config(trust)
    assert config is not None
    from mmae.model.counts.parameter_counts import parameter_counts

    _need_space(out, parameter_counts(config.model).total)
    from mmae.engine.checkpoint.consolidate import load_trained
    from mmae.publish.hub.model_card import AVERAGED, TRAINING
    from mmae.publish.hub.training_facts import training_facts

    trained = load_trained(path, step, trust, averaged)
    # The path of the run is private; users of the model do not need it.
    extra: dict[str, Any] = {"run": Path(os.path.abspath(path)).name, "step": trained.step}
    if trained.half_life is not None:
        extra[AVERAGED] = trained.half_life
    extra[TRAINING] = training_facts(trained.folder, trained.config, trained.step, averaged)
    if trained.log_vars is not None:
        extra["log_vars"] = dict(zip(trained.config.model.outputs, trained.log_vars.tolist(), strict=True))
    return Source(trained.model, trained.band_stats, extra)


def _from_folder(path: str, step: int | None, out: Path, trust: bool, averaged: bool) -> Source:
    if step is not None:
        raise InputError(f"--step {step}: {path} is a model folder, which holds one step only")
    if averaged:
        raise InputError(f"--ema: {path} is a model folder, which holds one kind of weights: leave --ema out")
    from mmae.model.saved.saved_model import load_saved

    saved, model = load_saved(path, trust)
    _need_space(out, sum(tensor.numel() for tensor in model.parameters()))
    return Source(model, saved.band_stats, saved.extra)


def _need_space(out: Path, numbers: int) -> None:
    """Refuse a disk that is too small for this many float32 numbers."""
    from mmae.disk.free_space import need_space

    need_space(out.absolute().parent, 4 * numbers, "make room, or choose another place")
