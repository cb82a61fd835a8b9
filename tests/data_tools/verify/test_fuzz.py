"""Damaged shard folders: `verify` tells of each, and the reader never hands out a tile that is not what was packed."""

from __future__ import annotations

import random
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_tools.repack.command import repack
from data_tools.verify.check_set import verify
from mmae.data.shards.index import Index, open_index
from mmae.data.shards.reader import ShardReader
from mmae.data.shards.tar_layout import extents
from mmae.errors import InputError
from tests.support.shard_damage import CODECS, DAMAGES, Extent, Sound

FOLDERS = 900
"""Damaged folders that continuous integration looks at; six times as many in the slow run."""
BATCHES = 6
DECODER_ROUNDS = 20_000


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sound]:
    """One folder a codec; tiles with constant, compressible and incompressible arrays."""
    from tests.support.mmearth import MMEarth

    data = MMEarth()
    data.arrays["aster"] = np.broadcast_to(np.arange(8, dtype=np.int16) * 3, data.arrays["aster"].shape).copy()
    folder = tmp_path_factory.mktemp("sound")
    source = data.write(folder / "source")
    return {codec: look(source, folder / codec, codec) for codec in CODECS}


def look(source: Path, folder: Path, codec: str) -> Sound:
    index = repack(source, folder, codec=codec, tiles_per_shard=3)
    members: dict[str, list[Extent]] = {shard.name: [] for shard in index.shards}
    for position in range(len(index)):
        sizes = [*index.size[position].tolist(), int(index.info_size[position])]
        members[index.shards[index.shard[position]].name] += [
            Extent(int(index.offset[position]) + start, length, sizes[column])
            for column, start, length in extents(sizes[:-1], sizes[-1])
        ]
    return Sound(folder, index, members, list(read_all(index)))


def read_all(index: Index) -> Iterator[dict[str, Any]]:
    """What training would be given: every tile; damage raises."""
    reader = ShardReader(index, list(index.datasets))
    try:
        for position in range(len(index)):
            yield seen(reader, position)
    finally:
        reader.close()


def seen(reader: ShardReader, position: int) -> dict[str, Any]:
    tile = reader.read(position)
    content = {name: (array.dtype, array.shape, array.tobytes()) for name, array in tile.arrays.items()}
    return content | {"row": tile.row, "level": tile.level}


# How a folder is damaged: each takes the folder, what it was, and draws; some change nothing now and then.


def contents(folder: Path) -> dict[str, bytes | str]:
    """Every file below a folder; links and folders by what they are."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        plain = stat.S_ISREG(mode)
        found[str(path.relative_to(folder))] = path.read_bytes() if plain else f"{stat.S_IFMT(mode):o}"
    return found


def check_one(seed: int, name: str, sound: Sound, cage: Path) -> bool:
    """Damage a copy, look at it by `verify` and by the reader; whether anything was changed at all."""
    folder = cage / "shards"
    shutil.copytree(sound.folder, folder)
    DAMAGES[name](folder, sound, random.Random(seed))
    changed = contents(folder) != contents(sound.folder)
    before = contents(cage)
    if changed:
        assert is_told_of(folder), f"seed {seed}, {name}: verify found nothing"
        no_tile_differs(folder, sound, seed)
        assert contents(cage) == before, f"seed {seed}, {name}: something was written"
    shutil.rmtree(folder)
    return changed


def is_told_of(folder: Path) -> bool:
    try:
        return verify(folder, shown=False).count > 0
    except InputError as error:
        return is_one_line(error)


def is_one_line(error: InputError) -> bool:
    return "\n" not in str(error)


def no_tile_differs(folder: Path, sound: Sound, seed: int) -> None:
    try:
        index = open_index(folder)
    except InputError:
        return
    assert len(index) == len(sound.packed)
    assert index.band_stats == sound.packed.band_stats
    reader = ShardReader(index, list(index.datasets))
    for position, expected in enumerate(sound.tiles):
        try:
            tile = seen(reader, position)
        except InputError:
            continue
        assert tile == expected, f"seed {seed}: the reader gave a tile that differs"
    reader.close()


def check_many(seeds: range, sound: dict[str, Sound], cage: Path) -> None:
    names = sorted(DAMAGES)
    changed = 0
    for seed in seeds:
        name = names[seed % len(names)]
        codec = CODECS[seed // len(names) % len(CODECS)]
        changed += check_one(seed, name, sound[codec], cage)
    assert changed > 0.9 * len(seeds), "most damages must damage something"


@pytest.mark.long
@pytest.mark.parametrize("batch", range(BATCHES))
def test_damage_is_told_of_and_never_read_as_a_good_tile(batch: int, sound: dict[str, Sound], tmp_path: Path) -> None:
    size = FOLDERS // BATCHES
    check_many(range(batch * size, (batch + 1) * size), sound, tmp_path)


@pytest.mark.slow
def test_much_more_damage(sound: dict[str, Sound], tmp_path: Path) -> None:
    check_many(range(FOLDERS, 6 * FOLDERS), sound, tmp_path)


def test_a_sound_folder_is_read_whole(sound: dict[str, Sound]) -> None:
    """The checks above could not fail if this did not hold."""
    for codec, whole in sound.items():
        assert verify(whole.folder).count == 0, codec
        assert list(read_all(open_index(whole.folder))) == whole.tiles


@pytest.mark.process
@pytest.mark.parametrize("codec", CODECS)
def test_the_decoder_alone_survives_any_bytes(codec: str) -> None:
    """In a process of its own: what it must not do is crash, hang, write elsewhere, or take all memory."""
    script = Path(__file__).with_name("fuzz_decoder.py")
    command = [sys.executable, str(script), codec, str(DECODER_ROUNDS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    refused, decoded = map(int, done.stdout.split())
    assert refused + decoded == DECODER_ROUNDS
    assert refused > DECODER_ROUNDS / 10
