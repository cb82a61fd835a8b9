"""`mmae status RUN`: the state of a run, for any shell that sees its folder. It needs no torch and only reads."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmae.disk.ownership import add_trust_argument
from mmae.run.layout import LOG, check_run
from mmae.run.log_reader import Record
from mmae.run.state import UNWELL, RunState, read_run
from mmae.terminal.looks import coloured, fitted, sparkline
from mmae.terminal.printable import printable

if TYPE_CHECKING:
    from mmae.run.training_parts import Whole

_WARNING: Final = "  warning: "


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's folder (run.dir)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    add_trust_argument(parser, "a run")


def run(args: argparse.Namespace) -> int:
    """Exit status 0; 1 where the run failed, died or is silent. Bad input is an InputError."""
    check_run(Path(args.run), args.trust)
    # A run with a log is answered at once, without the imports that recipes need.
    if not (Path(args.run) / LOG).exists():
        from mmae.run.training_parts import read_whole

        whole = read_whole(Path(args.run), args.trust)
        if whole is not None:
            _show_whole(whole, args.json)
            return 1 if whole.state in UNWELL else 0
    found = read_run(Path(args.run))
    if args.json:
        print(json.dumps(asdict(found)))
    else:
        print("\n".join(_coloured(line, found) for line in lines(found)))
    return 1 if found.state in UNWELL else 0


def _show_whole(found: Whole, as_json: bool) -> None:
    from mmae.run.training_parts import whole_rows, whole_table

    if as_json:
        print(json.dumps(asdict(found)))
        return
    print("\n".join(fitted("", f"{found.run}: {found.state}")))
    for title, text in whole_rows(found):
        print("\n".join(fitted(f"  {title:<11} ", text)))
    print(whole_table(found).text())
    if found.state != "finished":
        print("\n".join(_coloured(line, found.now) for line in lines(found.now)))


def lines(found: RunState) -> Iterator[str]:
    """The report for people."""
    why = f" ({found.why})" if found.why and found.why != found.state else ""
    yield from fitted("", f"{found.run}: {found.state}{why}")
    for title, text in _rows(found):
        yield from fitted(f"  {title:<11} ", text)
    for warning in found.warnings:
        yield from fitted(_WARNING, warning)


def _coloured(line: str, found: RunState) -> str:
    """A line as a terminal shows it: how the run does in green or red, warnings in yellow."""
    if line.startswith(begin := f"{printable(found.run)}: {found.state}"):
        state = coloured(found.state, "bad" if found.state in UNWELL else "good")
        return f"{begin.removesuffix(found.state)}{state}{line.removeprefix(begin)}"
    return coloured(line, "warning") if line.startswith(_WARNING) else line


def _rows(found: RunState) -> Iterator[tuple[str, str]]:
    yield "step", _step(found)
    if found.train is not None:
        train = found.train
        mean = f" (mean since the record before {_number(train['loss_mean'])})" if "loss_mean" in train else ""
        rate = f", learning rate {_number(train['lr'])}" if "lr" in train else ""
        norm = f"gradient norm {_number(train.get('grad_norm'))}"
        yield "loss", f"{_loss(train.get('loss'), _any_scored(train))}{mean}, {norm}{rate}"
        yield "", _losses(train)
        if len(found.loss_course) > 1 and (course := sparkline(found.loss_course)):
            yield "", f"{course}  over the last {len(found.loss_course)} records"
    if found.validation_tiles == 0 or (found.val is not None and not found.val.get("losses")):
        yield "validation", "none: the shards have no tiles in a split val"
    elif found.val is not None:
        yield "validation", f"{total_loss(found.val)} at step {found.val.get('step')}"
        yield "", _losses(found.val)
        yield from (("", each) for each in (read_scores(found.val),) if each)
        if (ema := found.val.get("ema")) and ema.get("losses"):
            yield "averaged", averaged_loss(found.val, ema)
            yield "", _losses(ema)
            yield from (("", each) for each in (read_scores(ema),) if each)
        if scores := found.val.get("scores"):
            yield "", "  ".join(f"{name} {_number(score)}" for name, score in scores.items())
    if found.probes is not None:
        yield "probes", f"{_probed(found.probes)} at step {found.probes.get('step')}"
        if ema := found.probes.get("ema"):
            yield "", f"of the averaged weights: {_probed(ema)}"
    if found.train is not None:
        yield "speed", _speed(found.train)
    if found.seconds_left is not None:
        done = time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() + found.seconds_left))
        yield "left", f"{duration(found.seconds_left)}, until about {done}"
    if found.parent is not None:
        yield "parent", found.parent
    age = f", {duration(found.checkpoint_age)} old" if found.checkpoint_age is not None else ""
    yield "checkpoint", f"{Path(found.checkpoint).name}{age}" if found.checkpoint else "none yet"
    if found.keep_best:
        best = f"{Path(found.best).name}, {found.keep_best} {_score(found.best_score)}" if found.best else ""
        yield "best", best or f"none yet: no checkpoint has a score {found.keep_best}"
    yield "last record", f"{duration(found.silence)} ago" + (f", {found.host} pid {found.pid}" if found.pid else "")


def _probed(record: Mapping[str, Any]) -> str:
    failed = (f"{task} failed ({why})" for task, why in (record.get("failed") or {}).items())
    return ", ".join(filter(None, (named_scores(record.get("scores") or {}), *failed)))


def _step(found: RunState) -> str:
    if not found.max_steps:
        return str(found.step)
    stop = f", this start stops at {found.stop}" if found.stop not in {None, found.max_steps} else ""
    epoch = f", epoch {found.train['epoch']}" if found.train and "epoch" in found.train else ""
    return f"{found.step} of {found.max_steps} ({found.step / found.max_steps:.1%}){epoch}{stop}"


def _speed(train: Mapping[str, float | None]) -> str:
    parts = [f"{_number(train.get('tiles_per_second'))} tiles/s"]
    if train.get("mfu") is not None:
        parts.append(f"MFU {train['mfu']:.1%}")
    if train.get("data_wait_share") is not None:
        parts.append(f"waiting for data {train['data_wait_share']:.1%}")
    if train.get("peak_memory_gb") is not None:
        parts.append(f"peak memory {train['peak_memory_gb']:.1f} GB")
    return ", ".join(parts)


def _losses(record: Record) -> str:
    scored = record.get("scored") or {}
    losses = record.get("losses") or {}
    # A name and its loss stay in one line.
    return "  ".join(f"{name}\N{NO-BREAK SPACE}{_loss(loss, scored.get(name, 1))}" for name, loss in losses.items())


def averaged_loss(val: Record, ema: Record) -> str:
    """The validation loss of averaged weights, beside that of the weights themselves."""
    return f"loss {total_loss(ema)}, of the weights themselves {total_loss(val)}"


def read_scores(val: Record) -> str:
    """IoU and RMSE of a validation's record, for `fitted`; empty where it has none, as in logs of earlier versions."""
    groups = {"IoU": dict(val.get("iou") or {})}
    units = val.get("units") or {}
    for name, rmse in (val.get("rmse") or {}).items():
        groups.setdefault(f"RMSE in {units.get(name, '?')}", {})[name] = rmse
    return "; ".join(f"{title}: {named_scores(scores)}" for title, scores in groups.items() if scores)


def named_scores(scores: Mapping[str, float | None]) -> str:
    """Scores by what they are of, for `fitted`: a name and its score stay in one line."""
    return ", ".join(f"{task}\N{NO-BREAK SPACE}{_score(score)}" for task, score in scores.items())


def _score(score: float | None) -> str:
    return "unknown" if score is None else f"{score:.3g}"


def total_loss(val: Record) -> str:
    """The sum over the outputs that were scored; not a number if one of them is not."""
    known = [loss for loss in val["losses"].values() if loss is not None]
    return _loss(sum(known) if known and not val.get("lost") else None, _any_scored(val))


def _any_scored(record: Record) -> bool:
    # Logs of earlier versions do not contain it.
    return any((record.get("scored") or {"": 1}).values())


def _loss(loss: float | None, scored: float) -> str:
    return _number(loss) if scored else "nothing scored"


def _number(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.4g}"


def duration(seconds: float) -> str:
    """`2 d 3 h`, `4 h 5 min`, `6 min 7 s`, `8 s`."""
    whole = round(seconds)
    units = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    for (name, size), (next_name, next_size) in pairwise(units):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // next_size} {next_name}"
    return f"{whole} s"
