"""Workers and parts: the same bytes whoever packs them, and one line where something goes wrong."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import xxhash

from data_tools.repack.command import EXIT_INTERRUPTED, Options, repack, repack_part
from data_tools.repack.part_lock import Part, part_lock
from data_tools.source.chunks import find_places
from mmae.disk import files
from mmae.errors import InputError

Damage = Callable[..., None]


def hashes(folder: Path) -> dict[str, str]:
    """Of every file, hidden ones too."""
    return {path.name: xxhash.xxh3_128_hexdigest(path.read_bytes()) for path in folder.iterdir()}


@pytest.fixture
def whole(source: Path, tmp_path: Path) -> dict[str, str]:
    repack(source, tmp_path / "whole", tiles_per_shard=2)
    return hashes(tmp_path / "whole")


@pytest.mark.process
@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers(source: Path, tmp_path: Path, whole: dict[str, str], workers: int) -> None:
    repack(source, tmp_path / "out", tiles_per_shard=2, workers=workers)
    assert hashes(tmp_path / "out") == whole


@pytest.mark.process
def test_real_tiles_by_workers_and_parts(shared: Path, tmp_path: Path) -> None:
    source = shared / "mini_mmearth" / "data_1M_v001_64"
    for workers in (1, 2):
        repack(source, tmp_path / f"{workers}", tiles_per_shard=70, workers=workers)
    for number in (2, 1):
        repack_part(source, tmp_path / "parts", Part(number, 2), Options(tiles_per_shard=70))
    assert hashes(tmp_path / "1") == hashes(tmp_path / "2") == hashes(tmp_path / "parts")


@pytest.mark.long
@pytest.mark.parametrize("order", [(1,), *permutations((1, 2)), (2, 3, 1), (3, 2, 1), tuple(range(9, 0, -1))], ids=str)
def test_any_number_of_parts(source: Path, tmp_path: Path, whole: dict[str, str], order: tuple[int, ...]) -> None:
    out = tmp_path / "out"
    for number in order[:-1]:
        assert repack_part(source, out, Part(number, len(order)), Options(tiles_per_shard=2)) is None
        assert not (out / "index.json").exists()
    index = repack_part(source, out, Part(order[-1], len(order)), Options(tiles_per_shard=2))
    assert index is not None
    assert hashes(out) == whole


@pytest.mark.process
def test_parts_at_once(source: Path, tmp_path: Path, whole: dict[str, str]) -> None:
    for attempt in range(3):
        out = tmp_path / f"out{attempt}"
        command = [sys.executable, "-m", "mmae", "repack", str(source), str(out), "--tiles-per-shard", "2", "--part"]
        runs = [
            subprocess.Popen([*command, f"{number}/3", "--workers", "2"], stderr=subprocess.PIPE)
            for number in (1, 2, 3)
        ]
        for run in runs:
            _, errors = run.communicate()
            assert (run.returncode, errors) == (0, b"")
        assert hashes(out) == whole


@pytest.mark.long
def test_parts_that_finish_at_once_write_the_same_index(source: Path, tmp_path: Path, whole: dict[str, str]) -> None:
    """Even without locks: all have packed, then all try to write the index."""
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_tools.repack.pipeline._complete", lambda *_: None)
        for number in (1, 2, 3):
            repack_part(source, out, Part(number, 3), Options(tiles_per_shard=2))

    found: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", _no_locks)

        def finish() -> None:
            found.append(repack_part(source, out, Part(2, 3), Options(tiles_per_shard=2)))

        threads = [threading.Thread(target=finish) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 4
    assert all(index is not None for index in found)
    assert hashes(out) == whole


def test_a_set_that_another_finishes_meanwhile_is_no_error(
    source: Path, tmp_path: Path, whole: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without locks, the part that finishes the set removes what this one is writing."""
    out, options = tmp_path / "out", Options(tiles_per_shard=2)
    take_name = files._take_name
    monkeypatch.setattr(fcntl, "flock", _no_locks)

    def finished_first(temporary: Path, path: Path, replace: bool) -> None:
        monkeypatch.setattr(files, "_take_name", take_name)
        assert repack_part(source, out, Part(), options) is not None
        take_name(temporary, path, replace)

    for name in (".repack.json", ".val-000001.npz", "val-000001.tar"):
        taken = partial(lambda name, *each: (finished_first if each[1].name == name else take_name)(*each), name)
        monkeypatch.setattr(files, "_take_name", taken)
        assert repack_part(source, out, Part(), options) is not None
        assert files._take_name is take_name
        assert hashes(out) == whole
        shutil.rmtree(out)


def _no_locks(*_: Any) -> None:
    raise OSError(38, "Function not implemented")


def test_a_part_goes_on_where_it_stopped(source: Path, tmp_path: Path, whole: dict[str, str]) -> None:
    out = tmp_path / "out"
    repack_part(source, out, Part(1, 2), Options(tiles_per_shard=2))
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    repack(source, out, tiles_per_shard=2)
    assert before.items() <= {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}.items()
    assert hashes(out) == whole


def test_the_same_part_twice_at_once_is_refused(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    repack_part(source, out, Part(1, 2), Options(tiles_per_shard=2))
    with part_lock(out, Part(2, 2)):
        for part in (Part(2, 2), Part(), Part(2, 3)):
            with pytest.raises(InputError, match=r"another mmae repack is writing part 2/2 there") as caught:
                repack_part(source, out, part, Options(tiles_per_shard=2))
            assert "\n" not in str(caught.value)


def test_temporaries_of_other_parts_are_not_touched(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    repack_part(source, out, Part(1, 3), Options(tiles_per_shard=2))
    names = [f".train-00000{number}.{kind}.1-ab.tmp" for number in (1, 2) for kind in ("tar", "npz")]
    for name in names:
        (out / name).touch()
    with part_lock(out, Part(3, 3)):
        repack_part(source, out, Part(2, 3), Options(tiles_per_shard=2))
        assert [name for name in names if (out / name).exists()] == names[2:]
    repack_part(source, out, Part(2, 3), Options(tiles_per_shard=2))
    assert not list(out.glob(".*.tmp")), "nobody else is at work"


def test_a_part_of_no_shards(source: Path, tmp_path: Path, whole: dict[str, str]) -> None:
    out = tmp_path / "out"
    assert repack_part(source, out, Part(9, 9), Options(tiles_per_shard=2)) is None
    repack(source, out, tiles_per_shard=2)
    assert hashes(out) == whole


@pytest.mark.process
def test_lost_tiles_do_not_depend_on_who_packs(damage: Damage, source: Path, tmp_path: Path) -> None:
    for dataset, row in (("sentinel2", 1), ("aster", 2), ("month", 2), ("esa_worldcover", 10)):
        damage(source, dataset, row)
    first = repack(source, tmp_path / "a", tiles_per_shard=2, on_error="skip")
    assert [(loss.row, loss.tile_id, loss.dataset) for loss in first.losses] == [
        (1, "tile_0_l2a", "sentinel2"),
        (2, "tile_1_l1c", "aster"),
        (10, "tile_5_l1c", "esa_worldcover"),
    ]
    assert sorted(first.row.tolist()) == [0, 3, 4, 5, 6, 7, 8, 9, 11]
    assert sum(shard.tiles for shard in first.shards) == 9
    repack(source, tmp_path / "b", tiles_per_shard=2, on_error="skip", workers=2)
    for number in (2, 1):
        repack_part(source, tmp_path / "c", Part(number, 2), Options(tiles_per_shard=2, on_error="skip"))
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b") == hashes(tmp_path / "c")


@pytest.mark.process
def test_skipping_after_an_error(
    damage: Damage, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(source, "aster", 2)
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"row 2 \(tile tile_1_l1c\) of aster cannot be read"):
        repack(source, out, tiles_per_shard=2, workers=2)
    assert not list(out.glob(".*.tmp"))
    repack(source, out, tiles_per_shard=2, on_error="skip")
    said = capsys.readouterr().out
    assert "1 tile could not be read, left out" in said
    assert "row 2 (tile tile_1_l1c) of aster cannot be read" in said
    assert "in no split" not in said


def test_a_shard_without_any_tile(damage: Damage, source: Path, tmp_path: Path) -> None:
    for row in range(12):
        damage(source, "aster", row)
    with pytest.raises(InputError, match="no tile can be read: download"):
        repack(source, tmp_path / "none", on_error="skip")
    index = repack(source, tmp_path / "out", on_error="skip", datasets=["sentinel2", "esa_worldcover"])
    assert len(index) == 12


def test_one_empty_shard(damage: Damage, source: Path, tmp_path: Path) -> None:
    for row in range(6):
        damage(source, "aster", row)
    index = repack(source, tmp_path / "out", on_error="skip")
    assert [shard.tiles for shard in index.shards] == [0, 6]
    assert len(index.losses) == 6


@pytest.mark.process
def test_no_room_is_one_line(source: Path, tmp_path: Path) -> None:
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); "
        "from mmae.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    for workers in ("1", "2"):
        out = tmp_path / workers
        command = [sys.executable, "-c", code, "repack", str(source), str(out), "--workers", workers]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert run.returncode == 2
        assert run.stderr.startswith("mmae: error: ")
        assert "cannot be written (File too large): make room or get access" in run.stderr
        assert len(run.stderr.splitlines()) == 1
        assert not [name for name in hashes(out) if not name.startswith(".") or name.endswith(".tmp")]


# It never comes to its end: the interrupt does not come too late.
ENDLESS = """
import sys, threading
from data_tools.repack import pipeline
from mmae.cli import main
pipeline._complete = lambda *_: threading.Event().wait()
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.process
@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_interrupt_is_quiet(shared: Path, tmp_path: Path, workers: str) -> None:
    source, out = shared / "mini_mmearth" / "data_1M_v001_64", tmp_path / "out"
    command = [sys.executable, "-c", ENDLESS, "repack", str(source), str(out), "--tiles-per-shard", "1"]
    run = subprocess.Popen(
        [*command, "--workers", workers], stderr=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 300
    while not list(out.glob("*.tar")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(run.pid, signal.SIGINT)
    said, errors = run.communicate(timeout=120)
    assert run.returncode == EXIT_INTERRUPTED
    assert errors.decode().split("\n")[1:] == [
        f"mmae: interrupted; whole shards are kept in {out}, the same command goes on",
        "",
    ]
    assert said == b""
    assert not list(out.glob(".*.tmp"))


def test_hdf5_reads_what_cannot_be_read_by_place(
    source: Path, tmp_path: Path, whole: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def some(opened: Any, workers: int) -> Any:
        storage, chunks = find_places(opened)
        return {"aster": storage["aster"]}, {"aster": chunks["aster"]}

    monkeypatch.setattr("data_tools.repack.pipeline.find_places", some)
    repack(source, tmp_path / "out", tiles_per_shard=2)
    assert hashes(tmp_path / "out") == whole
