from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xxhash

from data_tools.repack.command import add_arguments, repack, run
from data_tools.repack.part_lock import Part, part_lock
from data_tools.repack.tile_packer import TilePacker
from mmae.data.shards.codec import decode
from mmae.data.shards.index import open_index
from mmae.data.shards.reader import ShardReader
from mmae.errors import InputError

Make = Callable[..., Any]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_tile_comes_back(source: Path, tmp_path: Path) -> None:
    index = repack(source, tmp_path / "out", tiles_per_shard=4)
    assert [shard.name for shard in index.shards] == [
        "train-000000.tar",
        "train-000001.tar",
        "val-000000.tar",
        "val-000001.tar",
    ]
    assert index.splits == ("train", "val", "test")
    reader = ShardReader(index, list(index.datasets))
    with h5py.File(source) as file:
        for position in range(len(index)):
            tile = reader.read(position)
            for name, array in tile.arrays.items():
                original = file[name][tile.row]
                assert array.dtype == original.dtype
                assert array.tobytes() == original.tobytes()
    assert sorted(index.row[index.positions("train")]) == list(range(6))
    assert sorted(index.row[index.positions("val")]) == list(range(6, 12))
    assert index.date.tolist() == [20200630] * 12
    assert index.lat.tolist() == [row // 2 for row in index.row]
    assert index.biome.tolist() == [row % 14 for row in index.row]
    assert index.tile_id[index.row.argmin()] == b"tile_0_l1c"
    assert sorted(contents(tmp_path / "out")) == [
        "index.json",
        "index.npz",
        *(shard.name for shard in index.shards),
    ]


def test_bytes_follow_from_source_and_options(source: Path, tmp_path: Path) -> None:
    repack(source, tmp_path / "a")
    repack(source.parent, tmp_path / "b")
    repack(source, tmp_path / "c", seed=1)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a")["train-000000.tar"] != contents(tmp_path / "c")["train-000000.tar"]


def test_members_lie_where_the_index_says(source: Path, tmp_path: Path) -> None:
    index = repack(source, tmp_path / "out", datasets=["sentinel2", "era5", "aster"])
    with tarfile.open(tmp_path / "out" / "val-000000.tar") as tar:
        members = tar.getmembers()
    names = [f"{row:09d}.{end}" for row in index.row[6:] for end in ("sentinel2.b2", "aster.b2", "json")]
    assert [member.name for member in members] == names
    assert [member.offset for member in members[::3]] == index.offset[6:].tolist()
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o444)}


def test_each_member_has_its_checksum(source: Path, tmp_path: Path) -> None:
    index = repack(source, tmp_path / "out", tiles_per_shard=4)
    expected = np.zeros((12, len(index.datasets) + 1), np.uint32)
    columns = [f"{name}.b2" for name in index.datasets] + ["json"]
    for number, shard in enumerate(index.shards):
        content = (tmp_path / "out" / shard.name).read_bytes()
        with tarfile.open(tmp_path / "out" / shard.name) as tar:
            for member in tar:
                row, _, extension = member.name.partition(".")
                position = np.flatnonzero((index.shard == number) & (index.row == int(row)))
                end = member.offset_data + -(-member.size // 512) * 512
                digest = xxhash.xxh3_64_intdigest(content[member.offset : end])
                expected[position, columns.index(extension)] = digest % (1 << 32)
    assert index.checksum.tolist() == expected.tolist()
    assert ((index.checksum[:, :-1] != 0) == (index.size != 0)).all()
    assert not index.checksum[:, list(index.datasets).index("era5")].any(), "constant everywhere"


# webdataset leaves the file it reads to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_stock_webdataset_reads_the_shards(source: Path, tmp_path: Path) -> None:
    import webdataset

    index = repack(source, tmp_path / "out")
    files = str(tmp_path / "out" / "train-000000.tar")

    def decoder(key: str, data: bytes) -> Any:
        return decode(data) if key.endswith(".b2") else None

    samples = list(webdataset.WebDataset(files, shardshuffle=False).decode(decoder))
    assert len(samples) == 6
    with h5py.File(source) as file:
        for position, sample in enumerate(samples):
            row = int(index.row[position])
            assert sample["__key__"] == f"{row:09d}"
            assert np.array_equal(sample["sentinel2.b2"], file["sentinel2"][row])
            info = sample["json"]
            assert (info["row"], info["split"]) == (row, "train")
            assert info["s2_level"] == info["tile_info"]["S2_type"]
            dtype, shape, bits = info["constants"]["era5"]
            assert np.isnan(np.full(shape, np.frombuffer(bytes.fromhex(bits), dtype)[0])).all()


def test_info_is_standard_json(mmearth: Make, tmp_path: Path) -> None:
    data = mmearth()
    data.tile_info["tile_0_l1c"]["cloud"] = [float("nan"), float("inf"), 1.5]
    index = repack(data.write(tmp_path / "source"), tmp_path / "out")

    def fail(constant: str) -> None:
        raise AssertionError(constant)

    with tarfile.open(tmp_path / "out" / "train-000000.tar") as tar:
        member = tar.extractfile("000000000.json")
        assert member is not None
        assert json.loads(member.read(), parse_constant=fail)["tile_info"]["cloud"] == [None, None, 1.5]
    assert len(index) == 12


def test_a_plan_that_is_nested_deeply_is_one_line(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".repack.json").write_text('{"options":' * 200_000)
    with pytest.raises(InputError, match="not a plan of mmae repack"):
        repack(source, tmp_path / "out")


def test_an_entry_that_is_nested_deeply_is_skipped_or_one_line(mmearth: Make, tmp_path: Path) -> None:
    data = mmearth()
    path = data.write(tmp_path / "source")
    info = next((tmp_path / "source").glob("*_tile_info.json"))
    deep = '"deep": ' + "[" * 600 + "NaN" + "]" * 600
    info.write_text(info.read_text().replace('"tile_0_l1c": {', f'"tile_0_l1c": {{{deep}, ', 1))
    with pytest.raises(InputError, match=r"row 0 \(tile tile_0_l1c\) of tile_info cannot be read .* --on-error skip"):
        repack(path, tmp_path / "out")
    index = repack(path, tmp_path / "some", on_error="skip")
    assert [(loss.row, loss.dataset) for loss in index.losses] == [(0, "tile_info")]
    assert len(index) == 11


def test_one_tile(mmearth: Make, tmp_path: Path) -> None:
    data = mmearth(rows=2)
    data.splits = {"train": [1]}
    index = repack(data.write(tmp_path / "source"), tmp_path / "out")
    assert index.row.tolist() == [1]
    assert index.level.tolist() == [1]


def test_shards_are_fair_samples(mmearth: Make, tmp_path: Path) -> None:
    data = mmearth(rows=400, size=1)
    data.splits = {"train": list(range(400))}
    index = repack(data.write(tmp_path / "source"), tmp_path / "out", tiles_per_shard=100)
    for shard in range(4):
        assert 150 < index.row[index.shard == shard].mean() < 250


# --- val by place ---


def test_a_finished_set_is_left_alone(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    first = repack(source, out)
    times = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert repack(source, out).fingerprint == first.fingerprint
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == times
    assert "nothing to do" in capsys.readouterr().out


def test_an_index_is_read_once(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is hashed whole each time."""
    read: list[Path] = []

    def reading(folder: Path) -> Any:
        read.append(folder)
        return open_index(folder)

    for module in ("mmae.data.shards.index", "data_tools.repack.out_folder"):
        monkeypatch.setattr(f"{module}.open_index", reading)
    for _ in ("packed", "finished already"):
        repack(source, tmp_path / "out")
        assert read == [tmp_path / "out"]
        read.clear()


def test_what_a_late_kill_leaves_is_removed(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    repack(source, whole)
    with monkeypatch.context() as patch:
        patch.setattr("data_tools.repack.pipeline.finish", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            repack(source, out)
    assert (out / ".repack.json").exists()
    repack(source, out)
    assert contents(out) == contents(whole)


def test_other_sets_are_not_touched(mmearth: Make, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    repack(source, out)
    before = contents(out)
    with pytest.raises(InputError, match="packed with codec='small', not 'fast'"):
        repack(source, out, codec="fast")
    other = mmearth()
    other.arrays["aster"] += 1
    with pytest.raises(InputError, match="another data set"):
        repack(other.write(tmp_path / "other"), out)
    assert contents(out) == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="not empty"):
        repack(source, tmp_path / "full")
    with pytest.raises(InputError, match="is a file"):
        repack(source, source)
    (out / "val-000000.tar").unlink()
    with pytest.raises(InputError, match="missing or cut"):
        repack(source, out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codec": "smal"}, "did you mean 'small'"),
        ({"tiles_per_shard": 0}, "at least 1"),
        ({"seed": 1 << 63}, "64 bits"),
    ],
)
def test_options(source: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        repack(source, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_goes_on_after_an_error(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    repack(source, whole, tiles_per_shard=2)
    real, calls = TilePacker.pack, [0]

    def fails_at_the_sixth(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == 6:
            raise RuntimeError("stopped")
        return real(*args)

    monkeypatch.setattr(TilePacker, "pack", fails_at_the_sixth)
    with pytest.raises(RuntimeError, match="stopped"):
        repack(source, out, tiles_per_shard=2)
    kept = sorted(name for name in contents(out) if not name.startswith("."))
    assert kept == ["train-000000.tar", "train-000001.tar"]
    assert not [name for name in contents(out) if name.endswith(".tmp")]
    with pytest.raises(InputError, match="packed with tiles_per_shard=2, not 3"):
        repack(source, out, tiles_per_shard=3)
    calls[0] = 100
    repack(source, out, tiles_per_shard=2)
    assert calls[0] == 100 + 8, "whole shards are not packed again"
    assert contents(out) == contents(whole)


def test_a_cut_shard_of_an_unfinished_set_is_packed_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    repack(source, whole, tiles_per_shard=2)
    with monkeypatch.context() as patch:
        patch.setattr("data_tools.repack.build_index.write_index", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            repack(source, out, tiles_per_shard=2)
    path = out / "train-000001.tar"
    os.truncate(path, path.stat().st_size - 512)
    repack(source, out, tiles_per_shard=2)
    assert contents(out) == contents(whole)


def test_a_second_repack_is_refused(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with part_lock(out, Part()), pytest.raises(InputError, match="another mmae repack is writing the whole set"):
        repack(source, out)
    repack(source, out)
    assert not [name for name in contents(out) if name.startswith(".")]


def test_a_damaged_source_names_the_tile(source: Path, tmp_path: Path) -> None:
    with h5py.File(source) as file:
        chunk = file["sentinel2"].id.get_chunk_info(4)
    with source.open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(os.urandom(chunk.size))
    with pytest.raises(InputError, match=r"row 4 \(tile tile_2_l1c\) of sentinel2 cannot be read"):
        repack(source, tmp_path / "out")
    assert not [name for name in contents(tmp_path / "out") if not name.startswith(".") or name.endswith(".tmp")]


def test_a_full_disk_is_one_line(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left on device"):
        repack(source, tmp_path / "out")


@pytest.mark.process
def test_the_command(source: Path, tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = [str(source), str(tmp_path / "out"), "--codec", "fast", "--datasets", "aster, sentinel2", "--seed", "5"]
    assert run(parser.parse_args(args)) == 0
    assert (tmp_path / "out" / "index.json").exists()


@pytest.mark.process
def test_help_is_light() -> None:
    code = (
        "import sys; from data_tools.repack import command; from data_tools.verify import command; "
        "print([m for m in ('h5py', 'webdataset', 'blosc2', 'torch', 'numpy') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"[]"


def test_keywords_are_the_options() -> None:
    from dataclasses import fields

    from data_tools.repack.command import Options, _Keywords

    assert {field.name: field.type for field in fields(Options)} == {
        name: of.__forward_arg__ for name, of in _Keywords.__annotations__.items()
    }


def test_variables_that_change_the_bytes_are_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLOSC_CLEVEL", "9")
    with pytest.raises(InputError, match="BLOSC_CLEVEL=9: would change"):
        repack(source, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
