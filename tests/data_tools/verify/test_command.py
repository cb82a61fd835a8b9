from __future__ import annotations

import argparse
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_tools.repack.command import repack
from data_tools.verify.check_set import tell, verify
from data_tools.verify.command import add_arguments, run
from data_tools.verify.differences import LISTED
from mmae.data.shards.index import Index, open_index
from mmae.data.shards.tar_layout import extents
from mmae.errors import InputError
from tests.support.shard_differences import damage_source, flip, found

Make = Callable[..., Any]
SHARD = "train-000000.tar"


def test_a_sound_set(packed: Path, source: Path) -> None:
    for against in (None, source, source.parent):
        report = verify(packed, against)
        assert (report.tiles, report.shards, report.differences) == (12, 4, [])


def test_an_entry_of_the_source_that_is_nested_deeply_is_a_difference(packed: Path, source: Path) -> None:
    path = next(source.parent.glob("*_tile_info.json"))
    deep = '"deep": ' + "[" * 600 + "]" * 600
    path.write_text(path.read_text().replace('"tile_0_l1c": {', f'"tile_0_l1c": {{{deep}, ', 1))
    (difference,) = verify(packed, source).differences
    assert difference.what == "tile_info of the source cannot be compared (it is nested too deeply)"


@pytest.mark.long
@pytest.mark.parametrize("name", ["data_1M_v001_64", "data_100k_v001"])
def test_real_tiles(shared: Path, tmp_path: Path, name: str) -> None:
    source = shared / "mini_mmearth" / name
    index = repack(source, tmp_path / "out", tiles_per_shard=100)
    report = verify(tmp_path / "out", source)
    assert report.tiles == len(index) > 0
    assert report.differences == []
    assert sum(shard.bytes for shard in index.shards) < next(source.glob("*.h5")).stat().st_size


def test_real_places_stay_apart(shared: Path, tmp_path: Path) -> None:
    import json
    import shutil

    source = tmp_path / "source"
    shutil.copytree(shared / "mini_mmearth" / "data_100k_v001", source)
    path = source / "data_100k_v001_splits.json"
    path.chmod(0o644)
    splits = json.loads(path.read_text())
    path.write_text(json.dumps({"train": splits["train"] + splits["val"], "val": [], "test": []}))
    index = repack(source, tmp_path / "out", val_fraction=0.2, datasets=["esa_worldcover"])
    assert verify(tmp_path / "out", source).differences == []
    train, val = index.positions("train"), index.positions("val")
    assert len(val) == 8
    north = (index.lat[val][:, None] - index.lat[train]) * 111.2
    east = (index.lon[val][:, None] - index.lon[train]) * 111.2 * np.cos(np.radians(index.lat[train]))
    assert np.hypot(north, east).min() > 2


def test_a_flipped_bit_names_shard_and_row(packed: Path) -> None:
    index = open_index(packed)
    flip(packed, index, 1, 512 + 6)
    lines = found(packed)
    row = int(index.row[1])
    assert f"{SHARD}: the file's hash differs" in lines
    assert any(line.startswith(f"{SHARD}, row {row}, sentinel2: ") for line in lines)
    assert all(SHARD in line for line in lines)


def member_extents(index: Index, position: int) -> dict[str, tuple[int, int]]:
    """Member -> first byte, counted from where the tile begins, and length."""
    names = [*index.datasets, "json"]
    found = extents(index.size[position].tolist(), int(index.info_size[position]))
    return {names[column]: (start, length) for column, start, length in found}


@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("member", ["sentinel2", "month", "json"])
@pytest.mark.parametrize("place", [3, 511, 514, -1], ids=["name", "header", "payload", "padding"])
def test_a_flipped_bit_names_the_member(packed: Path, position: int, member: str, place: int) -> None:
    index = open_index(packed)
    start, length = member_extents(index, position)[member]
    flip(packed, index, position, start + place % length)
    lines = [line for line in found(packed) if "the checksum of" in line]
    at = int(index.offset[position]) + start
    where = f"{SHARD}, row {index.row[position]}, {member}"
    assert len(lines) == 1
    assert lines[0].startswith(f"{where}: the checksum of its {length} bytes from {at} on differs")


def test_a_flipped_bit_behind_the_last_tile(packed: Path) -> None:
    path = packed / SHARD
    content = bytearray(path.read_bytes())
    content[-1] ^= 4
    path.write_bytes(content)
    lines = found(packed)
    assert lines[0] == f"{SHARD}: the file's hash differs"
    assert "what follows its last tile" in lines[1]
    assert len(lines) == 2


@pytest.mark.parametrize("place", [3, 130, 150, 156, 300], ids=["name", "size", "checksum", "type", "reserved"])
def test_a_damaged_tar_header_is_told_of_in_few_lines(packed: Path, place: int) -> None:
    flip(packed, open_index(packed), 1, place)
    report = verify(packed)
    lines = [str(difference) for difference in report.differences]
    assert len(lines) == report.count <= 5
    assert lines[0] == f"{SHARD}: the file's hash differs"
    assert sum("the checksum of" in line for line in lines) == 1
    assert report.damaged == [0]


def test_all_differences_are_counted_and_the_first_listed(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = packed / SHARD
    path.write_bytes(bytes(512) + path.read_bytes()[:-512])
    index = open_index(packed)
    members = sum(len(member_extents(index, position)) for position in range(3))
    report = verify(packed)
    assert report.count >= members
    assert len(report.differences) == LISTED
    tell(report, None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[LISTED] == f"{SHARD}: ... and {report.count - LISTED} more"
    assert lines[-1] == f"checked 12 tiles in 4 shards: {report.count} differences"
    assert len(lines) == LISTED + 2


@pytest.mark.parametrize("left", [0, 700, 0.5])
def test_a_cut_shard(packed: Path, left: float) -> None:
    path = packed / SHARD
    os.truncate(path, int(left if left > 1 else left * path.stat().st_size))
    lines = found(packed)
    assert any("were packed" in line for line in lines)
    assert all(line.startswith(SHARD) for line in lines)
    assert any("ends before" in line or "row" in line for line in lines)


def test_tiles_before_a_cut_are_sound(packed: Path) -> None:
    index = open_index(packed)
    os.truncate(packed / SHARD, int(index.offset[2]) + 600)
    rows = [difference.row for difference in verify(packed).differences]
    assert set(rows) == {None, int(index.row[2])}


def test_missing_and_unlisted_shards(packed: Path) -> None:
    (packed / SHARD).rename(packed / "train-000009.tar")
    assert found(packed) == ["train-000009.tar: is not in the index", f"{SHARD}: is missing"]


def rewrite(path: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]) -> None:
    with tarfile.open(path) as tar:
        members = []
        for member in tar:
            stream = tar.extractfile(member)
            assert stream is not None
            members.append((member, stream.read()))
    change(members)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("/etc/passwd", tarfile.REGTYPE, "would leave its folder"),
        ("../x", tarfile.REGTYPE, "would leave its folder"),
        ("a/b", tarfile.REGTYPE, "would leave its folder"),
        ("link", tarfile.SYMTYPE, "is a link"),
        ("hard", tarfile.LNKTYPE, "is a link"),
        ("stray", tarfile.REGTYPE, "is not in the index"),
    ],
)
def test_hostile_members(packed: Path, name: str, kind: bytes, message: str) -> None:
    def add(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        member = tarfile.TarInfo(name)
        member.type = kind
        member.linkname = "/etc/passwd" if kind != tarfile.REGTYPE else ""
        members.append((member, b""))

    rewrite(packed / SHARD, add)
    assert any(message in line and name in line for line in found(packed))


def test_swapped_members(packed: Path) -> None:
    def swap(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        first, second = [number for number, (member, _) in enumerate(members) if "sentinel2" in member.name][:2]
        a, b = members[first], members[second]
        members[first], members[second] = (a[0], b[1]), (b[0], a[1])
        a[0].size, b[0].size = len(b[1]), len(a[1])

    rewrite(packed / SHARD, swap)
    index = open_index(packed)
    lines = found(packed)
    for position in (0, 1):
        assert any(f"row {index.row[position]}, sentinel2: the checksum" in line for line in lines)


def test_members_of_equal_size_swapped_whole(source: Path, tmp_path: Path) -> None:
    index = repack(source, tmp_path / "out", codec="none")
    path = tmp_path / "out" / SHARD
    start, length = member_extents(index, 0)["sentinel2"]
    first, second = (int(index.offset[position]) + start for position in (0, 1))
    swapped = bytearray(path.read_bytes())
    a, b = slice(first, first + length), slice(second, second + length)
    swapped[a], swapped[b] = swapped[b], swapped[a]
    path.write_bytes(swapped)
    lines = [line for line in found(tmp_path / "out") if "the checksum of" in line]
    assert [line.partition(": ")[0] for line in lines] == [f"{SHARD}, row {row}, sentinel2" for row in index.row[:2]]


def test_exit_status(packed: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert run(parser.parse_args([str(packed), "--against", str(source), "--workers", "1"])) == 0
    assert "checked 12 tiles in 4 shards against" in capsys.readouterr().out
    flip(packed, open_index(packed), 0, 600)
    assert run(parser.parse_args([str(packed), "--workers", "1"])) == 1
    out = capsys.readouterr().out
    assert SHARD in out
    assert "1 shard is not as it was packed: --against data.h5 --repair writes it anew" in out
    with pytest.raises(InputError, match="no such folder"):
        run(parser.parse_args([str(packed / "nowhere")]))
    with pytest.raises(InputError, match="--workers 0: must be at least 1"):
        run(parser.parse_args([str(packed), "--workers", "0"]))


@pytest.mark.process
def test_processes_find_the_same(packed: Path, source: Path) -> None:
    flip(packed, open_index(packed), 1, 3)
    (packed / "val-000001.tar").unlink()
    alone, together = (verify(packed, source, workers=workers) for workers in (1, 2))
    assert together == alone
    assert alone.damaged == [0, 3]


def test_known_losses_are_listed_and_no_differences(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage_source(source, 4, "sentinel2")
    repack(source, tmp_path / "out", on_error="skip")
    report = verify(tmp_path / "out", source)
    assert (report.tiles, report.count, [loss.row for loss in report.losses]) == (11, 0, [4])
    capsys.readouterr()
    tell(report, source)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("known loss: row 4 (tile tile_2_l1c), sentinel2: ")
    assert lines[1] == f"checked 11 tiles in 2 shards against {source}: 0 differences, 1 known loss"


def test_a_shard_that_cannot_be_opened(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def refuse(path: Any, *rest: Any) -> int:
        if str(path).endswith(SHARD):
            raise PermissionError(13, "Permission denied")
        return opened(path, *rest)

    monkeypatch.setattr(os, "open", refuse)
    report = verify(packed)
    assert list(map(str, report.differences)) == [f"{SHARD}: cannot be read (Permission denied)"]
    assert report.damaged == [0]


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_no_plain_file(packed: Path, kind: str) -> None:
    path = packed / SHARD
    path.unlink()
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/null")
    assert found(packed) == [f"{SHARD}: is not a regular file"]


def test_splits_need_a_source(packed: Path) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    with pytest.raises(InputError, match=r"--splits x\.json: needs --against SRC"):
        run(parser.parse_args([str(packed), "--splits", "x.json"]))
