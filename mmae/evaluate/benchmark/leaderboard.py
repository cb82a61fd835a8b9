"""A table of scores in the layout that the GEO-Bench-2 leaderboard takes: a folder with a CSV and a JSON file.

The leaderboard's own checks ask for these names of files, columns, metrics and keys (also for the space at the end of
one key), for texts where it has texts, and for five seeds a model and task.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from mmae.disk.files import atomic_folder, writing
from mmae.evaluate.benchmark.result_rows import LEADERBOARD, Row
from mmae.evaluate.benchmark.tasks.benchmark_task import FINETUNE
from mmae.terminal.plurals import counted
from mmae.version import __version__

_COLUMNS: Final = (*LEADERBOARD, "frozen_or_full_ft")
_METRICS: Final = MappingProxyType(
    {
        "accuracy": "Overall_Accuracy",
        "micro_f1": "Multilabel_F1_Score",
        "miou": "Multiclass_Jaccard_Index",
        "rmse": "RMSE",
    }
)
_SEEDS: Final = 5
_UNKNOWN: Final = "N/A"
_REMEDY: Final = "choose another --submission"


def write_submission(folder: Path, rows: Iterable[Row], backbone: str, parameters: int) -> list[str]:
    """Write the folder, whole or not at all.

    Args:
        folder: new, or empty.
        rows: of one model.
        backbone: what the model is called.
        parameters: weights of its encoder.

    Returns:
        Sentences about what the leaderboard would refuse.

    Raises:
        InputError: it cannot be written.
    """
    rows = list(rows)
    with writing(folder, _REMEDY):
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(folder) as inside:
            (inside / "results_and_parameters.csv").write_text(_csv(rows))
            about = json.dumps(_about(rows, backbone, parameters), indent=4)
            (inside / "additional_info.json").write_text(f"{about}\n")
    return _notes(rows)


def _csv(rows: Sequence[Row]) -> str:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        said: dict[str, str] = {name: row[name] for name in LEADERBOARD}
        said |= {"Metric": _METRICS.get(row["Metric"], row["Metric"]), "batch_size_selection": "fixed"}
        writer.writerow({**said, "frozen_or_full_ft": _tuning(row)})
    return out.getvalue()


def _tuning(row: Row) -> str:
    if row["decoder"] != FINETUNE:
        return "frozen"
    said = re.findall(r"(?:^| )model\.tuning=(\S+)", row["protocol"])
    return "full_ft" if not said or said[-1] == "full" else said[-1]


def _about(rows: Sequence[Row], backbone: str, parameters: int) -> Mapping[str, object]:
    trials = sorted({row["n_trials"] for row in rows}, key=int)
    settings = "; ".join(dict.fromkeys(f"{row['decoder']}: {row['protocol']}" for row in rows))
    return {
        "Paper Link": _UNKNOWN,
        "Code Repository Link ": _UNKNOWN,
        "License": _UNKNOWN,
        "Number of HPO trials": ", ".join(trials),
        "Additional information about submission": f"mmae {__version__} benchmark. {settings}",
        "Comments on new models in submission": _UNKNOWN,
        "New model info": [
            {
                "model_display_name": backbone,
                "model_size": f"{parameters / 1e6:.1f}M",
                "unique_backbone_key": backbone,
            }
        ],
    }


def _notes(rows: Sequence[Row]) -> list[str]:
    seeds: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        seeds[row["dataset"]].append(row["Seed"])
    found = [
        f"the leaderboard takes {_SEEDS} rows a model and task, each with another seed, and here {name} has "
        f"{counted(len(each), 'row')} with {counted(len(set(each)), 'seed')}"
        for name, each in seeds.items()
        if not len(each) == len(set(each)) == _SEEDS
    ]
    return [*found, "the leaderboard takes GEO-Bench-2's own data sets: these tasks have its layout, and not its names"]
