"""`mmae benchmark MODEL --suite S --data DIR --out scores.csv`: an encoder on the field's benchmarks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mmae.disk.files import check_new_folder
from mmae.disk.ownership import add_trust_argument
from mmae.errors import InputError, check_seed, did_you_mean
from mmae.evaluate.benchmark.encoding.tile_inputs import NORMALISATIONS
from mmae.evaluate.benchmark.open_suite import SUITES, task_names
from mmae.evaluate.benchmark.tasks.benchmark_task import FINETUNE, PROTOCOLS
from mmae.modalities import S2_LEVELS
from mmae.terminal.plurals import counted
from mmae.terminal.printable import printable

if TYPE_CHECKING:
    from mmae.evaluate.benchmark.asked import Asked, Subject
    from mmae.evaluate.benchmark.result_rows import ResultRows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model folder, or owner/name on the Hugging Face hub")
    parser.add_argument("--suite", required=True, choices=SUITES)
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="the folder that the suite lies in")
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="FILE",
        help="table (CSV); finished rows in it are not computed again",
    )
    parser.add_argument("--tasks", metavar="A,B", help="tasks of the suite (default: all)")
    parser.add_argument(
        "--protocols",
        metavar="A,B",
        help=f"some of {', '.join((*PROTOCOLS, FINETUNE))} (default: all that fit but {FINETUNE})",
    )
    parser.add_argument(
        "--partitions",
        default="default",
        metavar="A,B",
        help="such as default,0.10x_train; of mmearth-bench: 100%%,5%%",
    )
    parser.add_argument("--seeds", default="0", metavar="N,N", help="of heads and intervals (default: 0)")
    parser.add_argument(
        "--pretraining", action="append", metavar="SHARDS", help="count test samples near these tiles; once a set"
    )
    parser.add_argument("--cache-dir", help="folder for shards of --pretraining that are fetched from an address")
    inputs = parser.add_argument_group("inputs")
    inputs.add_argument(
        "--normalise",
        choices=NORMALISATIONS,
        default="auto",
        help="by the statistics of the model or of the task (default: of the model, and of the task for pictures)",
    )
    inputs.add_argument(
        "--substitute",
        action="append",
        default=[],
        metavar="BAND=BAND",
        help="a band that is missing, such as B8A=B8, or sentinel1=none for no data in what the task lacks of it",
    )
    inputs.add_argument("--level", choices=S2_LEVELS, help="Sentinel-2 level, if you know it better than the table")
    inputs.add_argument(
        "--offset", type=float, default=0.0, metavar="DN", help="added to Sentinel-2 numbers: -1000 for baseline 04.00"
    )
    inputs.add_argument(
        "--window", type=int, metavar="PX", help="pixels of a window's side (default: by the tiles' size)"
    )
    inputs.add_argument(
        "--no-unit-check", action="store_true", help="do not compare values with the model's statistics"
    )
    fitted = parser.add_argument_group("protocols")
    fitted.add_argument("--k", type=int, default=20, help="neighbours of knn (default: 20)")
    fitted.add_argument("--blocks", metavar="N,N", help="encoder blocks that are compared, from 0 (default: four)")
    fitted.add_argument("--epochs", type=int, default=10, help="of linear-seg and upernet (default: 10)")
    fitted.add_argument("--lr", type=float, default=1e-3, help="of linear-seg and upernet (default: 0.001)")
    fitted.add_argument("--head-width", type=int, metavar="N", help="channels of upernet (default: 512)")
    fitted.add_argument("--memory-gb", type=float, default=4.0, help="for token maps that are kept (default: 4)")
    fitted.add_argument("--features", type=Path, metavar="DIR", help="keeps vectors (default: OUT.features)")
    tuned = parser.add_argument_group("finetune")
    tuned.add_argument(
        "--search",
        type=int,
        default=0,
        metavar="N",
        help="learning rates and layer decays that are tried on validation",
    )
    tuned.add_argument(
        "--finetune",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set a key of the recipe, such as train.max_steps=2000",
    )
    tuned.add_argument("--runs", type=Path, metavar="DIR", help="keeps run folders (default: OUT.runs)")
    parser.add_argument(
        "--processes", type=int, metavar="N", help="that compute vectors, or train (default: one a GPU, or one)"
    )
    parser.add_argument(
        "--submission",
        type=Path,
        metavar="DIR",
        help="also write rows as the GEO-Bench-2 leaderboard takes them",
    )
    parser.add_argument("--experiment", help="name for the table (default: frozen or finetune)")
    add_trust_argument(parser, "a model")


def run(args: argparse.Namespace) -> int:
    asked = _asked(args)
    if args.submission is not None:
        check_new_folder(args.submission)
    # What can be wrong is looked at before imports that take seconds.
    from mmae.evaluate.benchmark.result_rows import open_rows

    with open_rows(args.out) as rows:
        from mmae.evaluate.benchmark.asked import Subject
        from mmae.evaluate.benchmark.benchmark_run import run_benchmark
        from mmae.evaluate.benchmark.near_pretraining import PretrainingPlaces
        from mmae.inference.process_model import model_hash, model_name
        from mmae.inference.raw_encoder import load_encoder

        places = PretrainingPlaces(args.pretraining, args.cache_dir) if args.pretraining else None
        encoder = load_encoder(args.model, trust=args.trust, device=asked.devices[0])
        _check_blocks(asked, encoder.saved.variant.depth)
        subject = Subject(encoder, args.model, args.trust, model_name(args.model), model_hash(args.model))
        run_benchmark(subject, asked, rows, places)
        print(printable(f"{args.out}: {counted(len(rows), 'row')}"))
        if args.submission is not None:
            _submit(args.submission, subject, asked, rows)
    return 0


def _submit(folder: Path, subject: Subject, asked: Asked, rows: ResultRows) -> None:
    from mmae.evaluate.benchmark.leaderboard import write_submission

    own = [row for row in rows if row["suite"] == asked.suite and subject.hash.startswith(row["model"])]
    weights = sum(
        each.numel() for name, each in subject.encoder.model.named_parameters() if not name.startswith("decoders")
    )
    for note in write_submission(folder, own, subject.name, weights):
        print(printable(f"{folder}: {note}"))


def _asked(args: argparse.Namespace) -> Asked:
    """The arguments, checked as far as neither model nor files are needed.

    Raises:
        InputError: an option is no choice, or no number that makes sense.
    """
    known = task_names(args.suite)
    tasks = known if args.tasks is None else _words("--tasks", args.tasks, known)
    protocols = PROTOCOLS if args.protocols is None else _words("--protocols", args.protocols, (*PROTOCOLS, FINETUNE))
    partitions = _words("--partitions", args.partitions, None)
    seeds = _numbers("--seeds", args.seeds)
    for seed in seeds:
        check_seed(seed, "--seeds")
        if seed < 0:
            raise InputError(f"--seeds {seed}: must be 0 or more")
    for option, value, least in (
        ("--k", args.k, 1),
        ("--epochs", args.epochs, 1),
        ("--head-width", args.head_width, 8),
        ("--search", args.search, 0),
    ):
        if value is not None and value < least:
            raise InputError(f"{option} {value}: must be at least {least}")
    if not 0 < args.lr < 1:
        raise InputError(f"--lr {args.lr}: must be between 0 and 1")
    if not 0 <= args.memory_gb < 1e6:
        raise InputError(f"--memory-gb {args.memory_gb}: must be 0 or more")
    blocks = None if args.blocks is None else _numbers("--blocks", args.blocks)
    if not args.data.is_dir():
        raise InputError(f"--data {args.data} is no folder: name the one that {args.suite} lies in")
    if not -1e5 < args.offset < 1e5:
        raise InputError(f"--offset {args.offset}: give a number, such as -1000")
    _check_finetune(args, protocols)
    substitutes = tuple(_substitute(said) for said in args.substitute)
    from mmae.evaluate.benchmark.asked import Asked
    from mmae.evaluate.benchmark.encoding.tile_inputs import Reading
    from mmae.evaluate.benchmark.protocols.dense_protocols import DenseProtocol
    from mmae.evaluate.benchmark.protocols.finetune_protocol import FinetuneProtocol, check_override
    from mmae.inference.process_model import devices_of

    for said in args.finetune:
        check_override(said)
    devices = devices_of(args.processes)
    runs = args.runs if args.runs is not None else args.out.with_name(f"{args.out.name}.runs")
    features = args.features if args.features is not None else args.out.with_name(f"{args.out.name}.features")
    return Asked(
        suite=args.suite, data=args.data, tasks=tasks, protocols=protocols, partitions=partitions, seeds=seeds,
        reading=Reading(args.normalise, substitutes, args.window, not args.no_unit_check, args.offset),
        level=args.level, k=args.k,
        dense=DenseProtocol("", args.epochs, args.lr, width=args.head_width, memory_gb=args.memory_gb), blocks=blocks,
        experiment=args.experiment, features=features, devices=devices,
        finetune=FinetuneProtocol(runs, args.search, tuple(args.finetune), len(devices)),
    )  # fmt: skip


def _check_finetune(args: argparse.Namespace, protocols: tuple[str, ...]) -> None:
    """Raise InputError if options are given that the protocols do not take."""
    if FINETUNE not in protocols:
        for option, given in (("--search", args.search), ("--finetune", args.finetune), ("--runs", args.runs)):
            if given:
                raise InputError(f"{option} is for the protocol {FINETUNE}: say --protocols {FINETUNE}")
        return
    for option, given in (
        ("--substitute", args.substitute),
        ("--window", args.window),
        ("--offset", args.offset),
    ):
        if given:
            raise InputError(f"{option} is not for the protocol {FINETUNE}: score it with a command of its own")


def _words(option: str, said: str, known: tuple[str, ...] | None) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(word.strip() for word in said.split(",") if word.strip()))
    if not words:
        raise InputError(f"{option} {said!r} names nothing")
    for word in words:
        if known is not None and word not in known:
            raise InputError(f"{option}: {word!r} is not known{did_you_mean(word, known)}")
    return words


def _numbers(option: str, said: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(word) for word in said.split(",")))
    except ValueError:
        raise InputError(f"{option} {said}: give whole numbers with commas between them") from None


def _substitute(said: str) -> tuple[str, str]:
    target, _, source = (part.strip() for part in said.partition("="))
    if not target or not source:
        raise InputError(f"--substitute {said}: write BAND=BAND, such as B8A=B8, or BAND=none")
    return target, source


def _check_blocks(asked: Asked, depth: int) -> None:
    for block in asked.blocks or ():
        if not 0 <= block < depth:
            raise InputError(f"--blocks {block}: this encoder has {counted(depth, 'block')}, 0 to {depth - 1}")
