"""`mmae plan RECIPE`: the memory, time and disk of a run before its start. It needs no GPU and builds no model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from mmae.addresses import hide_in_words
from mmae.config.recipe_arguments import add_recipe_arguments, recipe_of
from mmae.config.recipe_file import load_config
from mmae.config.schema import Config
from mmae.disk.ownership import add_trust_argument
from mmae.errors import InputError
from mmae.model.counts.named_parts import check_parts
from mmae.plan.amounts import amount_of, bytes_of, count_of, rate_of, share_of
from mmae.plan.ladder_notes import ladder_notes
from mmae.plan.lines import Machines, all_lines, best_of_each, files_for, recommended
from mmae.plan.measured import PEAK_MEMORY_TB, PEAK_TFLOPS, UTILISATIONS, utilisation
from mmae.plan.pace_notes import Peaks, pace_notes
from mmae.plan.plan_table import COLUMNS, KEYS, NETWORK_COLUMNS, network_of, notes_of, row_of
from mmae.plan.start_command import launch_command
from mmae.plan.tiles import tiles_of
from mmae.plan.time_and_disk import Speed
from mmae.terminal.looks import coloured
from mmae.terminal.plurals import counted
from mmae.terminal.table import Table, add_json_argument, check_json_path, write_json

_MOST: Final = 1_000_000
_CHOSEN: Final = "| =>"
"""How the row of the recommended way begins."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser)
    parser.add_argument("--gpus", type=int, required=True, metavar="N", help="GPUs of a node")
    parser.add_argument("--gpu-memory", required=True, metavar="SIZE", help="memory of a GPU: 80GB, 40GiB")
    parser.add_argument("--nodes", type=int, default=1, metavar="M", help="nodes with --gpus GPUs each (default: 1)")
    parser.add_argument("--tiles", metavar="COUNT", help="tiles of an epoch (default: the shards', or MMEarth's 1.2M)")
    parser.add_argument("--mfu", metavar="SHARE", help="model FLOPs utilisation (default: what was measured)")
    parser.add_argument(
        "--peak-tflops", type=float, default=PEAK_TFLOPS, metavar="T",
        help=f"peak of a GPU, of which --mfu is a share (default: {PEAK_TFLOPS:.0f}, an H100's in bf16)",
    )  # fmt: skip
    parser.add_argument(
        "--peak-memory", type=float, default=PEAK_MEMORY_TB, metavar="T",
        help=f"TB/s of a GPU's memory, for the bound (default: {PEAK_MEMORY_TB}, an H100's)",
    )  # fmt: skip
    parser.add_argument(
        "--bandwidth", metavar="GB/S", help="bus bandwidth of an all-reduce, as mmae doctor --bandwidth measures it"
    )
    parser.add_argument("--ladder", metavar="DIR", help="predict losses from the runs of mmae ladder --out DIR")
    parser.add_argument(
        "--gpu-hours", metavar="H", help="with --ladder: budget of the best size (default: the recipe's)"
    )
    parser.add_argument("--deepspeed_config", metavar="JSON", help="use only this one: packaged name or JSON file")
    parser.add_argument("--all", action="store_true", help="show every micro-batch, not only the best of each way")
    add_trust_argument(parser, "a run's recipe")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Exit status 0, whether anything fits or not. Bad input is an InputError."""
    check_json_path(args.json)
    machines = _machines(args)
    recipe, overrides = recipe_of(args)
    config = load_config(recipe, overrides, args.trust)
    check_parts(config)
    speed, speed_source = _speed(args, config)
    bandwidth = rate_of(args.bandwidth, "--bandwidth") if args.bandwidth is not None else None
    if args.gpu_hours is not None and not args.ladder:
        raise InputError("--gpu-hours is the budget of a prediction by --ladder DIR: give it, too")
    hours = amount_of(args.gpu_hours, "--gpu-hours") if args.gpu_hours is not None else None
    told, ladder = ladder_notes(Path(args.ladder), config, speed, hours) if args.ladder else ([], None)
    tiles = tiles_of(config.data, count_of(args.tiles, "--tiles") if args.tiles else None)
    files = files_for(config.train) if args.deepspeed_config is None else (args.deepspeed_config,)
    lines = all_lines(config, files, machines, speed)
    choice = recommended(lines)
    shown = lines if args.all else best_of_each(lines)
    notes = [*notes_of(config, machines, tiles, speed_source, choice), *told]
    if choice is not None:
        notes += pace_notes(config, choice, Peaks(args.peak_tflops * 1e12, args.peak_memory * 1e12))
    if choice is not None:
        said = hide_in_words(overrides)
        command = launch_command(recipe, choice, machines, config.train, said, shards=bool(config.data.locations))
        notes += ["", command]
    title = f"{recipe} on {machines.nodes} x {counted(machines.gpus, 'GPU')} of {args.gpu_memory}"
    columns = (*COLUMNS, *(NETWORK_COLUMNS if bandwidth else ()))
    rows = [row_of(line, config, tiles, line == choice) | network_of(line, bandwidth) for line in shown]
    chosen = None if choice is None else row_of(choice, config, tiles, True) | network_of(choice, bandwidth)
    table = Table(title, columns, rows, notes, KEYS)
    print("\n".join(_bold_if_chosen(line) for line in table.text().split("\n")))
    if args.json is not None:
        write_json(args.json, table.json({"recommended": chosen, "ladder": ladder}))
    return 0


def _bold_if_chosen(line: str) -> str:
    return coloured(line, "strong") if line.startswith(_CHOSEN) else line


def _machines(args: argparse.Namespace) -> Machines:
    for option, value in (("--gpus", args.gpus), ("--nodes", args.nodes)):
        if not 1 <= value <= _MOST:
            limit = "at least 1" if value < 1 else f"at most {_MOST:,}"
            raise InputError(f"{option} {value}: must be {limit}")
    for option, peak in (("--peak-tflops", args.peak_tflops), ("--peak-memory", args.peak_memory)):
        if not 0 < peak < float("inf"):
            raise InputError(f"{option} {peak}: must be above 0")
    return Machines(args.gpus, args.nodes, bytes_of(args.gpu_memory, "--gpu-memory"))


def _speed(args: argparse.Namespace, config: Config) -> tuple[Speed, str]:
    """The speed of a GPU, and a note on where the utilisation comes from."""
    flops = args.peak_tflops * 1e12
    if args.mfu is not None:
        return Speed(share_of(args.mfu, "--mfu"), flops), "--mfu"
    size, compiled = config.model.size, config.train.compile
    known = UTILISATIONS[size]
    how = "compiled" if compiled else "eager"
    source = f"measured with ViT {known.size} at micro-batch {known.micro_batch}, {how}, on one H100, bf16, ZeRO-1"
    return Speed(utilisation(size, compiled), flops), source
