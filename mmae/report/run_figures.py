"""The charts of runs over steps: losses, optimiser, speed and scores, with saves, resumes, stops and faults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from mmae.modalities import NORM_RGB, output_source
from mmae.report.page.chart import Chart, Event, Line, chart_figure
from mmae.report.page.markup import el
from mmae.report.page.style import LINES
from mmae.report.run_facts import ReportedRun
from mmae.report.series import Path, line_of, number_paths
from mmae.run.log_reader import END, step_of_record

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

STEP: Final = "step"
_MOST_EVENTS: Final = 40
"""Events of one kind that a chart shows; more are thinned evenly."""
_MOST_SCORES: Final = 60
_NOT_SCORES: Final = frozenset({"start", "resume", "archived", "save", "save_failed", END})
_AVERAGED: Final = "ema"
"""A record's field for what the averaged weights reached; it is drawn beside the weights' own."""
_SHOWN_ELSEWHERE: Final = frozenset(
    {"kind", "time", "step", "epoch", "seconds", "losses", "scored", "lost", "failed", "tiles_seen", _AVERAGED}
)

_SKIPPED: Final = ("skipped_steps",)
_LOSS: Final = "sum of the losses"
_UNITS: Final = MappingProxyType(
    {"mse": "squared error (normalised)", "l1": "absolute error (normalised)", "cross_entropy": "cross-entropy (nats)"}
)
Constants = Mapping[str, float]
"""Output -> loss of the best constant prediction."""


def loss_figures(runs: Sequence[ReportedRun], constants: Constants) -> list[Element]:
    """The total loss and that of each output, on a linear scale and on a logarithmic one."""
    charts = [_total(runs)]
    for output in _outputs(runs):
        charts += _of_output(runs, output, constants)
    figures = []
    for chart in charts:
        figures.append(chart_figure(chart, "of-linear"))
        figures.append(chart_figure(replace(chart, log=True), "of-log"))
    return _with_scales(figures)


def optimiser_figures(runs: Sequence[ReportedRun]) -> list[Element]:
    """Learning rate, gradient norm and skipped steps."""
    return _figures(
        runs,
        (
            ("Learning rate", "learning rate", [("lr",)], 1),
            ("Gradient norm", "norm of the gradient", [("grad_norm",)], 1),
            ("Skipped steps", "steps without an update", [_SKIPPED], 1),
        ),
    )


def speed_figures(runs: Sequence[ReportedRun]) -> list[Element]:
    """Throughput, MFU, waiting for data, stragglers and memory."""
    figures = _figures(
        runs,
        (
            ("Throughput", "tiles a second", [("tiles_per_second",)], 1),
            ("Model FLOPs utilisation", "MFU (%)", [("mfu",)], 100),
            ("Waiting for data", "share of the time (%)", [("data_wait_share",)], 100),
            ("Peak memory of a rank", "memory (GB)", [("peak_memory_gb",)], 1),
        ),
    )
    for run in runs:
        lines = [
            line_of(name, run.history.steps, (field,))
            for name, field in (("slowest rank", "slowest_step_seconds"), ("median rank", "median_step_seconds"))
        ]
        title = f"Slowest rank{_of(run, runs)}"
        figures.append(chart_figure(Chart(title, STEP, "own time a step (s)", lines, events_of(run), from_zero=True)))
    return figures


def score_figures(runs: Sequence[ReportedRun]) -> list[Element]:
    """Every other number that the log holds over steps: readable scores of validations, probes, and others."""
    found: dict[tuple[str, Path], None] = {}
    for run in runs:
        for kind, records in run.history.others.items():
            if kind not in _NOT_SCORES:
                found |= dict.fromkeys((kind, path) for path in number_paths(records, _SHOWN_ELSEWHERE))
    figures = []
    for kind, path in list(found)[:_MOST_SCORES]:
        of_runs = [run.history.others.get(kind, ()) for run in runs]
        lines = [line_of(run.name, of_runs[at], path, kind=at) for at, run in enumerate(runs)]
        averaged = (
            line_of(f"{run.name}, averaged weights", of_runs[at], (_AVERAGED, *path), kind=len(runs) + at)
            for at, run in enumerate(runs)
        )
        lines += filter(len, averaged)
        words = " ".join(word.replace("_", " ") for word in path if word != "scores")
        where = "validation" if kind == "val" else kind
        figures.append(chart_figure(Chart(f"{words} ({where})", STEP, words, lines, _shared_events(runs))))
    if len(found) > _MOST_SCORES:
        figures.append(el("p", f"{len(found) - _MOST_SCORES} further numbers are in the log."))
    return figures


def events_of(run: ReportedRun) -> list[Event]:
    """What happened to a run, for its charts."""
    history = run.history
    found = [Event(step_of_record(each), "save", "a checkpoint was saved") for each in history.of("save")]
    found += [Event(step_of_record(each), "resume", "the run went on from here") for each in history.of("resume")]
    found += [
        Event(step_of_record(each), "fault", "a checkpoint could not be saved") for each in history.of("save_failed")
    ]
    for each in history.of(END):
        why = str(each.get("error") or each.get("why", "stopped"))
        well = each.get("why") in {"finished", "stopped"}
        found.append(Event(step_of_record(each), "stop" if well else "fault", why))
    kinds = dict.fromkeys(event.kind for event in found)
    return [event for kind in kinds for event in _thinned([each for each in found if each.kind == kind])]


def _thinned(events: Sequence[Event]) -> Sequence[Event]:
    if len(events) <= _MOST_EVENTS:
        return events
    return [events[round(at * (len(events) - 1) / (_MOST_EVENTS - 1))] for at in range(_MOST_EVENTS)]


def _shared_events(runs: Sequence[ReportedRun]) -> list[Event]:
    """Events are shown where they belong to the only run of a chart."""
    return events_of(runs[0]) if len(runs) == 1 else []


def _total(runs: Sequence[ReportedRun]) -> Chart:
    lines = [line_of(run.name, run.history.steps, ("loss_mean",), ("loss",), kind=at) for at, run in enumerate(runs)]
    return Chart(
        "Training loss", STEP, _LOSS, lines, _shared_events(runs), "Mean of the steps since the record before."
    )


def _outputs(runs: Sequence[ReportedRun]) -> list[str]:
    records = [record for run in runs for record in (*run.history.steps[-1:], *run.history.others.get("val", ())[-1:])]
    found = [record.get("losses") for record in records]
    return list(dict.fromkeys(str(name) for losses in found if isinstance(losses, dict) for name in losses))


def _of_output(runs: Sequence[ReportedRun], output: str, constants: Constants) -> list[Chart]:
    """Training and validation in one chart for one run, in two for several."""
    path, (title, unit) = ("losses", output), _title_and_unit(output)
    training = [line_of("training", run.history.steps, path) for run in runs]
    validation = [line_of("validation", run.history.others.get("val", ()), path) for run in runs]
    of_average = "validation, averaged weights"
    averaged = [line_of(of_average, run.history.others.get("val", ()), (_AVERAGED, *path)) for run in runs]
    if len(runs) == 1:
        lines = [training[0], validation[0], *filter(len, averaged)]
        lines += _constant(training[0], constants.get(output))
        return [Chart(title, STEP, unit, lines, events_of(runs[0]))]
    charts = []
    for what, of_runs in (("training", training), ("validation", validation), (of_average, averaged)):
        if of_runs is averaged and not any(map(len, averaged)):
            continue
        lines = [
            replace(line, name=run.name, kind=at) for at, (line, run) in enumerate(zip(of_runs, runs, strict=True))
        ]
        charts.append(Chart(f"{title}, {what}", STEP, unit, [*lines, *_constant(lines[0], constants.get(output))]))
    return charts


def _constant(beside: Line, loss: float | None) -> list[Line]:
    if loss is None or not beside.x:
        return []
    return [Line("best constant", [beside.x[0], beside.x[-1]], [loss, loss], kind=LINES - 1)]


def _title_and_unit(output: str) -> tuple[str, str]:
    try:
        source = output_source(output)
    except KeyError:
        return output, "loss"
    patches = ", patches normalised" if output == NORM_RGB else ""
    return f"{source.title}{patches} ({output})", _UNITS[source.loss]


def _figures(runs: Sequence[ReportedRun], charts: Sequence[tuple[str, str, Sequence[Path], float]]) -> list[Element]:
    """A figure for each chart that has numbers, and a line that names the others."""
    figures, without = [], []
    for title, unit, paths, scale in charts:
        lines = [line_of(run.name, run.history.steps, *paths, kind=at, scale=scale) for at, run in enumerate(runs)]
        whole = paths == [_SKIPPED]
        chart = Chart(title, STEP, unit, lines, _shared_events(runs), from_zero=True, whole=whole)
        if chart.has_numbers:
            figures.append(chart_figure(chart))
        else:
            without.append(title)
    return [*figures, el("p", f"Without numbers: {', '.join(without)}.")] if without else figures


def _with_scales(figures: Sequence[Element]) -> list[Element]:
    """Two radio buttons before the figures; the style alone shows one scale or the other."""
    choices = [
        part
        for at, name in enumerate(("linear", "log"))
        for part in (
            el("input", type="radio", name="scale", id=f"scale-{name}", checked=at == 0),
            el("label", f"{'logarithmic' if name == 'log' else name} scale", for_=f"scale-{name}", class_="choice"),
        )
    ]
    return [el("div", *choices, el("div", *figures, class_="figures"), class_="scales")]


def _of(run: ReportedRun, runs: Sequence[ReportedRun]) -> str:
    return f", {run.name}" if len(runs) > 1 else ""
