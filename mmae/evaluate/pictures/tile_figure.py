"""The picture of a tile for people: a row for each modality, in real units. It needs matplotlib.

Every length is in pixels of the PNG.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from mmae.evaluate.pictures import cells
from mmae.evaluate.pictures.canvas import Canvas
from mmae.evaluate.pictures.cells import Ramp
from mmae.evaluate.pictures.colours import LEGENDS
from mmae.evaluate.pictures.tile_rows import TileRow
from mmae.modalities import NORM_RGB

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_CELL, _GAP = 168, 8
_LEFT, _KEY, _TOP, _BOTTOM = 184, 236, 92, 40
_ERROR_KEY: Final = 128
"""Where the scale of errors stands in the key; numbers of six digits have place before it."""
_MODEL_LINE: Final = 24
_LINE: Final = 16
METRES: Final = 10.0
"""Metres of a pixel of MMEarth's image grid."""
_MOST_CLASSES: Final = 8
"""Lines that a legend has place for."""

_HEADINGS: Final = MappingProxyType(
    {
        "input": "input",
        "visible": "what the model sees",
        "prediction": "prediction",
        "target": "target",
        "error": "error",
    }
)
_LOSSES: Final = MappingProxyType({"mse": "squared error", "l1": "absolute error", "cross_entropy": "cross-entropy"})


@dataclass(frozen=True, eq=False)
class ModelRows:
    """One model's rows of a tile.

    Attributes:
        name: heads the model's columns where several models are drawn.
        metres: of the ground, along a side of a pixel of the model's images.
    """

    name: str
    rows: Sequence[TileRow]
    metres: float = METRES


@dataclass(frozen=True, eq=False)
class _Row:
    """A row of the picture: the same output of all models; None for a model without it."""

    of_models: Sequence[TileRow | None]
    ramp: Ramp | None
    most_error: float

    @property
    def there(self) -> list[TileRow]:
        return [each for each in self.of_models if each is not None]


def draw_tile(title: str, models: Sequence[ModelRows], about: str = "") -> Figure:
    """The figure of one tile: input, what the model sees, prediction, target and error for each output.

    With several models the target comes once, and each model has its own columns, with its losses below them.

    Args:
        title: tile id, place and date.
        models: at least one; they have seen the same tile.
        about: a line below the title.
    """
    outputs = list(dict.fromkeys(row.output for model in models for row in model.rows))
    columns = _columns(models)
    head = _TOP + (_MODEL_LINE if len(models) > 1 else 0)
    step = _CELL + _GAP + (_LINE if len(models) > 1 else 0)
    height = head + len(outputs) * step + _BOTTOM
    page = Canvas(_x(len(columns)) + _KEY, height)
    page.text(12, 24, title, size=16, bold=True)
    page.text(12, 48, " · ".join(filter(None, [models[0].name if len(models) == 1 else "", about])))
    for number, (kind, model) in enumerate(columns):
        page.text(_x(number), head - 14, _HEADINGS[kind], size=13)
        if len(models) > 1 and kind == "prediction":
            page.text(_x(number), head - 14 - _MODEL_LINE, models[model].name, size=13, bold=True)
    for number, output in enumerate(outputs):
        row = _gathered([next((each for each in model.rows if each.output == output), None) for model in models])
        y = head + number * step
        _draw_row(page, y, columns, row)
        if number == 0:
            _length_bar(page, _x(0), y, row.there[0], models[0].metres)
    _footer(page, height - _BOTTOM + 8)
    return page.figure


def save_figure(figure: Figure, file: IO[bytes], kind: str) -> None:
    """Write a figure as `png`, `svg` or `pdf`; the same figure gives the same bytes."""
    import matplotlib

    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    # Text stays text in an SVG, so that it can be searched.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mmae"}):
        figure.savefig(file, format=kind, metadata=dates)


def _columns(models: Sequence[ModelRows]) -> list[tuple[str, int]]:
    """Kind and model of each column. Where all models see the same patches, these are shown once."""
    if len(models) == 1:
        return [(kind, 0) for kind in _HEADINGS]
    same = all(_same_visible(models[0], other) for other in models[1:])
    once = ("input", "visible", "target") if same else ("input", "target")
    each = ("prediction", "error") if same else ("prediction", "visible", "error")
    return [(kind, 0) for kind in once] + [(kind, number) for number in range(len(models)) for kind in each]


def _same_visible(one: ModelRows, other: ModelRows) -> bool:
    seen = [{row.modality.name: row.visible for row in model.rows if row.visible is not None} for model in (one, other)]
    return seen[0].keys() == seen[1].keys() and all(np.array_equal(seen[0][name], seen[1][name]) for name in seen[0])


def _gathered(of_models: Sequence[TileRow | None]) -> _Row:
    there = [each for each in of_models if each is not None]
    ramp = None if there[0].modality.categorical else Ramp.of(there[0])
    scored = np.concatenate([each.errors()[..., each.scored].ravel() for each in there])
    # One scale for all models; single pixels must not decide it.
    most = max(float(np.percentile(scored, 98)), 1e-12) if scored.size and ramp else 1.0
    return _Row(of_models, ramp, most)


def _draw_row(page: Canvas, y: float, columns: Sequence[tuple[str, int]], row: _Row) -> None:
    _label(page, y, row)
    for number, (kind, model) in enumerate(columns):
        x = _x(number)
        if kind == "prediction" and len(row.of_models) > 1 and (of_model := row.of_models[model]) is not None:
            page.text(x, y + _CELL + 12, _short_facts(of_model))
        each = row.of_models[model] or (row.there[0] if kind in {"input", "target"} else None)
        if each is None or (kind in {"input", "visible"} and each.visible is None):
            page.box(x, y, _CELL, _CELL, fill="#f4f4f4")
            what = "output" if each is None else "input"
            page.text(x + _CELL / 2, y + _CELL / 2, f"not an {what}\nof this model", centre=True)
            continue
        page.image(x, y, _CELL, _CELL, _cell(kind, each, row))
        page.box(x, y, _CELL, _CELL)
        if each.modality.categorical and kind in {"input", "prediction", "target"}:
            _mark_classes(page, x, y, each, _shown(kind, each))
    x = _x(len(columns)) + 4
    if row.ramp is None:
        _class_key(page, x, y, row.there)
    else:
        most = row.most_error if any(each.scored.any() for each in row.there) else None
        _value_key(page, x, y, row.there[0], row.ramp, most)


def _shown(kind: str, row: TileRow) -> NDArray[Any]:
    return row.predicted if kind == "prediction" else row.target


def _cell(kind: str, each: TileRow, row: _Row) -> NDArray[np.uint8]:
    if kind == "error":
        return cells.error_cell(each, row.most_error)
    # A prediction covers every pixel, also where there is no data to compare it with.
    has_data = np.ones_like(each.has_data) if kind == "prediction" else each.has_data
    values = _shown(kind, each)
    if row.ramp is None:
        cell = cells.class_cell(values, each.modality, has_data)
    else:
        cell = cells.value_cell(values, row.ramp, has_data)
    return cells.hide_patches(cell, each.visible) if kind == "visible" and each.visible is not None else cell


def _mark_classes(page: Canvas, x: float, y: float, row: TileRow, ids_hw: NDArray[np.int64]) -> None:
    side = _CELL / ids_hw.shape[0]
    for each, at_row, at_column in cells.class_marks(ids_hw):
        if each != row.modality.no_data_class:
            page.text(x + (at_column + 0.5) * side, y + (at_row + 0.5) * side, str(each + 1), centre=True, halo=True)


def _label(page: Canvas, y: float, row: _Row) -> None:
    first = row.there[0]
    title = f"{first.modality.title}, patches normalised" if first.output == NORM_RGB else first.modality.title
    lines = textwrap.wrap(title, 21)
    page.text(12, y + 2, "\n".join(lines), size=13, bold=True, top=True)
    alone = [_facts(first)] if len(row.of_models) == 1 else [f"loss: {_LOSSES[first.modality.loss]}"]
    facts = [first.output, *alone]
    page.text(12, y + 8 + 17 * len(lines), "\n".join(facts), top=True)


def _facts(row: TileRow) -> str:
    if row.loss is None:
        return "loss: nothing scored"
    error, lines = row.mean_error(), [f"loss {row.loss:.3g}", f"({_LOSSES[row.modality.loss]})"]
    if error is not None and row.modality.categorical:
        lines.append(f"{1 - error:.0%} of pixels right")
    elif error is not None:
        lines += textwrap.wrap(f"off by {_number(error)} {row.unit}", 24)
    return "\n".join(lines)


def _short_facts(row: TileRow) -> str:
    """Loss and error in one line, which stands below a model's prediction and error."""
    if row.loss is None:
        return "nothing scored"
    error = row.mean_error()
    if error is None:
        return f"loss {row.loss:.3g}"
    off = f"{1 - error:.0%} right" if row.modality.categorical else f"off by {_number(error)} {row.unit}"
    return f"loss {row.loss:.3g}, {off}"


def _length_bar(page: Canvas, x: float, y: float, row: TileRow, metres_of_pixel: float) -> None:
    """A bar of a round number of metres."""
    metres = row.target.shape[-1] * row.modality.stride * metres_of_pixel
    length = next(each for each in (1000, 500, 200, 100, 50, 20, 10) if each <= metres / 2 or each == 10)
    page.box(x + 8, y + _CELL - 13, _CELL * length / metres, 5, fill="white", edge="black")
    page.text(x + 8, y + _CELL - 23, f"{length} m", halo=True)


def _class_key(page: Canvas, x: float, y: float, rows: Sequence[TileRow]) -> None:
    """The legend of the classes that occur, most frequent ones first if there are too many."""
    modality = rows[0].modality
    ids = np.concatenate([rows[0].target.ravel(), *(row.predicted.ravel() for row in rows)])
    count_c = np.bincount(ids, minlength=modality.num_classes)[: modality.no_data_class]
    frequent = [each for each in np.argsort(-count_c, kind="stable")[:_MOST_CLASSES].tolist() if count_c[each]]
    for line, each in enumerate(sorted(frequent)):
        top = y + 2 + line * (_LINE + 2)
        page.box(x, top, 14, 12, fill=f"#{LEGENDS[modality.name][each]}")
        page.text(x + 20, top + 6, f"{each + 1} {modality.class_names[each]}")
    if not frequent:
        page.text(x, y + 8, "no class occurs")
    if any(row.scored.any() for row in rows):
        _error_colours(page, x, y + _CELL - 8)


def _error_colours(page: Canvas, x: float, middle: float) -> None:
    page.text(x, middle, "error")
    for place, colour, name in ((44, 0, "wrong"), (112, -1, "right")):
        page.image(x + place, middle - 6, 14, 12, cells.errors_bar()[[colour]])
        page.box(x + place, middle - 6, 14, 12)
        page.text(x + place + 20, middle, name)


def _value_key(page: Canvas, x: float, y: float, row: TileRow, ramp: Ramp, most: float | None) -> None:
    """The scale of values, and that of errors up to `most` where some are scored."""
    low_C, high_C = ramp.stretch.low_C.tolist(), ramp.stretch.high_C.tolist()
    if len(ramp.bands) == 1:
        page.text(x, y + 8, row.unit)
        _bar(page, x, y + 22, _CELL - 26, cells.values_bar(), low_C[0], high_C[0])
    else:
        lines = [
            f"{colour} {row.modality.band_names[band]}\n{_number(low)} to {_number(high)}"
            for colour, band, low, high in zip(ramp.names, ramp.bands, low_C, high_C, strict=True)
        ]
        page.text(x, y + 2, "\n".join([row.unit, *lines]), top=True)
    if most is not None:
        page.text(x + _ERROR_KEY, y + 8, "error" if len(row.unit) > 2 else f"error, {row.unit}")
        _bar(page, x + _ERROR_KEY, y + 22, _CELL - 26, cells.errors_bar(), 0, most)


def _bar(page: Canvas, x: float, y: float, height: float, bar: NDArray[np.uint8], low: float, high: float) -> None:
    """A colour bar with its two ends and its middle in numbers."""
    page.image(x, y, 14, height, bar)
    page.box(x, y, 14, height)
    for share in (0, 0.5, 1):
        page.text(x + 20, y + 6 + (height - 12) * (1 - share), _number(low + share * (high - low)))


def _footer(page: Canvas, y: float) -> None:
    samples = (
        (cells.no_data_sample, "no data"),
        (cells.hidden_sample, "hidden from the model"),
        (cells.unscored_sample, "not in the loss"),
    )
    x = float(_LEFT)
    for sample, name in samples:
        page.image(x, y, 28, 18, sample(36, 56))
        page.box(x, y, 28, 18)
        page.text(x + 36, y + 9, name)
        x += 64 + 8 * len(name)


def _x(column: int) -> int:
    return _LEFT + column * (_CELL + _GAP)


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
