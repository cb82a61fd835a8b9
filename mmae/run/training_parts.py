"""A fine-tuning of several trainings, for `mmae status`: trials of a search, then one training a seed.

Each is a run folder of its own, in `search/` and `seeds/`. The folder of the whole has no log.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mmae.config.finetune_checks import FINETUNING
from mmae.config.score_names import LOWER
from mmae.disk.json_text import parse_json
from mmae.disk.regular_file import read_regular_text
from mmae.errors import InputError
from mmae.run.folder import RunFolder
from mmae.run.layout import LOG, RESULTS, SEARCH, SEEDS
from mmae.run.state import RunState, read_run
from mmae.terminal.table import Column, Table, Value

Spread = dict[str, float | None]

_PART: Final = re.compile(r"(trial|seed)_(\d{1,18})")
_T95: Final = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t, 97.5 %, for 1, 2, ... degrees of freedom."""
_Z: Final = 1.959964
"""The normal distribution's 97.5 %."""


@dataclass(frozen=True)
class Part:
    """A trial or a seed that has begun.

    Attributes:
        name: `search/trial_0`.
        run: how it stands.
        blr, layer_decay, seed: what it trains with.
        main: the score that chooses; None before its end. `val` and `test` are its scores by name.
    """

    name: str
    run: RunState
    blr: float
    layer_decay: float
    seed: int
    main: str | None
    val: dict[str, float | None]
    test: dict[str, float | None]


@dataclass(frozen=True)
class Whole:
    """A fine-tuning of several trainings.

    Attributes:
        state: that of the newest part, and `finished` only where all have ended.
        search, seeds: how many of each there will be.
        parts: those that have begun, in their order.
        scores: `val` and `test` -> score -> its mean over the seeds that have ended, with a 95 % interval.
    """

    run: str
    state: str
    search: int
    seeds: int
    parts: tuple[Part, ...]
    scores: dict[str, dict[str, Spread]]

    @property
    def now(self) -> RunState:
        """The newest part."""
        return self.parts[-1].run


def read_whole(folder: Path, trust: bool) -> Whole | None:
    """Read a fine-tuning of several trainings; None where the folder holds no such one.

    Args:
        trust: the run may be another user's.

    Raises:
        InputError: its recipe cannot be read, or no part has begun.
    """
    if (folder / LOG).exists() or not any((folder / name).is_dir() for name in (SEARCH, SEEDS)):
        return None
    config = RunFolder(folder).stored(FINETUNING, trust)
    if config is None:
        return None
    parts = tuple(part for name in (SEARCH, SEEDS) for part in _parts(folder, name, trust))
    if not parts:
        raise InputError(f"{folder}: no trial and no seed has a record yet: ask again in a moment")
    ended = [part for part in parts if part.name.startswith(SEEDS) and part.main is not None]
    scores = {
        split: {name: spread([getattr(part, split).get(name) for part in ended]) for name in getattr(ended[0], split)}
        for split in ("val", "test")
        if ended and getattr(ended[0], split)
    }
    planned = config.finetune
    state = parts[-1].run.state
    if state in {"finished", "failed"} and not (folder / RESULTS).is_file():
        # A search goes on after a trial without a score.
        state = "between two trainings" if len(ended) < planned.seeds else "finished"
    return Whole(str(folder), state, planned.search, planned.seeds, parts, scores)


def whole_rows(found: Whole) -> Iterator[tuple[str, str]]:
    """Title and text of each line for people, but for the table."""
    trials = [part for part in found.parts if part.name.startswith(SEARCH)]
    seeds = [part for part in found.parts if part.name.startswith(SEEDS)]
    if found.search:
        yield "search", f"{_ended(trials)} of {found.search} trials have ended{_best(trials)}"
    yield "seeds", f"{_ended(seeds)} of {found.seeds} have ended"
    for split, scores in found.scores.items():
        yield split, "  ".join(f"{name} {shown_spread(each)}" for name, each in scores.items())


def whole_table(found: Whole) -> Table:
    """A row a part."""
    columns = [
        Column("part", "part"), Column("state", "state"), Column("step", "step"), Column("blr", "train.blr", "{:g}"),
        Column("decay", "train.layer_decay", "{:g}"), Column("val", "val", "{:.4g}"),
        Column("test", "test", "{:.4g}"),
    ]  # fmt: skip
    rows: list[dict[str, Value]] = [
        {
            "part": part.name,
            "state": part.run.state,
            "step": f"{part.run.step} of {part.run.max_steps}",
            "blr": part.blr,
            "decay": part.layer_decay,
            "val": part.val.get(part.main or ""),
            "test": part.test.get(part.main or ""),
        }
        for part in found.parts
    ]
    main = next((part.main for part in found.parts if part.main), None)
    return Table(f"trainings{f' ({main})' if main else ''}", columns, rows)


def spread(values: Sequence[float | None]) -> Spread:
    """Mean, standard deviation, and the half width of the mean's 95 % interval (Student's t over seeds)."""
    known = [each for each in values if each is not None]
    if not known:
        return {"mean": None, "deviation": None, "half_width": None}
    if len(known) == 1:
        return {"mean": known[0], "deviation": None, "half_width": None}
    deviation = statistics.stdev(known)
    return {
        "mean": statistics.fmean(known),
        "deviation": deviation,
        "half_width": _students(len(known) - 1) * deviation / math.sqrt(len(known)),
    }


def shown_spread(each: Mapping[str, float | None]) -> str:
    """Mean and interval, as `0.61 ± 0.02`."""
    if each["mean"] is None:
        return "-"
    return f"{each['mean']:.4g}" + ("" if each["half_width"] is None else f" ± {each['half_width']:.2g}")


def _students(freedom: int) -> float:
    """Student's t, 97.5 %: beyond the table by its expansion in 1 / freedom (Abramowitz and Stegun, 26.7.5)."""
    if freedom <= len(_T95):
        return _T95[freedom - 1]
    first = (_Z**3 + _Z) / 4
    second = (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / 96
    third = (3 * _Z**7 + 19 * _Z**5 + 17 * _Z**3 - 15 * _Z) / 384
    return _Z + first / freedom + second / freedom**2 + third / freedom**3


def _parts(folder: Path, kind: str, trust: bool) -> Iterator[Part]:
    if not (folder / kind).is_dir():
        return
    found = {int(match[2]): each for each in (folder / kind).iterdir() if (match := _PART.fullmatch(each.name))}
    for number in sorted(found):
        # A part that begins just now has no record yet.
        with suppress(InputError):
            yield _part(found[number], kind, trust)


def _part(path: Path, kind: str, trust: bool) -> Part:
    config = RunFolder(path).stored(FINETUNING, trust)
    if config is None:
        raise InputError(f"{path}: no run lives here")
    train, results = config.train, _results(path)
    return Part(
        f"{kind}/{path.name}", read_run(path), train.blr, train.layer_decay, train.seed,
        results.get("main"), _scores(results, "val"), _scores(results, "test"),
    )  # fmt: skip


def _results(path: Path) -> dict[str, Any]:
    try:
        found = parse_json(read_regular_text(path / RESULTS))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("main"), str) else {}


def _scores(results: Mapping[str, Any], split: str) -> dict[str, float | None]:
    part = results.get(split)
    scores = part.get("scores") if isinstance(part, dict) else None
    if not isinstance(scores, dict):
        return {}
    return {str(name): each if isinstance(each, int | float) else None for name, each in scores.items()}


def _ended(parts: Sequence[Part]) -> int:
    return sum(part.main is not None or part.run.state == "failed" for part in parts)


def _best(trials: Sequence[Part]) -> str:
    """The best trial so far, in words; empty before there is one."""
    scored = [part for part in trials if part.main is not None and part.val.get(part.main) is not None]
    if not scored:
        return ""
    main = str(scored[0].main)
    sign = 1 if main in LOWER else -1
    best = min(scored, key=lambda part: sign * float(part.val[main] or 0.0))
    return f", the best so far is {best.name.rpartition('/')[2]}: {main} {best.val[main]:.4g}"
