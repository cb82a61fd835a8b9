"""`mmae export RUN OUT`: writes a run's model, or a model folder again, in a format that other programs load."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from mmae.disk.ownership import add_trust_argument
from mmae.errors import InputError

if TYPE_CHECKING:
    from mmae.publish.export_format import ExportFormat

FORMATS: Final = MappingProxyType(
    {
        "folder": ("mmae.publish.model_folder", "a model folder (default)"),
        "published": ("mmae.publish.published_file", "one file under the names that the published code loads"),
        "timm": ("mmae.publish.images.timm_folder", "the encoder of one image, a folder for timm and transformers"),
        "onnx": ("mmae.publish.programs.onnx_folder", "the encoder at one image size, a folder with model.onnx"),
        "torch-export": ("mmae.publish.programs.program_file", "the same as torch's ExportedProgram, one file"),
        "terratorch": ("mmae.publish.plugins.terratorch_folder", "a backbone for TerraTorch and its configuration"),
        "torchgeo": ("mmae.publish.images.torchgeo_folder", "weights of one image and their entry for TorchGeo"),
        "torchgeo-bench": ("mmae.publish.plugins.bench_folder", "a model for torchgeo-bench and its configuration"),
    }
)
"""Value of `--format` -> the module that writes it (`mmae.publish.export_format`), and a few words of help."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's folder (run.dir), or a model folder to export again")
    parser.add_argument("out", metavar="OUT", help="folder or file to write; it must not exist yet")
    parser.add_argument(
        "--format",
        choices=tuple(FORMATS),
        default="folder",
        help="; ".join(f"{name}: {words}" for name, (_, words) in FORMATS.items()),
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--step", type=int, help="checkpoint to export; the latest if not said")
    which.add_argument("--best", action="store_true", help="export the run's best checkpoint (checkpoint.keep_best)")
    parser.add_argument("--ema", action="store_true", help="export the averaged weights of the checkpoint (train.ema)")
    add_trust_argument(parser, "a run or model")
    for flag, arguments in _all_options().items():
        parser.add_argument(flag, **arguments)


def run(args: argparse.Namespace) -> int:
    chosen, out = _format(args.format), Path(args.out)
    _refuse_others_options(args)
    # Checked before weights are consolidated, which takes minutes.
    chosen.check(out, args)
    from mmae.publish.export_source import read_source

    step = _best_step(args.run, args.trust, args.ema) if args.best else args.step
    source = read_source(args.run, step, out, args.trust, args.ema)
    from mmae.model.saved.doubtful_weights import warn_of_weights

    warn_of_weights(source.model, args.run)
    chosen.write(out, source, args)
    said = f"step {source.extra['step']}, " if "step" in source.extra else ""
    said += "averaged weights, " if args.ema else ""
    # The format may hold a part of them.
    print(f"{out}: {said}from a model of {sum(p.numel() for p in source.model.parameters()):,} parameters, float32")
    return 0


def _best_step(run: str, trust: bool, averaged: bool) -> int:
    from mmae.config.score_names import is_of_average
    from mmae.run.best_checkpoint import best_of_run
    from mmae.terminal.message import say

    if (Path(run) / "config.json").is_file():
        raise InputError(f"--best: {run} is a model folder, which holds one step only")
    best = best_of_run(run, trust)
    if is_of_average(best.score) != averaged:
        scored = "the weights themselves: leave --ema out" if averaged else "the averaged weights: add --ema"
        say(f"--best: step {best.step} is the best by {best.score}, a score of {scored} to export those")
    return best.step


def _format(name: str) -> ExportFormat:
    return cast("ExportFormat", import_module(FORMATS[name][0]))


def _all_options() -> dict[str, dict[str, Any]]:
    """The options of all formats; the help of each says which formats take it."""
    options: dict[str, dict[str, Any]] = {}
    for flag in dict.fromkeys(flag for name in FORMATS for flag in _format(name).OPTIONS):
        takers = [name for name in FORMATS if flag in _format(name).OPTIONS]
        arguments = dict(_format(takers[0]).OPTIONS[flag])
        options[flag] = arguments | {"help": f"{', '.join(takers)}: {arguments['help']}"}
    return options


def _refuse_others_options(args: argparse.Namespace) -> None:
    own = _format(args.format).OPTIONS
    for flag in _all_options():
        if flag not in own and getattr(args, flag.removeprefix("--").replace("-", "_")) is not None:
            raise InputError(f"{flag}: --format {args.format} does not take it; leave it out")
