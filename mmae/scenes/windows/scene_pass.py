"""From windows to finished units of rasters: read, cut, prepared one batch ahead, computed, and blended."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from mmae.scenes.files.rasters import UNIT_ROWS, Raster, Unit
from mmae.scenes.windows.window_axis import WindowAxis
from mmae.scenes.windows.window_model import WindowModel

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from mmae.types import Inputs


class Reader(Protocol):
    """Reads a part of a scene."""

    def read(self, top: int, left: int, height: int, width: int) -> dict[str, NDArray[Any]]:
        """Dataset -> (C, H, W)."""


class Counter(Protocol):
    """Counts windows."""

    def add(self, tiles: int, read: int) -> None: ...


@dataclass(frozen=True)
class Windows:
    """The windows of a scene.

    Attributes:
        down, across: where they lie, in patches.
        patch: pixels of a side of a patch.
    """

    down: WindowAxis
    across: WindowAxis
    patch: int


@dataclass(frozen=True)
class _Batch:
    """Windows of one row of windows, those with any data: their numbers along the row, and the model's inputs.

    `inputs` is None where no window has data; `seen` windows were read, and `data_Bhw` says which patches hold data.
    """

    row: int
    numbers: tuple[int, ...]
    inputs: Inputs | None
    data_Bhw: NDArray[np.bool_]
    seen: int
    read: int


def finished_units(
    run: Sequence[Unit], windows: Windows, model: WindowModel, reader: Reader, batch: int, counter: Counter
) -> Iterator[tuple[Unit, dict[str, NDArray[Any]]]]:
    """The units of a run, one after the other, each with its rasters: name -> (bands, R, C).

    A unit is what all windows that touch it say, weighted; it does not depend on where runs begin and end.

    Args:
        run: units of one panel, from top to bottom without a gap.
        batch: the most windows that are computed at once.
    """
    sums = _Sums(model.rasters, windows, run[0])
    waiting = list(run)
    batches = _batches(run, windows, model, reader, batch)
    with closing(_one_ahead(batches)) as ahead:
        for each in ahead:
            while windows.down.starts[each.row] >= waiting[0].bottom:
                yield waiting[0], sums.take(waiting.pop(0), model)
            if each.inputs is not None:
                sums.add(each, model.run(each.inputs))
            counter.add(each.seen, each.read)
    for unit in waiting:
        yield unit, sums.take(unit, model)


class _Sums:
    """Weighted sums over windows, for the rows from the current unit's first to the end of windows that touch it.

    A window may say nothing, as NaN: the others then share its weight.
    """

    def __init__(self, rasters: Sequence[Raster], windows: Windows, first: Unit) -> None:
        self._rasters, self._windows = rasters, windows
        self._top, self._left = first.top, first.left
        rows, columns = UNIT_ROWS + windows.down.window, first.right - first.left
        self._data_RC = np.zeros((rows, columns), np.bool_)
        self._sums = [
            np.zeros((rows * raster.cells, columns * raster.cells, raster.channels), np.float32) for raster in rasters
        ]
        self._shares = [np.zeros(sums.shape[:2], np.float32) for sums in self._sums]

    def add(self, batch: _Batch, outputs: Sequence[NDArray[np.float32]]) -> None:
        down, across = self._windows.down, self._windows.across
        for place, number in enumerate(batch.numbers):
            start = (down.starts[batch.row] - self._top, across.starts[number] - self._left)
            there, here = _overlap(start, (down.window, across.window), self._data_RC.shape, 1)
            self._data_RC[there] |= batch.data_Bhw[place][here]
            for raster, sums_RCK, shares_RC, output in zip(
                self._rasters, self._sums, self._shares, outputs, strict=True
            ):
                if np.isnan(output[place]).all():
                    continue
                there, here = _overlap(start, (down.window, across.window), self._data_RC.shape, raster.cells)
                share_R, share_C = down.weights(batch.row, raster.cells), across.weights(number, raster.cells)
                share_RC = share_R[here[0], None] * share_C[here[1]]
                sums_RCK[there] += output[place][here] * share_RC[..., None]
                shares_RC[there] += share_RC

    def take(self, unit: Unit, model: WindowModel) -> dict[str, NDArray[Any]]:
        """The finished rasters of the current unit; its rows leave the sums."""
        rows = unit.bottom - unit.top
        found = {}
        for raster, sums_RCK, shares_RC in zip(self._rasters, self._sums, self._shares, strict=True):
            data_RC = self._data_RC[:rows].repeat(raster.cells, 0).repeat(raster.cells, 1)
            means_RCK, share_RC = sums_RCK[: rows * raster.cells], shares_RC[: rows * raster.cells]
            means_RCK /= np.where(share_RC > 0, share_RC, np.nan)[..., None]
            found[raster.name] = model.finish(raster, means_RCK, data_RC)
            _shift(sums_RCK, rows * raster.cells)
            _shift(shares_RC, rows * raster.cells)
        _shift(self._data_RC, rows)
        self._top = unit.bottom
        return found


def _overlap(
    start: tuple[int, int], size: tuple[int, int], shape: tuple[int, ...], cells: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a window lies in the sums, and which part of the window that is."""
    there, here = [], []
    for begin, length, limit in zip(start, size, shape, strict=True):
        first, last = max(begin, 0), min(begin + length, limit)
        there.append(slice(first * cells, last * cells))
        here.append(slice((first - begin) * cells, (last - begin) * cells))
    return (there[0], there[1]), (here[0], here[1])


def _shift(rows: NDArray[Any], by: int) -> None:
    rows[: len(rows) - by] = rows[by:].copy()
    rows[len(rows) - by :] = 0


def _batches(
    run: Sequence[Unit], windows: Windows, model: WindowModel, reader: Reader, most: int
) -> Generator[_Batch, None, None]:
    patch, down, across = windows.patch, windows.down, windows.across
    columns = across.touching(run[0].left, run[0].right)
    left = across.starts[columns[0]]
    width = across.starts[columns[-1]] + across.window - left
    for row in down.touching(run[0].top, run[-1].bottom):
        strip = reader.read(down.starts[row] * patch, left * patch, down.window * patch, width * patch)
        for first in range(columns[0], columns[-1] + 1, most):
            numbers = tuple(range(first, min(first + most, columns[-1] + 1)))
            corners = [(across.starts[number] - left) * patch for number in numbers]
            arrays = {name: cut(pixels, corners, across.window * patch) for name, pixels in strip.items()}
            read = sum(array.nbytes for array in strip.values()) if first == columns[0] else 0
            yield _prepared(row, numbers, arrays, model, (down.window, across.window), read)


def cut(pixels_CHW: NDArray[Any], corners: Sequence[int], width: int) -> NDArray[Any]:
    """Windows (B, C, H, width) of a strip as high as a window; `corners` are their first columns."""
    return np.stack([pixels_CHW[:, :, corner : corner + width] for corner in corners])


def _prepared(
    row: int,
    numbers: tuple[int, ...],
    arrays: Mapping[str, NDArray[Any]],
    model: WindowModel,
    window_hw: tuple[int, int],
    read: int,
) -> _Batch:
    inputs = model.prepare(arrays)
    data_BN = torch.stack(list(inputs.token_valid.values())).any(0)
    data_Bhw = data_BN.view(-1, *window_hw).cpu().numpy()
    full_B = np.asarray(data_Bhw.any(axis=(1, 2)))
    if full_B.all():
        return _Batch(row, numbers, inputs, data_Bhw, len(numbers), read)
    kept = [number for number, full in zip(numbers, full_B.tolist(), strict=True) if full]
    chosen = _chosen(inputs, torch.from_numpy(full_B)) if kept else None
    return _Batch(row, tuple(kept), chosen, data_Bhw[full_B], len(numbers), read)


def _chosen(inputs: Inputs, full_B: Tensor) -> Inputs:
    """Some windows of a batch."""
    full_B = full_B.to(inputs.real_B.device)
    parts = {
        field: {name: value[full_B] for name, value in getattr(inputs, field).items()}
        for field in ("values", "valid", "token_valid")
    }
    return type(inputs)(**parts, key_B=inputs.key_B[full_B], real_B=inputs.real_B[full_B])


def _one_ahead(items: Generator[_Batch, None, None]) -> Generator[_Batch, None, None]:
    """The same items; the next one is made in a thread while the caller works on this one."""
    with ThreadPoolExecutor(1) as thread, closing(items):
        waiting = thread.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = thread.submit(next, items, None)
            yield item
