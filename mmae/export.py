"""`mmae export RUN OUT`: writes a checkpoint as a model folder without DeepSpeed, or with published names."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from mmae.disk.ownership import add_trust_argument

if TYPE_CHECKING:
    from mmae.model.mmae import MultiMAE


@dataclass(frozen=True)
class Source:
    """A model to export.

    Attributes:
        band_stats: the statistics its inputs are normalised with.
        extra: JSON-able notes: `run`, `step`, `log_vars` by output, ...
    """

    model: MultiMAE
    band_stats: Mapping[str, Any]
    extra: Mapping[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's folder (run.dir), or a model folder to export again")
    parser.add_argument("out", metavar="OUT", help="folder to write (model.safetensors and config.json), or file")
    parser.add_argument(
        "--format",
        choices=("folder", "published"),
        default="folder",
        help="a model folder (default), or one file under the names that the published code loads",
    )
    parser.add_argument("--step", type=int, help="checkpoint to export; the latest if not said")
    add_trust_argument(parser, "a run or model")


def run(args: argparse.Namespace) -> int:
    from mmae.disk.files import check_new_file, check_new_folder

    out, published = Path(args.out), args.format == "published"
    # Checked before weights are consolidated, which takes minutes.
    (check_new_file if published else check_new_folder)(out)
    source = _from_folder(args) if (Path(args.run) / "config.json").is_file() else _from_run(args)
    from mmae.model.doubtful_weights import warn_of_weights

    warn_of_weights(source.model, args.run)
    if published:
        _write_published(out, source)
    else:
        from mmae.model.saved.saved_model import save_model

        save_model(out, source.model, source.band_stats, source.extra)
    step = f"step {source.extra['step']}, " if "step" in source.extra else ""
    print(f"{out}: {step}{sum(p.numel() for p in source.model.parameters()):,} parameters, float32")
    return 0


def _from_run(args: argparse.Namespace) -> Source:
    from mmae.run.folder import open_run

    # A bad path is reported before imports that take seconds.
    config = open_run(args.run, args.trust).stored_config(args.trust)
    assert config is not None
    from mmae.model.counts.parameter_counts import parameter_counts

    _need_space(args, parameter_counts(config.model).total)
    from mmae.engine.checkpoint.consolidate import load_trained

    trained = load_trained(args.run, args.step, args.trust)
    # The path of the run is private; users of the model do not need it.
    extra: dict[str, Any] = {"run": Path(os.path.abspath(args.run)).name, "step": trained.step}
    if trained.log_vars is not None:
        extra["log_vars"] = dict(zip(trained.config.model.outputs, trained.log_vars.tolist(), strict=True))
    return Source(trained.model, trained.band_stats, extra)


def _need_space(args: argparse.Namespace, numbers: int) -> None:
    """Refuse a disk that is too small for this many float32 numbers."""
    from mmae.disk.free_space import need_space

    need_space(Path(args.out).absolute().parent, 4 * numbers, "make room, or choose another place")


def _from_folder(args: argparse.Namespace) -> Source:
    from mmae.errors import InputError

    if args.step is not None:
        raise InputError(f"--step {args.step}: {args.run} is a model folder, which holds one step only")
    from mmae.model.saved.saved_config import read_model_config
    from mmae.model.saved.saved_model import load_model

    saved, model = read_model_config(args.run, args.trust), load_model(args.run, args.trust)
    _need_space(args, sum(tensor.numel() for tensor in model.parameters()))
    return Source(model, saved.band_stats, saved.extra)


def _write_published(out: Path, source: Source) -> None:
    """One torch save with float32 weights and options. The format has no place for band statistics."""
    import torch

    from mmae.disk.files import atomic_file, writing
    from mmae.disk.library_file import library_file
    from mmae.model.published.file import published_checkpoint

    model, epoch = source.model, source.extra.get("epoch")
    checkpoint = published_checkpoint(
        model.state_dict(), model.config, model.variant, source.extra.get("log_vars"), epoch
    )
    with writing(out, "make room, or choose another place"):
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(out, replace=False) as file, library_file(file) as output:
            torch.save(checkpoint, cast("IO[bytes]", output))
