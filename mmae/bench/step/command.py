"""`mmae bench step`: the speed of a training step, compared with the bound of this device and with a plain step."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from statistics import median_high
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from mmae.bench.arguments import at_least_one, numbers_of, words_of
from mmae.config.recipe_arguments import add_recipe_arguments, recipe_or_none
from mmae.errors import InputError
from mmae.terminal.plurals import counted
from mmae.terminal.table import Column, Table, Value, add_json_argument, check_json_path, report

if TYPE_CHECKING:
    from mmae.bench.step.step_variants import Trained
    from mmae.config.schema import Config

_RECIPE: Final = "vit_b"
PRECISIONS: Final = ("bf16", "fp32")
MODES: Final = (
    "none", "selective", "full/2", "full", "compile", "compile+selective", "compile+full",
    "graphs", "compile+graphs", "compile+float8", "compile+graphs+float8",
)  # fmt: skip
_SWITCHES: Final = MappingProxyType({"graphs": "train.cuda_graphs=true", "float8": "train.float8=tensorwise"})
PARTS: Final = ("encoder", "decoders", "losses", "optimiser", "data")
BOUND: Final = "the bound"
PLAIN: Final = "plain torch, autocast"
COLUMNS: Final = (
    Column("precision", "precision"),
    Column("micro_batch", "micro-batch"),
    Column("what", "step"),
    Column("milliseconds", "ms", "{:.1f}"),
    Column("tiles_per_second", "tiles/s", "{:.1f}"),
    Column("mfu", "MFU %", "{:.1%}"),
    Column("of_bound", "% of the bound", "{:.1%}"),
    Column("to_plain", "x plain", "{:.2f}"),
    Column("gigabytes", "peak GB", "{:.1f}"),
    *(Column(part, f"{part} % of a step", "{:.1%}") for part in PARTS),
)
KEYS: Final = 3
"""So many of the first columns identify a row."""
_INSTEAD: Final = MappingProxyType({
    "train.global_batch": "takes --micro-batch instead", "train.micro_batch": "takes --micro-batch instead",
    "train.precision": "takes --precision instead", "train.compile": "takes --modes instead",
    "train.activation_checkpointing": "takes --modes instead",
    "train.checkpoint_blocks_every": "takes --modes instead (full/2)",
    "train.frozen": "measures steps in which all parts learn",
})  # fmt: skip
"""Keys of the recipe that this command sets itself, and what it says to an override of them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser, f"packaged recipe or YAML file (default: {_RECIPE})")
    parser.add_argument("--deepspeed_config", default="zero1", metavar="JSON", help="packaged name or JSON file")
    parser.add_argument("--micro-batch", default="32", metavar="N,N", help="tiles in a step (default: 32)")
    parser.add_argument("--precision", default="bf16", metavar="P,P", help=f"any of {', '.join(PRECISIONS)}")
    parser.add_argument(
        "--modes",
        default="none",
        metavar="M,M",
        help="activation checkpointing (full/2: every second block), compiled or not, as CUDA graphs, with float8; any "
        f"of {', '.join(MODES)}",
    )
    parser.add_argument("--no-plain", action="store_true", help="do not measure the plain implementation")
    parser.add_argument(
        "--breakdown", action="store_true", help="also profile a step of each mode: time by kind of work, idle gaps"
    )
    parser.add_argument(
        "--repeats", type=int, default=5, metavar="N", help="rounds over all steps; the table has medians"
    )
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Exit status 0. Bad input is an InputError."""
    recipe, overrides = recipe_or_none(args)
    wanted = _Wanted(
        numbers_of(args.micro_batch, "--micro-batch"),
        words_of(args.precision, PRECISIONS, "--precision"),
        recipe or _RECIPE,
        overrides,
        args,
    )
    modes = words_of(args.modes, MODES, "--modes")
    for key in (override.partition("=")[0] for override in overrides):
        if key in _INSTEAD:
            raise InputError(f"command line: {key}: mmae bench step {_INSTEAD[key]}")
    check_json_path(args.json)
    at_least_one("--repeats", args.repeats)
    # A bad recipe is refused before the imports, which take seconds.
    for precision, micro_batch, mode in product(wanted.precisions, wanted.micro_batches, modes):
        wanted.recipe(precision, micro_batch, mode)
    from mmae.bench.machine import facts, lines
    from mmae.distributed.process_group import join, leave
    from mmae.engine.telemetry.run_log import quiet_libraries

    known = facts()
    quiet_libraries()
    join()
    try:
        compared = [
            _compare(wanted, precision, micro_batch, modes)
            for precision in wanted.precisions
            for micro_batch in wanted.micro_batches
        ]
    finally:
        leave()
    more = {**known, "device": _device_name()}
    for name, table in _tables_of_parts(wanted.base, compared).items():
        print(f"{table.text()}\n")
        more[name] = list(table.rows)
    title = f"A training step of {wanted.base} with {args.deepspeed_config} on one device: {_device_name()}"
    rows, notes = [row for each in compared for row in each.rows], [each.note for each in compared]
    report(Table(title, COLUMNS, rows, [*notes, *lines(known)], KEYS), args.json, more)
    return 0


@dataclass(frozen=True)
class _Compared:
    """One precision and micro-batch.

    Attributes:
        rows: of the table of steps.
        note: the peak speed that their MFU refers to.
        parts: rows of the bound's table.
        kinds: rows of the breakdown's table, of all modes.
        gaps: notes under it.
    """

    rows: list[dict[str, Value]]
    note: str
    parts: list[dict[str, Value]]
    kinds: list[dict[str, Value]]
    gaps: list[str]


def _tables_of_parts(recipe: str, compared: list[_Compared]) -> dict[str, Table]:
    """The bound part by part; and steps by kind of work, if they were profiled."""
    from mmae.bench.step import breakdown, roofline

    bound = [row for each in compared for row in each.parts]
    kinds = [row for each in compared for row in each.kinds]
    tables = {"roofline": Table(f"The bound of a step of {recipe}, part by part", roofline.COLUMNS, bound, (),
                                roofline.KEYS)} if bound else {}  # fmt: skip
    if kinds:
        gaps = [gap for each in compared for gap in each.gaps]
        tables["breakdown"] = Table(
            f"A step of {recipe} by kind of work, under the profiler", breakdown.COLUMNS, kinds, gaps, breakdown.KEYS
        )
    return tables


@dataclass(frozen=True)
class _Wanted:
    micro_batches: list[int]
    precisions: list[str]
    base: str
    overrides: list[str]
    args: argparse.Namespace

    def recipe(self, precision: str, micro_batch: int, mode: str) -> tuple[Config, dict[str, Any]]:
        """The recipe and the merged DeepSpeed JSON of one row."""
        from mmae.config.batch_split import BatchSplit
        from mmae.config.deepspeed import load_deepspeed_json, merge
        from mmae.config.recipe_file import load_config

        words = mode.split("+")
        checkpointing = "".join(word for word in words if word not in {"compile", *_SWITCHES})
        how, _, every = checkpointing.partition("/")
        config = load_config(
            self.base,
            [
                *self.overrides,
                f"train.global_batch={micro_batch}",
                f"train.micro_batch={micro_batch}",
                f"train.precision={precision}",
                f"train.compile={str('compile' in words).lower()}",
                *(said for word, said in _SWITCHES.items() if word in words),
                f"train.activation_checkpointing={how or 'none'}",
                f"train.checkpoint_blocks_every={every or 1}",
                "model.init_from=null",
                "train.frozen=null",
            ],
        )
        split = BatchSplit(micro=micro_batch, accumulation=1, world=1)
        return config, merge(*load_deepspeed_json(self.args.deepspeed_config), config.train, split)


def _compare(wanted: _Wanted, precision: str, micro_batch: int, modes: list[str]) -> _Compared:
    import torch

    from mmae.bench.step.device_limit import peak_flops
    from mmae.bench.step.phases import timed
    from mmae.bench.step.roofline import Roofline
    from mmae.bench.step.step_variants import Trained, plain_step
    from mmae.model.counts.flops import training_flops_per_tile
    from mmae.model.counts.peak_flops import peak_of_recipe

    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    repeats = wanted.args.repeats
    trained: dict[str, Trained] = {}
    rows: dict[str, dict[str, Value]] = {}
    for mode in modes:
        variant = Trained(*wanted.recipe(precision, micro_batch, mode), micro_batch)
        if not _fits(variant):
            print(f"{precision}, micro-batch {micro_batch}, {mode}: does not fit the device's memory")
            variant.close()
            continue
        trained[mode] = variant
        rows[mode] = {**variant.parts(repeats), "gigabytes": variant.peak_gigabytes()}
        rows[mode]["optimiser"] = variant.optimiser(repeats)
    if not trained:
        return _Compared([], f"{precision}, micro-batch {micro_batch}: no step fits the device's memory", [], [], [])
    first = next(iter(trained.values()))
    bound = Roofline(first.config, micro_batch, first.device, dtype)
    runs: dict[str, Callable[[], float]] = {name: partial(timed, step, first.device) for name, step in trained.items()}
    runs[BOUND] = bound.seconds
    if not wanted.args.no_plain:
        runs[PLAIN] = partial(timed, plain_step(first.config, micro_batch, first.device, dtype), first.device)
    taken = _rounds(runs, repeats)
    identity: dict[str, Value] = {"precision": precision, "micro_batch": micro_batch}
    kinds, gaps = _kinds(trained, identity) if wanted.args.breakdown else ([], [])
    peak, source = peak_flops(first.device, dtype)
    peaks = {mode: peak_of_recipe(peak, step.config) for mode, step in trained.items()}
    flops = training_flops_per_tile(first.config.model) * micro_batch
    for name, seconds in taken.items():
        row = rows.setdefault(name, {})
        row.update({part: _share(row.get(part), seconds) for part in PARTS})
        row |= identity | {
            "what": _ours(name) if name in trained else name,
            "milliseconds": seconds * 1e3,
            "tiles_per_second": micro_batch / seconds,
            "mfu": _share(flops / seconds, peaks.get(name, peak)),
            "of_bound": _share(taken.get(BOUND), seconds),
            "to_plain": _share(taken.get(PLAIN), seconds),
        }
    for variant in trained.values():
        variant.close()
    per_tile = f"{flops / micro_batch / 1e9:.1f} GFLOP a tile"
    note = f"{precision}: MFU is a share of {peak / 1e12:.2f} TFLOP/s ({source}); {per_tile}"
    parts = [identity | row for row in bound.rows(taken[BOUND])] if BOUND in taken else []
    return _Compared(list(rows.values()), note, parts, kinds, gaps)


def _kinds(trained: Mapping[str, Trained], identity: dict[str, Value]) -> tuple[list[dict[str, Value]], list[str]]:
    """Rows and notes of the breakdown of each mode."""
    from mmae.bench.step.breakdown import broken_down

    rows, notes = [], []
    for mode, step in trained.items():
        found = broken_down(step, step.device)
        rows += [identity | row | {"what": _ours(mode)} for row in found.rows()]
        step_name = f"{identity['precision']}, {identity['micro_batch']}, {_ours(mode)}"
        notes += [f"{step_name}: {note}" for note in found.notes()]
    return rows, notes


def _ours(mode: str) -> str:
    """The name of our step in a mode."""
    return f"ours, {mode}"


def _rounds(runs: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """The median seconds of each run, which returns its own. They take turns: a slow minute slows all of them."""
    fitting = {name: run for name, run in runs.items() if _fits(run)}
    taken: dict[str, list[float]] = {name: [] for name in fitting}
    for _ in range(repeats):
        for name, run in fitting.items():
            taken[name].append(run())
    return {name: median_high(times) for name, times in taken.items()}


def _fits(run: Callable[[], object]) -> bool:
    """Run once and return whether the device's memory was large enough."""
    import torch

    try:
        run()
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return False
    return True


def _share(value: Value, whole: float | None) -> float | None:
    return float(value) / whole if value is not None and whole is not None else None


def _device_name() -> str:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {counted(torch.get_num_threads(), 'thread')}"
