"""`mmae runs FOLDER`: the runs in a folder, how each does, its best validation, its size; and what may be removed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mmae.disk.ownership import add_trust_argument
from mmae.errors import EXIT_BAD_INPUT, InputError
from mmae.report.listing.prune import Prunable, folder_bytes, prunable, prune
from mmae.run.layout import ARCHIVE, CONFIG, LOG
from mmae.run.log_reader import LogRecords
from mmae.run.state import RunState, read_run
from mmae.run.status import duration
from mmae.terminal.error_line import first_line, say_error
from mmae.terminal.plurals import counted
from mmae.terminal.printable import printable
from mmae.terminal.table import Column, Table, Value, add_json_argument, check_json_path, write_json

_DEEPEST: Final = 3
"""Levels of folders that are looked into."""
_COLUMNS: Final = (
    Column("run", "run", wraps=True),
    Column("state", "state"),
    Column("step", "step"),
    Column("of", "of"),
    Column("best_val", "best val loss", "{:.4g}"),
    Column("best_step", "at step"),
    Column("last", "last record"),
    Column("gb", "GB", "{:.2f}"),
)


@dataclass(frozen=True)
class _Found:
    folder: Path
    state: RunState | None
    row: dict[str, Value]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where runs lie, up to three folders deep")
    parser.add_argument(
        "--prune",
        action="store_true",
        help="list what no run needs any more (older checkpoints of finished runs, damaged ones, half-written ones), "
        "and ask before it is removed",
    )
    parser.add_argument("--yes", action="store_true", help="with --prune: remove without asking")
    add_trust_argument(parser, "a run")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    check_json_path(args.json)
    if not args.folder.is_dir():
        raise InputError(f"{args.folder}: no such folder: give the folder that holds runs")
    found = [_look(folder, args.folder) for folder in sorted(_run_folders(args.folder, _DEEPEST))]
    if not found:
        raise InputError(
            f"{args.folder}: holds no run up to {_DEEPEST} folders deep (no {CONFIG}): give another folder"
        )
    table = Table(f"runs in {args.folder}", _COLUMNS, [each.row for each in found])
    print(table.text())
    if args.json:
        write_json(args.json, table.json({}))
    return _prune(found, args) if args.prune else 0


def _run_folders(folder: Path, levels: int) -> Iterator[Path]:
    if (folder / CONFIG).is_file():
        yield folder
        return
    if levels:
        # A folder of another user may be closed.
        with suppress(OSError):
            for inner in folder.iterdir():
                if inner.is_dir() and not inner.is_symlink() and not inner.name.startswith((".", ARCHIVE)):
                    yield from _run_folders(inner, levels - 1)


def _look(folder: Path, root: Path) -> _Found:
    state: RunState | None = None
    with suppress(InputError):
        state = read_run(folder)
    best, at = _best_validation(folder / LOG)
    row: dict[str, Value] = {
        "run": str(folder.relative_to(root)) if folder != root else folder.name,
        "state": "no record yet" if state is None else state.state,
        "step": None if state is None else state.step,
        "of": None if state is None else state.max_steps,
        "best_val": best,
        "best_step": at,
        "last": None if state is None else f"{duration(state.silence)} ago",
        "gb": folder_bytes(folder) / 1e9,
    }
    return _Found(folder, state, row)


def _best_validation(log: Path) -> tuple[float | None, int | None]:
    """The smallest sum of losses of a validation without lost tiles, and its step."""
    best: float | None = None
    step: int | None = None
    for record in LogRecords(log).all("val") if log.is_file() else ():
        losses: dict[str, Any] = record.get("losses") or {}
        known = [loss for loss in losses.values() if isinstance(loss, int | float)]
        if known and not record.get("lost") and (best is None or sum(known) < best):
            best, step = sum(known), record.get("step")
    return best, step


def _prune(found: Sequence[_Found], args: argparse.Namespace) -> int:
    runs = [chosen for run in found if (chosen := prunable(run.folder, run.state, args.trust)).there]
    there = [each for run in runs for each in run.there]
    if not there:
        print("nothing to remove: every run needs what it has")
        return 0
    for each in there:
        print(printable(f"  {each.bytes / 1e9:8.2f} GB  {each.path}  ({each.why})"))
    total = sum(each.bytes for each in there) / 1e9
    if not args.yes and not _agreed(f"remove {counted(len(there), 'folder')}, {total:.2f} GB? [y/N] "):
        print("nothing was removed")
        return 0
    return _prune_all(runs)


def _prune_all(runs: Sequence[Prunable]) -> int:
    """Prune run by run: one that cannot be pruned is named, and does not stop the others. Returns an exit status."""
    freed, refused = 0, 0
    for each in runs:
        try:
            freed += prune(each)
        except (InputError, OSError) as error:
            refused += 1
            say_error(f"mmae runs: {first_line(error)}")
    print(f"removed {freed / 1e9:.2f} GB")
    return EXIT_BAD_INPUT if refused else 0


def _agreed(question: str) -> bool:
    """Whether a person says yes; without a terminal nobody can."""
    if not sys.stdin.isatty():
        raise InputError("--prune asks before it removes anything, and there is no terminal to ask: add --yes")
    with suppress(EOFError):
        return input(question).strip().lower() in {"y", "yes"}
    return False
