from __future__ import annotations

import multiprocessing
import operator
import os
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data_tools.source.dataset import open_source
from mmae.bench.clock import Speed, Stopwatch
from mmae.bench.in_parallel import together
from mmae.bench.runner import Result, measure_all
from mmae.bench.speeds import speed_rows
from mmae.errors import InputError

pytestmark = pytest.mark.process


def way(measure: Any) -> Any:
    """A way of parts that another process can import."""
    return SimpleNamespace(measure=measure)


def scaled(speed: float, processes: int) -> Speed:
    return Speed(speed * processes, 5.0 * processes)


def test_each_way_is_measured_by_one_and_by_many(capsys: pytest.CaptureFixture[str]) -> None:
    ways = {"a": way(partial(scaled, 100.0)), "b c": way(partial(scaled, 10.0))}
    results = measure_all(ways, 3, 2)
    assert all(result.cpu_us == 5 * key[1] for key, result in results.items())
    assert {key: result.tiles_per_s for key, result in results.items()} == {
        ("a", 1): 100,
        ("b c", 1): 10,
        ("a", 3): 300,
        ("b c", 3): 30,
    }
    assert [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()] == ["a", "b c"] * 4
    rows = speed_rows(results, [("a", ""), ("b", "c")], 3, "a")
    assert [(row["way"], row["codec"], row["processes"], row["of_h5py"]) for row in rows] == [
        ("a", None, 1, 1),
        ("b", "c", 1, 0.1),
        ("a", None, 3, 1),
        ("b", "c", 3, 0.1),
    ]
    assert all(row["of_limit"] is row["of_limit_cpu"] is None for row in rows)
    against = speed_rows(
        {("a", 1): Result(9, 40, None), ("limit", 1): Result(10, 30, None)}, [("a", ""), ("limit", "")], 1, "a"
    )
    assert [(row["of_limit"], row["cpu_us"], row["of_limit_cpu"]) for row in against] == [
        (0.9, 40, 0.75),
        (None, 30, None),
    ]


def test_one_process_is_measured_once() -> None:
    assert set(measure_all({"a": way(partial(scaled, 1.0))}, 1, 1, progress=False)) == {("a", 1)}


def test_bad_input_in_a_way_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        measure_all({"a": way(partial(open_source, tmp_path / "absent"))}, 1, 1, progress=False)


def test_an_unexpected_error_in_a_way_shows_its_traceback() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)^b: Traceback.*TypeError"):
        measure_all({"a": way(partial(scaled, 1.0)), "b": way(partial(operator.rshift, 1.0))}, 1, 1, progress=False)


def test_a_way_that_dies_is_named() -> None:
    with pytest.raises(InputError, match=r"the process of 'b' ended \(1\)"):
        measure_all({"b": way(os._exit)}, 1, 1, progress=False)


def test_processes_together_add_up_and_a_tile_takes_what_it_takes() -> None:
    assert together(lambda: Speed(2.5, 7.0), 1) == Speed(2.5, 7.0)
    assert together(lambda: Speed(2.5, 7.0), 3) == Speed(7.5, 7.0)


def test_processor_time_counts_children_that_live_and_that_ended() -> None:
    watch = Stopwatch()
    for ends in (True, False):
        ours, theirs = multiprocessing.Pipe()
        child = multiprocessing.get_context("fork").Process(target=busy, args=(theirs, ends), daemon=True)
        child.start()
        ours.recv()
        if ends:
            child.join()
        # One tile, so that its time is the whole time.
        assert watch.speed(1).cpu_us > (0.2 if ends else 0.4) * 1e6 * 0.9
    child.kill()


def busy(told: Any, ends: bool) -> None:
    while time.process_time() < 0.2:
        pass
    told.send(None)
    if not ends:
        time.sleep(1000)
