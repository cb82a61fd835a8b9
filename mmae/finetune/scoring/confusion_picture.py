"""The confusion matrix for people: a table on the screen, and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mmae.disk.files import atomic_file
from mmae.terminal.table import Column, Table, Value

MOST_SHOWN: Final = 20
"""Classes with the most labels that are shown; log.jsonl and results.json hold all."""


def confusion_table(confusion_KK: Sequence[Sequence[int]], classes: Sequence[str]) -> Table:
    """A row a class of the labels, a column a class of the predictions, in per cent of the row."""
    shown = _shown(confusion_KK)
    columns = [Column("label", "label \\ prediction"), Column("count", "labels", "{:,}")]
    columns += [Column(str(place), _short(classes[place]), "{:.0f}") for place in shown]
    rows: list[dict[str, Value]] = []
    for place in shown:
        total = sum(confusion_KK[place])
        row: dict[str, Value] = {"label": _short(classes[place]), "count": total}
        row |= {str(other): 100 * confusion_KK[place][other] / total if total else None for other in shown}
        rows.append(row)
    left = len(classes) - len(shown)
    return Table(
        "confusion, % of a row", columns, rows, [f"{left} classes that occur less often are left out"] if left else []
    )


def write_confusion_picture(path: Path, confusion_KK: Sequence[Sequence[int]], classes: Sequence[str]) -> None:
    """Draw the matrix, each row in shares of its labels.

    Raises:
        OSError: the file cannot be written.
    """
    # The object-oriented interface: pyplot would keep figures, and look for a display.
    from matplotlib.figure import Figure

    shown = _shown(confusion_KK)
    names = [_short(classes[place]) for place in shown]
    share = [[confusion_KK[place][other] / max(1, sum(confusion_KK[place])) for other in shown] for place in shown]
    side = 2.5 + 0.45 * len(shown)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("prediction")
    axes.set_ylabel("label")
    for row, shares in enumerate(share):
        for column, each in enumerate(shares):
            if each >= 0.005:
                axes.text(
                    column, row, f"{100 * each:.0f}", ha="center", va="center", color="white" if each > 0.5 else "black"
                )
    figure.colorbar(image, label="share of the labels")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=100)


def _shown(confusion_KK: Sequence[Sequence[int]]) -> list[int]:
    """Classes that occur, the most frequent ones, in their order."""
    count = [sum(row) + sum(other[place] for other in confusion_KK) for place, row in enumerate(confusion_KK)]
    most = sorted((place for place, each in enumerate(count) if each), key=lambda place: -count[place])
    return sorted(most[:MOST_SHOWN])


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"
