"""The report of a probe: scores beside baselines, diagnostics of features, and notes, for people and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mmae.terminal.table import Column, Table, Value

if TYPE_CHECKING:
    from mmae.evaluate.probe.probe_run import Found, ProbeOptions

_KEYS: Final = (
    Column("step", "step"),
    Column("seed", "seed"),
    Column("fraction", "labels", "{:g}"),
    Column("task", "task"),
    Column("method", "method"),
    Column("features", "features"),
)
_SCORES: Final = (
    Column("metric", "metric"),
    Column("score", "score", "{:.4g}"),
    Column("low", "low", "{:.4g}"),
    Column("high", "high", "{:.4g}"),
    Column("also", "also"),
    Column("also_score", "score", "{:.3g}"),
)
_BASELINES: Final = {"untrained": "the untrained encoder", "statistics": "image statistics"}
_CHOICES: Final = (
    Column("block", "block"),
    Column("pooling", "pooling"),
    Column("normaliser", "normaliser"),
    Column("setting", "k, C, alpha", "{:.3g}"),
    Column("val_score", "on val", "{:.4g}"),
    Column("train_rows", "train"),
    Column("rows", "test"),
)
_DIAGNOSTICS: Final = (
    Column("features", "features"),
    Column("pooling", "pooling"),
    Column("rows", "tiles"),
    Column("dim", "width"),
    Column("rankme", "RankMe", "{:.1f}"),
    Column("rankme_centred", "RankMe, centred", "{:.1f}"),
    Column("effective_rank", "effective rank", "{:.1f}"),
    Column("effective_rank_centred", "the same, centred", "{:.1f}"),
    Column("uniformity", "uniformity", "{:.3f}"),
    Column("cosine_mean", "cosine", "{:.3f}"),
    Column("cosine_deviation", "its deviation", "{:.3f}"),
    Column("norm_mean", "norm", "{:.3g}"),
    Column("norm_deviation", "its deviation", "{:.3g}"),
)
_READING: Final = (
    "low, high: 95 % of the draws of a bootstrap over places lie between them",
    "the encoder is better than a baseline where the low end of the difference is above 0",
    "untrained: of the same recipe; statistics: of the image; RCF: random convolutional features",
)


@dataclass(frozen=True)
class Report:
    """Attributes:
    tables: as they are printed.
    content: the rows, by what they are.
    about: the protocol.
    """

    tables: Sequence[Table]
    content: Mapping[str, Sequence[Mapping[str, Value]]]
    about: Mapping[str, object]

    def text(self) -> str:
        return "\n\n".join(table.text().rstrip() for table in self.tables)

    def facts(self) -> dict[str, object]:
        """All of it, as JSON holds it."""
        return {"title": self.tables[0].title, **self.content, "notes": list(self.tables[0].notes), **self.about}


def report_of(name: str, found: Sequence[Found], options: ProbeOptions) -> Report:
    """The report of what `probe_encoders` gave."""
    rows = [{"step": each.step, "seed": each.seed, **row} for each in found for row in each.rows]
    ranks = [{"step": each.step, "seed": each.seed, **row} for each in found for row in each.diagnostics]
    notes = list(dict.fromkeys([*_READING, *map(_parts, found), *(note for each in found for note in each.notes)]))
    keys = _varying(rows)
    gained = [row for row in rows if "over_untrained_gain" in row]
    # All of them are rows of the encoder.
    gain_keys = [column for column in keys if column.key != "features"]
    first = [column for column in keys if column.key in {"step", "seed"}]
    tables = [
        Table(f"mmae probe {name}", [*keys, *_SCORES], rows, notes, len(keys)),
        *(
            Table(f"the encoder is better than {told} by", [*gain_keys, *_gains(baseline)], gained, (), len(gain_keys))
            for baseline, told in _BASELINES.items()
        ),
        Table("what validation chose", [*keys, *_CHOICES], [row for row in rows if "setting" in row], (), len(keys)),
        Table("diagnostics of tiles' vectors", [*first, *_DIAGNOSTICS], ranks, (), len(first) + 2),
    ]
    content: dict[str, Sequence[Mapping[str, Value]]] = {"rows": rows, "diagnostics": ranks}
    if len(options.seeds) > 1:
        tables.append(_over_seeds(rows, keys))
        content["seeds"] = tables[-1].rows
    about = {"splits": options.splits, "block_km": options.block_km, "gap_km": options.gap_km, "k": options.protocol.k,
             "folds": options.protocol.folds, "parts": [dict(each.counts) for each in found]}  # fmt: skip
    return Report(tables, content, about)


def _gains(baseline: str) -> tuple[Column, ...]:
    """A difference of scores in favour of the encoder, and its interval."""
    names = {"gain": "difference", "low": "low", "high": "high"}
    return (Column("metric", "metric"),
            *(Column(f"over_{baseline}_{key}", told, "{:+.3g}") for key, told in names.items()))  # fmt: skip


def _varying(rows: Sequence[Mapping[str, Value]]) -> list[Column]:
    """The columns that tell rows apart: without those that are the same in all."""
    always = {"task", "method", "features"}
    return [column for column in _KEYS if column.key in always or len({row.get(column.key) for row in rows}) > 1]


def _over_seeds(rows: Sequence[Mapping[str, Value]], keys: Sequence[Column]) -> Table:
    """Mean and spread of each score over the seeds."""
    names = [column for column in keys if column.key != "seed"]
    scores: dict[tuple[Value, ...], list[float]] = {}
    for row in rows:
        score = row.get("score")
        if isinstance(score, int | float):
            scores.setdefault(tuple(row.get(column.key) for column in names), []).append(float(score))
    spread: list[Mapping[str, Value]] = [
        {
            **dict(zip((column.key for column in names), key, strict=True)),
            "mean": float(np.mean(values)),
            "deviation": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            "seeds": len(values),
        }
        for key, values in scores.items()
    ]
    columns = (Column("mean", "mean", "{:.4g}"), Column("deviation", "deviation", "{:.3g}"), Column("seeds", "seeds"))
    return Table("over seeds", [*names, *columns], spread, (), len(names))


def _parts(found: Found) -> str:
    told = ", ".join(f"{count} {part}" for part, count in found.counts.items())
    return f"tiles (seed {found.seed}): {told}"
