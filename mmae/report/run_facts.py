"""What a run is, in words and tables: its state, recipe, data, hardware, versions, and where its tiles lie."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import yaml

from mmae.addresses import is_remote
from mmae.config.finetune_schema import FinetuneConfig
from mmae.config.schema import Config, flatten
from mmae.data.shards.index import open_index
from mmae.disk.json_text import parse_json
from mmae.disk.regular_file import read_regular_text
from mmae.errors import InputError
from mmae.report.history import History, read_history
from mmae.report.page.markup import el, facts, table
from mmae.report.page.shell import moment
from mmae.report.page.world_map import world_map
from mmae.report.shards.places import places_of
from mmae.run.folder import RunFolder, open_run
from mmae.run.layout import STATE, newest_first
from mmae.run.log_reader import time_of_record
from mmae.run.parent import read_parent
from mmae.run.state import RunState, read_run
from mmae.run.status import duration
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_TASK: Final = "task.kind"
"""A key that only recipes of fine-tunings have."""


@dataclass(frozen=True, eq=False)
class ReportedRun:
    """A run as a report sees it.

    Attributes:
        name: short, and different from the names of the other runs of the report.
        settings: the resolved recipe by dotted key.
        state: None if the log holds no start yet.
    """

    name: str
    folder: RunFolder
    settings: Mapping[str, Any]
    history: History
    state: RunState | None


def read_reported_run(path: str, name: str, trust: bool) -> ReportedRun:
    """Read all that a report needs of a run.

    Raises:
        InputError: there is no run, or one of another user.
    """
    folder = open_run(path, trust)
    state: RunState | None = None
    with suppress(InputError):
        state = read_run(folder.path)
    return ReportedRun(name, folder, _settings(folder, trust), read_history(folder.log_file), state)


def _settings(folder: RunFolder, trust: bool) -> dict[str, Any]:
    """The recipe; of a run of another kind than pretraining as its file says it."""
    try:
        config = folder.stored_config(trust)
        return {} if config is None else flatten(config)
    except InputError:
        with suppress(OSError, ValueError, yaml.YAMLError):
            found = yaml.safe_load(read_regular_text(folder.config_file))
            return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}
    return {}


def about(run: ReportedRun) -> list[Element]:
    """The facts of a run, its warnings, its recipe, and a map of its tiles."""
    begins = run.history.of("start", "resume")
    begin = max(begins, key=time_of_record, default={})
    pairs = [
        ("state", _state(run)),
        ("model", _model(run.settings)),
        ("tiles", _words(run.settings.get("data.shards"))),
        ("training", _training(run, begin)),
        ("hardware", _hardware(begin)),
        ("starts", _starts(run.history)),
        ("went on from", str(read_parent(run.folder.path) or "")),
        ("versions", _versions(run.folder)),
        ("command to go on", _command(run, begin)),
        ("log", _log(run.history)),
    ]
    warnings = [] if run.state is None else run.state.warnings
    parts = [facts([(name, value) for name, value in pairs if value])]
    parts += [el("p", el("strong", "Warning: "), warning, class_="warning") for warning in warnings]
    parts.append(_recipe(run.settings))
    if (placed := _map(run)) is not None:
        parts.append(placed)
    return parts


def recipe_differences(runs: Sequence[ReportedRun]) -> Element:
    """A table of the keys in which the recipes differ."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    differing = [key for key in keys if len({_words(run.settings.get(key)) for run in runs}) > 1]
    rows = [[key, *(_words(run.settings.get(key)) for run in runs)] for key in differing]
    return table(["key", *(run.name for run in runs)], rows, "What differs between the recipes")


def _state(run: ReportedRun) -> str:
    state = run.state
    if state is None:
        return "no start in the log yet"
    of = f" of {state.max_steps}" if state.max_steps else ""
    why = f" ({state.why})" if state.why and state.why != state.state else ""
    left = f", {duration(state.seconds_left)} left" if state.seconds_left is not None else ""
    return f"{state.state}{why}, step {state.step}{of}{left}; last record on {moment(time.time() - state.silence)}"


def _model(settings: Mapping[str, Any]) -> str:
    if "model.size" not in settings:
        return ""
    if _TASK in settings:
        return _tuned_model(settings)
    inputs, outputs = settings.get("model.in_domains") or [], settings.get("model.out_domains") or []
    size = _words(settings.get("model.input_size"))
    return (
        f"{settings['model.size']} MultiMAE, {size} pixels, patches of {settings.get('model.patch_size')}, "
        f"{settings.get('model.num_encoded_tokens')} visible tokens; inputs {', '.join(inputs)}; outputs "
        f"{', '.join(outputs)}"
    )


def _tuned_model(settings: Mapping[str, Any]) -> str:
    task = settings.get("task.target") or settings.get("source.task") or settings.get("task.labels") or "labels"
    begun = settings.get("model.init_from")
    weights = f"a new {settings['model.size']} encoder" if begun in {None, "none"} else f"the weights of {begun}"
    return (
        f"{settings[_TASK]} of {task} from {weights}; head {_words(settings.get('model.head'))}, "
        f"tuning {settings.get('model.tuning')}"
    )


def _training(run: ReportedRun, begin: Mapping[str, Any]) -> str:
    batch = run.settings.get("train.global_batch")
    per_epoch = begin.get("steps_per_epoch")
    epochs = f", {per_epoch} steps an epoch" if per_epoch else ""
    return f"batches of {batch} tiles{epochs}" if batch else ""


def _hardware(begin: Mapping[str, Any]) -> str:
    if not begin.get("world"):
        return ""
    peak = begin.get("device_peak_tflops")
    return (
        f"{counted(begin['world'], 'rank')} x {begin.get('micro_batch')} tiles x {begin.get('accumulation')} "
        "accumulation, "
        + (f"ZeRO-{begin['zero_stage']}, " if begin.get("zero_stage") is not None else "")
        + f"{begin.get('precision')}, first rank on {begin.get('host')}"
        + (f", {peak:.0f} TFLOP/s a device" if isinstance(peak, int | float) else "")
    )


def _command(run: ReportedRun, begin: Mapping[str, Any]) -> str:
    """What continues the run, or begins it again in another `run.dir`; empty for other kinds of runs."""
    if "model.size" not in run.settings or not run.folder.ds_config_file.is_file():
        return ""
    files = [shlex.quote(str(path)) for path in (run.folder.config_file, run.folder.ds_config_file)]
    ranks = begin.get("world") or 1
    return f"RANKS={ranks} bash launchers/single_node.sh --config {files[0]} --deepspeed_config {files[1]}"


def _starts(history: History) -> str:
    begins = sorted(history.of("start", "resume"), key=time_of_record)
    times = [record["time"] for record in begins if record.get("time")]
    if not times:
        return ""
    first, last = moment(times[0]), moment(times[-1])
    return f"{len(times)}, the first on {first}" + (f", the last on {last}" if len(times) > 1 else "")


def _versions(folder: RunFolder) -> str:
    for checkpoint in newest_first(folder.checkpoints)[:1]:
        with suppress(OSError, ValueError, AttributeError):
            versions = parse_json(read_regular_text(checkpoint / STATE)).get("versions", {})
            return ", ".join(f"{name} {version}" for name, version in versions.items())
    return ""


def _log(history: History) -> str:
    damaged = f"; {history.damaged} damaged or half-written, left out" if history.damaged else ""
    few = len(history.steps) < history.step_lines - history.damaged
    sampled = f"; charts show an even sample of {len(history.steps)} steps" if few else ""
    return f"{history.lines} lines, {history.step_lines} of them steps{damaged}{sampled}"


def _recipe(settings: Mapping[str, Any]) -> Element:
    defaults = flatten(FinetuneConfig() if _TASK in settings else Config())
    changed = [[key, _words(value), _words(defaults.get(key))] for key, value in settings.items()
               if _words(value) != _words(defaults.get(key))]  # fmt: skip
    whole = [[key, _words(value)] for key, value in settings.items()]
    return el(
        "div",
        table(["key", "value", "default"], changed, "The recipe, where it differs from the defaults"),
        el("details", el("summary", "The whole recipe"), table(["key", "value"], whole)),
    )


def _map(run: ReportedRun) -> Element | None:
    indexes = []
    said = run.settings.get("data.shards")
    for location in said if isinstance(said, list) else [said]:
        # The shards may lie elsewhere by now.
        with suppress(InputError, OSError):
            if isinstance(location, str) and location and not is_remote(location):
                indexes.append(open_index(Path(location)))
    splits = list(dict.fromkeys(split for index in indexes for split in index.splits))
    groups = [(split, np.concatenate([places_of(index, split) for index in indexes])) for split in splits]
    groups = [(f"{split} ({len(places)} tiles)", places) for split, places in groups if len(places)]
    return world_map(f"Where the tiles of {run.name} lie", groups[:6]) if groups else None


def _words(value: Any) -> str:
    if value is None:
        return "-"
    return ", ".join(map(_words, value)) if isinstance(value, list | tuple) else str(value)
