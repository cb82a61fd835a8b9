"""`mmae probe RUN|MODEL --shards S`: what an encoder has learnt, beside baselines, by labels that the shards hold."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmae.disk.ownership import add_trust_argument
from mmae.errors import InputError, check_seed
from mmae.evaluate.probe.probe_tasks import PROBE_TASKS, tasks_of
from mmae.terminal.table import add_json_argument, check_json_path, write_json

if TYPE_CHECKING:
    from mmae.evaluate.probe.encoder_source import EncoderSource
    from mmae.evaluate.probe.probe_run import ProbeOptions

_FRACTIONS: Final = "1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="RUN|MODEL", help="a run's folder, a model folder, or owner/name on the hub")
    parser.add_argument("--shards", required=True, metavar="S", help="shards with the labels: a folder or an address")
    parser.add_argument("--tasks", metavar="A,B", help=f"of {', '.join(PROBE_TASKS)} (default: all with labels)")
    parser.add_argument("--step", metavar="A,B", help="of a run: these checkpoints, or all (default: the newest)")
    split = parser.add_argument_group("parts")
    split.add_argument("--splits", choices=("blocks", "shards"), default="blocks",
                       help="train, val and test by place, or the shards' own (default: blocks)")  # fmt: skip
    split.add_argument("--block-km", type=float, default=100.0, metavar="KM", help="side of a block (default: 100)")
    split.add_argument("--gap-km", type=float, default=10.0, metavar="KM",
                       help="least distance between tiles of different parts (default: 10)")  # fmt: skip
    split.add_argument("--tiles", type=int, default=2048, metavar="N", help="most tiles, drawn (default: 2048)")
    split.add_argument("--min-class", type=int, default=10, metavar="N",
                       help="drop classes with fewer in train (default: 10)")  # fmt: skip
    split.add_argument("--fractions", default=_FRACTIONS, metavar="A,B",
                       help="shares of the labels, from 0.01 to 1 (default: 1)")  # fmt: skip
    fit = parser.add_argument_group("protocol")
    fit.add_argument("--k", type=int, default=20, help="neighbours of kNN (default: 20)")
    fit.add_argument("--folds", type=int, default=200, metavar="N", help="draws of an interval (default: 200)")
    fit.add_argument("--seed", type=int, default=0, help="of parts, shares and untrained weights (default: 0)")
    fit.add_argument("--seeds", type=int, default=1, metavar="N", help="repeat with this number of seeds (default: 1)")
    work = parser.add_argument_group("work")
    work.add_argument("--features", type=Path, metavar="DIR",
                      help="where features are kept (default: ~/.cache/mmae/features)")  # fmt: skip
    work.add_argument("--processes", type=int, metavar="N", help="default: one a GPU, or one")
    work.add_argument("--batch", type=int, default=32, metavar="N", help="tiles of a batch (default: 32)")
    work.add_argument("--cache-dir", help="folder for shards that are fetched from an address")
    work.add_argument("--no-unit-check", action="store_true", help="do not compare values with the model's statistics")
    add_trust_argument(parser, "a run or a model")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    check_json_path(args.json)
    options = _options(args)
    # Bad words are refused before imports that take seconds.
    from mmae.evaluate.probe.probe_run import probe_encoders
    from mmae.evaluate.probe.probe_table import report_of

    report = report_of(args.model, probe_encoders(_sources(args), options), options)
    print(report.text())
    if args.json:
        write_json(args.json, json.dumps(report.facts(), indent=1, allow_nan=False) + "\n")
    return 0


def _sources(args: argparse.Namespace) -> Sequence[EncoderSource]:
    from mmae.evaluate.probe.encoder_source import sources

    return sources(args.model, args.step, args.trust)


def _options(args: argparse.Namespace) -> ProbeOptions:
    """The options, checked.

    Raises:
        InputError: a number is out of range, a word is not known.
    """
    tasks = tasks_of(args.tasks)
    for option in ("tiles", "min_class", "k", "folds", "seeds", "batch"):
        if getattr(args, option) < 1:
            raise InputError(f"--{option.replace('_', '-')} {getattr(args, option)}: must be at least 1")
    if not 0 < args.block_km < 20_000:
        raise InputError(f"--block-km {args.block_km:g}: give kilometres above 0")
    if not 0 <= args.gap_km < 20_000:
        raise InputError(f"--gap-km {args.gap_km:g}: give kilometres, 0 or more")
    check_seed(args.seed, "--seed")
    from mmae.evaluate.probe.probe_run import ProbeOptions
    from mmae.evaluate.probe.scoring import Protocol
    from mmae.inference.process_model import devices_of

    return ProbeOptions(
        tasks=tasks,
        chosen=args.tasks is not None,
        shards=args.shards,
        splits=args.splits,
        block_km=args.block_km,
        gap_km=args.gap_km,
        tiles=args.tiles,
        seeds=tuple(range(args.seed, args.seed + args.seeds)),
        protocol=Protocol(args.k, _fractions(args.fractions), args.folds, args.min_class),
        features=args.features or _default_features(),
        devices=devices_of(args.processes),
        batch=args.batch,
        cache_dir=args.cache_dir,
        check_units=not args.no_unit_check,
    )


def _fractions(said: str) -> tuple[float, ...]:
    from mmae.evaluate.frozen.label_fraction import check_fraction

    try:
        found = sorted({float(word) for word in said.split(",")})
    except ValueError:
        raise InputError(f"--fractions {said}: give numbers such as 0.1,1") from None
    for fraction in found:
        check_fraction(fraction)
    return tuple(found)


def _default_features() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmae" / "features"
