from __future__ import annotations

import operator
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data_tools.source.dataset import open_source
from mmae.bench.in_parallel import summed
from mmae.bench.runner import measure_all
from mmae.bench.speeds import speed_rows
from mmae.errors import InputError

pytestmark = pytest.mark.process


def way(measure: Any) -> Any:
    """A way of parts that another process can import."""
    return SimpleNamespace(measure=measure)


def test_each_way_is_measured_by_one_and_by_many(capsys: pytest.CaptureFixture[str]) -> None:
    ways = {"a": way(partial(operator.mul, 100.0)), "b c": way(partial(operator.mul, 10.0))}
    results = measure_all(ways, 3, 2)
    assert {key: result.tiles_per_s for key, result in results.items()} == {
        ("a", 1): 100,
        ("b c", 1): 10,
        ("a", 3): 300,
        ("b c", 3): 30,
    }
    assert [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()] == ["a", "b c"] * 4
    rows = speed_rows(results, [("a", ""), ("b", "c")], 3, 2_000_000, "a")
    assert [(row["way"], row["codec"], row["processes"], row["mb_per_s"], row["of_h5py"]) for row in rows] == [
        ("a", None, 1, 200, 1),
        ("b", "c", 1, 20, 0.1),
        ("a", None, 3, 600, 1),
        ("b", "c", 3, 60, 0.1),
    ]
    assert all(row["of_limit"] is None for row in rows)


def test_one_process_is_measured_once() -> None:
    assert set(measure_all({"a": way(float)}, 1, 1, progress=False)) == {("a", 1)}


def test_bad_input_in_a_way_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        measure_all({"a": way(partial(open_source, tmp_path / "absent"))}, 1, 1, progress=False)


def test_an_unexpected_error_in_a_way_shows_its_traceback() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)^b: Traceback.*TypeError"):
        measure_all({"a": way(float), "b": way(partial(operator.rshift, 1.0))}, 1, 1, progress=False)


def test_a_way_that_dies_is_named() -> None:
    with pytest.raises(InputError, match=r"the process of 'b' ended \(1\)"):
        measure_all({"b": way(os._exit)}, 1, 1, progress=False)


def test_processes_together_add_up() -> None:
    assert summed(lambda: 2.5, 1) == 2.5
    assert summed(lambda: 2.5, 3) == 7.5
