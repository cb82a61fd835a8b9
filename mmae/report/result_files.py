"""Scores that other commands wrote: probes, baselines, fine-tunings, benchmarks. Named files, and those of a run.

A file is known by what it holds, whatever its name. Files that a report finds by itself, and cannot read, are left out.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from mmae.disk.json_text import parse_json
from mmae.disk.regular_file import read_regular, read_regular_text
from mmae.errors import InputError
from mmae.run.layout import CONFIG, RESULTS, SCORES

Row = Mapping[str, Any]

_MOST_BYTES: Final = 8_000_000
_MOST_FILES: Final = 200
_MOST_FOUND: Final = 16
_OF_COMMANDS: Final = ("mmae probe ", "mmae baseline ", "mmae benchmark ", "mmae finetune ")
_BASELINE: Final = "mmae baseline of this run: losses on normalised values"
_CSV: Final = {"dataset": "dataset", "test split": "part", "partition name": "labels", "decoder": "method",
               "Seed": "seed", "Metric": "metric", "test metric": "score", "ci low": "low",
               "ci high": "high"}  # fmt: skip
"""Columns of `mmae benchmark` -> names as in other tables."""


@dataclass(frozen=True)
class Results:
    """The table of one file: rows with their values by name."""

    title: str
    rows: Sequence[Row]
    notes: Sequence[str]


def read_results(path: Path) -> Results:
    """The table of a file that `--results` names.

    Raises:
        InputError: the file is missing, or holds no table.
    """
    try:
        results = _read(path)
    except OSError as error:
        raise InputError(f"--results {path}: cannot be read ({error.strerror}): give what --json wrote") from None
    except ValueError:
        results = None
    if results is None:
        raise InputError(
            f"--results {path}: holds no rows: give what --json of mmae probe or mmae baseline wrote, the table of "
            f"mmae benchmark, or {RESULTS} of a fine-tuning"
        )
    return results


def found_results(run: Path, known: Sequence[Path] = ()) -> list[Results]:
    """The scores that lie in a run's folder, and beside it what says that it is of this run.

    Args:
        known: files that were read already.
    """
    found: list[Results] = []
    without = {path.resolve() for path in known}
    for path, belongs in _candidates(run):
        with suppress(OSError, ValueError):
            if path.resolve() in without or path.stat().st_size > _MOST_BYTES:
                continue
            if (results := _read(path)) is not None and belongs(results):
                found.append(results)
    return found[:_MOST_FOUND]


def _candidates(run: Path) -> Iterator[tuple[Path, Callable[[Results], bool]]]:
    """Files that may hold scores of a run, and how it is known whether they do."""
    for folder in (run, run / SCORES):
        for path in _files(folder):
            yield path, _is_of_a_command
    beside = run.resolve().parent
    for path in _files(beside):
        yield path, lambda results: _is_of_a_command(results) and _names(results, run)
    with suppress(OSError):
        for folder in sorted(beside.iterdir())[:_MOST_FILES]:
            if (folder / RESULTS).is_file() and _began_from(folder, run):
                yield folder / RESULTS, lambda _: True


def _files(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(path for path in folder.iterdir() if path.suffix in {".json", ".csv"})[:_MOST_FILES]
    return []


def _is_of_a_command(results: Results) -> bool:
    """Whether it is one of our tables of scores: a recipe of DeepSpeed or band statistics are none."""
    return results.title.startswith(_OF_COMMANDS)


def _is_baseline(rows: Sequence[Row]) -> bool:
    return all("output" in row and "constant" in row for row in rows)


def _names(results: Results, run: Path) -> bool:
    """Whether the title, such as `mmae probe runs/mini`, names the run."""
    return Path(results.title.split(" ", 2)[-1].partition(":")[0]).name == run.resolve().name


def _began_from(folder: Path, run: Path) -> bool:
    """Whether a fine-tuning began from the run's weights, or from a model that lies in its folder."""
    with suppress(OSError, ValueError, yaml.YAMLError):
        recipe = yaml.safe_load(read_regular_text(folder / CONFIG))
        said = recipe.get("model.init_from") if isinstance(recipe, dict) else None
        return isinstance(said, str) and bool(said) and Path(said).resolve().is_relative_to(run.resolve())
    return False


def _read(path: Path) -> Results | None:
    """The table of a file; None where it holds none.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    content = read_regular(path)
    if path.suffix == ".csv":
        return _of_csv(content.decode(), path)
    found = parse_json(content)
    if isinstance(found, dict) and {"task", "main", "val"} <= found.keys():
        return _of_finetuning(found, path)
    rows = found.get("rows") if isinstance(found, dict) else found
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        return None
    about = found if isinstance(found, dict) else {}
    notes = about.get("notes", [])
    title = about.get("title") or (_BASELINE if _is_baseline(rows) else path.stem)
    return Results(str(title), rows, [str(note) for note in notes] if isinstance(notes, list) else [])


def _of_csv(text: str, path: Path) -> Results | None:
    lines = list(csv.DictReader(io.StringIO(text, newline="")))
    if not lines or not _CSV.keys() <= lines[0].keys():
        return None
    rows = [{name: _number(line.get(column)) for column, name in _CSV.items()} for line in lines]
    return Results(f"mmae benchmark {path.name}", rows, [])


def _of_finetuning(found: Row, path: Path) -> Results | None:
    """A row for each score of the validation and test tiles; with several seeds its mean and 95 % interval."""
    rows: list[dict[str, Any]] = []
    for part in ("val", "test"):
        of_part = found.get(part)
        scores = of_part.get("scores") if isinstance(of_part, dict) else None
        for metric, value in (scores if isinstance(scores, dict) else {}).items():
            rows.append({"task": found["task"], "part": part, "metric": str(metric), **_spread(value)})
    seeds = found.get("seeds")
    notes = [f"{len(seeds)} seeds: mean, and its 95 % interval over seeds"] if isinstance(seeds, list) else []
    tiles = found.get("training_tiles")
    return Results(f"mmae finetune {path.parent.name}", rows, [f"{tiles} training tiles", *notes]) if rows else None


def _spread(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {"score": value}
    mean, half = value.get("mean"), value.get("half_width")
    if not isinstance(mean, int | float) or not isinstance(half, int | float):
        return {"score": mean}
    return {"score": mean, "low": mean - half, "high": mean + half}


def _number(text: str | None) -> str | float | None:
    with suppress(ValueError):
        return float(text) if text else None
    return text
