"""`mmae bench attention`: the attention of a recipe by our kernel and by torch's; or our kernel compiled for GPUs."""

from __future__ import annotations

import argparse
from typing import Final

from mmae.bench.arguments import at_least_one, numbers_of, words_of
from mmae.config.recipe_arguments import add_recipe_arguments, recipe_or_none
from mmae.errors import InputError
from mmae.terminal.table import Column, Table, add_json_argument, check_json_path, report
from mmae.variants import VARIANTS

_RECIPE: Final = "vit_l"
_MICRO_BATCH: Final = 1024
_REPEATS: Final = 20
_DECODERS: Final = 16
"""Columns of a decoder's head in the packaged recipes."""
PRECISIONS: Final = ("bf16", "fp16", "fp32")
ARCHITECTURES: Final = ("sm_80", "sm_90a", "sm_100a")
TIMES: Final = (
    Column("precision", "precision"),
    Column("part", "part"),
    Column("way", "kernel"),
    Column("milliseconds", "ms a layer", "{:.3f}"),
    Column("of_copy", "% of a copy's speed", "{:.1%}"),
    Column("result_error", "error", "{:.1e}"),
    Column("gradient_error", "of gradients", "{:.1e}"),
)
COMPILED: Final = (
    Column("architecture", "GPU"),
    Column("precision", "precision"),
    Column("width", "columns of a head"),
    Column("blocks", "blocks"),
    Column("direction", "kernel"),
    Column("warps", "warps"),
    Column("registers", "registers"),
    Column("spilled", "spilled bytes"),
    Column("shared_kilobytes", "shared KB", "{:.1f}"),
    Column("resident", "programs an SM"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser, f"packaged recipe or YAML file (default: {_RECIPE})")
    parser.add_argument("--micro-batch", type=int, metavar="N", help=f"tiles at once (default: {_MICRO_BATCH})")
    parser.add_argument("--precision", metavar="P,P", help=f"any of {', '.join(PRECISIONS)} (default: bf16)")
    parser.add_argument("--repeats", type=int, metavar="N", help=f"take the median of N (default: {_REPEATS})")
    parser.add_argument(
        "--compile-only",
        action="store_true",
        help="compile our kernel for the heads of all sizes of encoders, which needs no GPU, and print what it takes",
    )
    parser.add_argument("--arch", metavar="A,A", help=f"compile for these (default: {','.join(ARCHITECTURES)})")
    parser.add_argument("--width", metavar="N,N", help="compile for heads of these columns (default: all sizes')")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Exit status 0. Bad input is an InputError."""
    check_json_path(args.json)
    return _compile(args) if args.compile_only else _measure(args)


def _compile(args: argparse.Namespace) -> int:
    recipe, overrides = recipe_or_none(args)
    if recipe is not None or overrides:
        raise InputError("--compile-only compiles for all sizes, and takes no recipe: choose heads by --width 64,80")
    for option, value in (("--micro-batch", args.micro_batch), ("--repeats", args.repeats)):
        if value is not None:
            raise InputError(f"{option}: not with --compile-only, which runs nothing")
    architectures = words_of(args.arch or ",".join(ARCHITECTURES), ARCHITECTURES, "--arch")
    precisions = words_of(args.precision or ",".join(PRECISIONS), PRECISIONS, "--precision")
    widths = numbers_of(args.width, "--width") if args.width else head_widths()
    from mmae.bench.attention.compiled_kernels import compiled_rows
    from mmae.bench.machine import facts, lines

    known = facts()
    rows = compiled_rows(architectures, precisions, widths)
    note = (
        "registers and spilled bytes are of a thread; programs an SM: how many can run at once, by registers, shared "
        "memory and threads; compiled for 64 queries and keys, and run by no GPU"
    )
    report(Table("Our attention kernel, compiled", COMPILED, rows, [note, *lines(known)], 5), args.json, known)
    return 0


def head_widths() -> list[int]:
    """Columns of a head of any size of encoder, and of the decoders."""
    return sorted({_DECODERS, *(variant.dim // variant.num_heads for variant in VARIANTS.values())})


def _measure(args: argparse.Namespace) -> int:
    recipe, overrides = recipe_or_none(args)
    precisions = words_of(args.precision or "bf16", PRECISIONS, "--precision")
    micro_batch = _MICRO_BATCH if args.micro_batch is None else args.micro_batch
    repeats = _REPEATS if args.repeats is None else args.repeats
    at_least_one("--micro-batch", micro_batch)
    at_least_one("--repeats", repeats)
    for option in ("arch", "width"):
        if getattr(args, option) is not None:
            raise InputError(f"--{option}: only with --compile-only")
    from mmae.config.recipe_file import load_config

    config = load_config(recipe or _RECIPE, overrides)
    import torch

    from mmae.bench.attention.attention_ways import compared_rows
    from mmae.bench.machine import facts, lines
    from mmae.model.short_attention.applicable import device_refusal

    if not torch.cuda.is_available():
        raise InputError("mmae bench attention needs a GPU for times; without one, add --compile-only")
    device = torch.device("cuda", torch.cuda.current_device())
    refusal = device_refusal(device.type, device.index)
    known = {**facts(), "device": torch.cuda.get_device_name(device)}
    rows = compared_rows(config, micro_batch, device, precisions, repeats)
    notes = [
        "forward and backward, from packed queries, keys and values to their packed gradients; errors are the largest, "
        "beside float64, as shares of the largest number",
        *([f"our kernel was left out: {refusal}"] if refusal else []),
        *lines(known),
    ]
    title = f"Attention of {recipe or _RECIPE}, micro-batch {micro_batch}, on {known['device']}"
    report(Table(title, TIMES, rows, notes, 3), args.json, known)
    return 0
