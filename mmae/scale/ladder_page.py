"""`ladder.html`: a picture of each output's points and law, what was left out, and the table of runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmae.disk.files import write_whole
from mmae.report.page.chart import Chart, Line, chart_figure
from mmae.report.page.markup import el, table
from mmae.report.page.shell import page_text, section
from mmae.scaling_law.fit_checks import HeldOut, problems
from mmae.scaling_law.ladder_file import Ladder
from mmae.scaling_law.law_fit import Fit

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

PAGE: Final = "ladder.html"
_STEPS: Final = 24
"""Points of a drawn law."""
_BEYOND: Final = 2.0
"""A law is drawn up to this number of times the most tiles."""

Checks = Mapping[str, tuple[Sequence[HeldOut], Sequence[str]]]


def write_page(out: Path, ladder: Ladder, fits: Mapping[str, Fit], checks: Checks) -> Path:
    """Write the page into the ladder's folder, and return its path."""
    laws = [_law(output, fit, checks.get(output, ((), ()))) for output, fit in fits.items()]
    outputs = [name for name in ladder.outputs() if name in (ladder.rungs[0].losses if ladder.rungs else {})]
    probes = sorted({task for each in ladder.rungs for task in each.probes})
    rows = [
        [each.size, f"{each.parameters:,}", f"{each.tiles:,}", f"{each.flops / 1e15:.3g}",
         *(f"{each.losses[name]:.4g}" for name in outputs), *(_score(each.probes.get(task)) for task in probes)]
        for each in ladder.rungs
    ]  # fmt: skip
    heads = ["size", "encoder parameters", "tiles", "PFLOP", *outputs, *(f"probe {task}" for task in probes)]
    runs = table(heads, rows, "Runs, their validation losses, and the scores of their probes")
    path = out / PAGE
    sections = [section("laws", "Losses by size and tiles", *laws), section("runs", "Runs", runs)]
    write_whole(path, page_text("A ladder of sizes", sections))
    return path


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.4g}"


def _law(output: str, fit: Fit, checked: tuple[Sequence[HeldOut], Sequence[str]]) -> Element:
    bad = [el("p", el("strong", "Bad fit: "), line, class_="warning") for line in problems(fit)]
    held, missing = checked
    rows = [
        [each.group, each.point.size, f"{each.point.tiles:,}", f"{each.point.loss:.4g}", str(each.predicted),
         f"{each.off:+.1%}", "yes" if each.inside else "no"]
        for each in held
    ]  # fmt: skip
    heads = ["left out", "size", "tiles", "loss", "predicted (90 % interval)", "off", "within"]
    tested = table(heads, rows, "What the other points say of those that were left out") if rows else None
    return el(
        "div",
        el("h3", output),
        chart_figure(_chart(output, fit)),
        el("p", f"L(N, D) = {fit.law}; points scatter by {fit.noise:.1%} around it."),
        *bad,
        tested,
        *(el("p", line) for line in missing),
    )


def _chart(output: str, fit: Fit) -> Chart:
    sizes = sorted({(point.parameters, point.size) for point in fit.points})
    tiles = [point.tiles for point in fit.points]
    low, high = math.log10(min(tiles)), math.log10(max(tiles) * _BEYOND)
    grid = [low + (high - low) * step / (_STEPS - 1) for step in range(_STEPS)]
    lines = []
    for kind, (parameters, size) in enumerate(sizes):
        own = sorted((math.log10(point.tiles), point.loss) for point in fit.points if point.parameters == parameters)
        drawn = [fit.predict(parameters, 10**x) for x in grid]
        lines.append(Line(f"{size}, reached", [x for x, _ in own], [loss for _, loss in own], kind=kind))
        lines.append(
            Line(
                f"{size}, law",
                grid,
                [each.loss for each in drawn],
                [each.low for each in drawn],
                [each.high for each in drawn],
                kind=kind,
            )
        )
    return Chart(f"Validation loss of {output}", "tiles seen, logarithm to base 10", "loss", lines, log=True)
