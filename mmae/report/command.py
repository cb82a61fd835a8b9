"""`mmae report RUN [RUN ...] --out report.html`: one page about runs, which needs neither network nor script."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmae.disk.ownership import add_trust_argument
from mmae.errors import InputError
from mmae.terminal.printable import printable

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from mmae.report.result_files import Results
    from mmae.report.run_facts import ReportedRun

MOST_RUNS: Final = 6
MOST_BYTES: Final = 1_000_000
"""The size that a page stays below."""
_PICTURE_BYTES: Final = 520_000
_OUT: Final = "--out"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", help=f"a run's folder (run.dir); at most {MOST_RUNS}")
    parser.add_argument(_OUT, type=Path, required=True, metavar="PAGE.html", help="the page; it must not exist yet")
    parser.add_argument(
        "--results",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="scores that another command wrote: --json of a probe or a baseline, results.json of a fine-tuning, the "
        "table of a benchmark; once a file. Those in the run's folder are found without it",
    )
    add_trust_argument(parser, "a run")


def run(args: argparse.Namespace) -> int:
    from mmae.report.page.shell import page_text
    from mmae.report.result_files import found_results, read_results
    from mmae.report.run_facts import read_reported_run
    from mmae.terminal.table import check_json_path, write_json

    check_json_path(args.out, _OUT)
    if len(args.runs) > MOST_RUNS:
        raise InputError(f"{len(args.runs)} runs are given: {MOST_RUNS} at most stand side by side")
    results = [read_results(path) for path in args.results]
    names = _names(args.runs)
    runs = [read_reported_run(path, name, args.trust) for path, name in zip(args.runs, names, strict=True)]
    listed: list[Results] = []
    for each in runs:
        # A fine-tuning belongs to its own run, and to the one that it began from.
        of_run = [one for one in found_results(each.folder.path, args.results) if one not in listed]
        listed += of_run
        results += [replace(one, title=f"{one.title} ({each.name})") for one in of_run] if len(runs) > 1 else of_run
    title = f"Report: {', '.join(names)}"
    write_json(args.out, page_text(title, _sections(runs, results)), _OUT)
    print(printable(args.out))
    return 0


def _names(paths: Sequence[str]) -> list[str]:
    """The names of the runs' folders; where two are equal, the paths."""
    names = [Path(path).resolve().name for path in paths]
    return [path if Counter(names)[name] > 1 else name for name, path in zip(names, paths, strict=True)]


def _sections(runs: Sequence[ReportedRun], results: Sequence[Results]) -> list[Element]:
    from mmae.report import run_figures
    from mmae.report.page.markup import el
    from mmae.report.page.shell import section
    from mmae.report.result_tables import constants_of, results_figures
    from mmae.report.run_facts import about, recipe_differences

    def figures(found: Sequence[Element]) -> Element:
        return el("div", *found, class_="figures")

    several = len(runs) > 1
    of_runs = [el("div", el("h3", each.name) if several else None, *about(each)) for each in runs]
    parts = [section("about", "What this is", recipe_differences(runs) if several else None, *of_runs)]
    note = "Vertical lines mark saves, resumes, stops and faults." if not several else None
    losses = run_figures.loss_figures(runs, constants_of(results))
    parts.append(section("losses", "Losses", el("p", note) if note else None, *losses))
    if scores := run_figures.score_figures(runs):
        parts.append(section("scores", "Scores", figures(scores)))
    if results:
        parts.append(section("results", "Probes and fine-tunings", *map(results_figures, results)))
    parts.append(section("pictures", "Reconstructions through time", *_films(runs)))
    parts.append(section("optimiser", "Optimiser", figures(run_figures.optimiser_figures(runs))))
    parts.append(section("speed", "Speed and memory", figures(run_figures.speed_figures(runs))))
    return parts


def _films(runs: Sequence[ReportedRun]) -> list[Element]:
    from mmae.report.film import film
    from mmae.report.page.markup import el

    parts: list[Element] = []
    with_some = sum(each.folder.pictures.is_dir() for each in runs)
    for each in runs:
        if len(runs) > 1:
            parts.append(el("h3", each.name))
        parts += film(each.folder.pictures, _PICTURE_BYTES // max(1, with_some))
    return parts
