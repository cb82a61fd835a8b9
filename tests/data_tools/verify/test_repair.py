from __future__ import annotations

import argparse
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_tools.repack import work
from data_tools.repack.command import repack
from data_tools.verify import repair
from data_tools.verify.command import add_arguments, run
from mmae.errors import InputError

Make = Callable[..., Any]
SHARD = "train-000000.tar"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def command(shards: Path, against: Path | None, *more: str) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words = [str(shards), "--repair", "--workers", "1", *more]
    return run(parser.parse_args(words + (["--against", str(against)] if against else [])))


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def flip_payload(path: Path) -> None:
    flip(path, 700)


def flip_header(path: Path) -> None:
    flip(path, 3)


def cut(path: Path) -> None:
    os.truncate(path, 900)


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(512))


@pytest.mark.parametrize("damage", [flip_payload, flip_header, cut, lengthen, Path.unlink])
def test_what_is_damaged_is_written_anew(
    packed: Path, source: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(packed)
    untouched = (packed / "train-000001.tar").stat()
    for name in (SHARD, "val-000001.tar"):
        damage(packed / name)
    capsys.readouterr()
    assert command(packed, source) == 0
    assert contents(packed) == before
    out = capsys.readouterr().out.splitlines()
    assert f"2 of 2 shards written anew: {SHARD}, val-000001.tar" in out
    assert out[-1] == f"checked 12 tiles in 4 shards against {source}: 0 differences"
    assert (packed / "train-000001.tar").stat() == untouched, "a sound shard is left alone"


@pytest.mark.process
def test_nothing_to_repair(packed: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "pack_shard", None)
    before = contents(packed)
    assert command(packed, source, "--workers", "2") == 0
    assert contents(packed) == before


@pytest.mark.long
def test_any_damage_comes_back_whole(packed: Path, source: Path) -> None:
    before = contents(packed)
    draw = random.Random(0)
    for _ in range(12):
        for name in draw.sample([name for name in before if name.endswith(".tar")], draw.randint(1, 4)):
            content = bytearray(before[name])
            begin = draw.randrange(len(content))
            content[begin : begin + draw.choice([1, 600, len(content)])] = draw.randbytes(draw.choice([0, 1, 600]))
            (packed / name).write_bytes(content)
        assert command(packed, source) == 0
        assert contents(packed) == before


@pytest.mark.parametrize("codec", ["none", "fast"])
def test_other_options(source: Path, tmp_path: Path, codec: str) -> None:
    out = tmp_path / "out"
    repack(source, out, codec=codec, datasets=["month", "aster"], seed=3)
    before = contents(out)
    (out / SHARD).unlink()
    assert command(out, source) == 0
    assert contents(out) == before


def test_a_shard_with_losses(source: Path, tmp_path: Path) -> None:
    import h5py

    with h5py.File(source) as file:
        place = file["sentinel2"].id.get_chunk_info(1).byte_offset
    content = bytearray(source.read_bytes())
    content[place + 10 : place + 40] = bytes(30)
    source.write_bytes(content)
    out = tmp_path / "out"
    index = repack(source, out, on_error="skip")
    assert [loss.row for loss in index.losses] == [1]
    before = contents(out)
    (out / SHARD).unlink()
    assert command(out, source) == 0
    assert contents(out) == before


def test_another_source_is_refused_before_anything_is_read(packed: Path, mmearth: Make, tmp_path: Path) -> None:
    data = mmearth()
    data.arrays["month"][0] += 1
    other = data.write(tmp_path / "other")
    cut(packed / SHARD)
    before = contents(packed)
    with pytest.raises(InputError, match=r"is not the file that .* was packed from"):
        command(packed, other)
    assert contents(packed) == before


def test_a_source_is_needed(packed: Path) -> None:
    with pytest.raises(InputError, match="needs --against SRC"):
        command(packed, None)


@pytest.mark.parametrize("name", ["index.json", "index.npz"])
def test_a_damaged_index_cannot_be_restored(packed: Path, source: Path, name: str) -> None:
    os.truncate(packed / name, 100)
    before = contents(packed)
    with pytest.raises(InputError, match=r"--repair needs the index whole.*repack into another folder") as caught:
        command(packed, source)
    assert "\n" not in str(caught.value)
    assert contents(packed) == before


def test_other_bytes_do_not_take_the_name(
    packed: Path, source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another version of a library may compress otherwise: the index would not fit any more."""
    flip_payload(packed / SHARD)
    before = contents(packed)
    pack_shard = work.pack_shard

    def otherwise(*args: Any, **named: Any) -> Any:
        record = pack_shard(*args, **named)
        flip(args[2], 2000)
        return record

    monkeypatch.setattr(work, "pack_shard", otherwise)
    assert command(packed, source) == 1
    assert contents(packed) == before
    out = capsys.readouterr().out
    assert f"{SHARD}: the source gives other bytes than were packed" in out
    assert "0 of 1 shard written anew: none" in out


@pytest.mark.parametrize("where", ["writing", "renaming"])
def test_a_full_disk_leaves_what_was_there(
    packed: Path, source: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    flip_payload(packed / SHARD)
    before = contents(packed)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    if where == "writing":
        monkeypatch.setattr(work, "pack_shard", full)
    else:
        monkeypatch.setattr(repair, "_take_name", full)
    with pytest.raises(InputError, match="No space left on device"):
        command(packed, source)
    assert contents(packed) == before


def test_a_folder_in_the_place_of_a_shard(packed: Path, source: Path) -> None:
    (packed / SHARD).unlink()
    (packed / SHARD).mkdir()
    with pytest.raises(InputError, match="is a folder where a shard should be"):
        command(packed, source)


def test_what_is_not_ours_stays(packed: Path, source: Path) -> None:
    (packed / "val-000009.tar").write_bytes(b"mine")
    flip_payload(packed / SHARD)
    assert command(packed, source) == 1
    assert (packed / "val-000009.tar").read_bytes() == b"mine"


def test_a_tile_that_cannot_be_read_any_more(packed: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flip_payload(packed / SHARD)
    before = contents(packed)

    def lost(*_: Any, **__: Any) -> None:
        raise InputError("row 3 cannot be read")

    monkeypatch.setattr(work, "pack_shard", lost)
    with pytest.raises(InputError, match="row 3"):
        command(packed, source)
    assert contents(packed) == before
