"""`mmae repack --labels`: what the index holds, the same bytes whatever the parts, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

import mmae
from data_tools.repack.command import Options, repack, repack_part
from data_tools.repack.part_lock import Part
from mmae.cli import main
from mmae.data.shards.index import open_index
from mmae.errors import InputError
from tests.support.tiny_sets import sign

LINES = [
    f"tile_{row // 2}_{('l1c', 'l2a')[row % 2]},{'ice' if row % 3 else 'sand'},{row / 2},{row % 2},{row % 3 == 0:d}"
    for row in range(12)
]
HEADER = "tile_id,ground,height,has:water,has:trees"


def write(path: Path, lines: list[str], header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def packed(source: Path, out: Path, labels: Path, **options: Any) -> Any:
    return repack(source, out, labels=labels, progress=False, tiles_per_shard=4, **options)


def test_each_tile_has_the_labels_of_its_line(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "a.csv", [*LINES[:2], *LINES[3:], "far,ice,1,0,0"])
    assert main(["repack", str(source), str(tmp_path / "out"), "--labels", str(file), "--workers", "1"]) == 0
    index = open_index(tmp_path / "out")
    ground, height, has = (index.labels[name] for name in ("ground", "height", "has"))
    assert ground.info.classes == ("ice", "sand")
    assert (height.info.parts, has.info.parts) == (("height",), ("water", "trees"))
    for position, row in enumerate(index.row.tolist()):
        if row == 2:
            assert ground.value_N[position] == -1
            assert np.isnan([height.value_N[position, 0], *has.value_N[position]]).all()
            continue
        assert ground.info.classes[ground.value_N[position]] == ("ice" if row % 3 else "sand")
        assert height.value_N[position].tolist() == [row / 2]
        assert has.value_N[position].tolist() == [row % 2, row % 3 == 0]
    said = capsys.readouterr().out
    assert "1 of 12 tiles have no line" in said
    assert "1 tile id in no split" in said


def test_a_dataset_of_tiles_gives_labels_with_each_tile(source: Path, tmp_path: Path) -> None:
    packed(source, tmp_path / "out", write(tmp_path / "a.csv", LINES))
    tiles = mmae.ShardDataset(tmp_path / "out", "val", ["aster"])
    batch = next(iter(DataLoader(tiles, batch_size=len(tiles))))
    assert batch["labels"]["ground"].tolist() == [int(row % 3 == 0) for row in batch["row"].tolist()]
    assert batch["labels"]["has"].tolist() == [[row % 2, row % 3 == 0] for row in batch["row"].tolist()]
    assert "labels" not in mmae.ShardDataset(repack(source, tmp_path / "plain", progress=False).folder)[0]


def test_bytes_follow_from_the_labels_and_not_from_their_order_or_parts(source: Path, tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.csv", LINES), write(tmp_path / "b.csv", LINES[::-1])
    packed(source, tmp_path / "out", first)
    for part in (Part(2, 2), Part(1, 2)):
        repack_part(source, tmp_path / "parts", part, Options(labels=second, progress=False, tiles_per_shard=4))
    plain = repack(source, tmp_path / "plain", progress=False, tiles_per_shard=4)
    for name in ("index.json", "index.npz", *(shard.name for shard in plain.shards)):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    # Labels lie in the index alone, and change the set's identity.
    assert open_index(tmp_path / "out").shards == plain.shards
    assert open_index(tmp_path / "out").fingerprint != plain.fingerprint
    assert b'"labels"' not in (tmp_path / "plain" / "index.json").read_bytes()


def test_a_set_with_other_labels_is_not_overwritten(source: Path, tmp_path: Path) -> None:
    packed(source, tmp_path / "out", write(tmp_path / "a.csv", LINES))
    before = (tmp_path / "out" / "index.json").read_bytes()
    with pytest.raises(InputError, match="was packed with labels="):
        packed(source, tmp_path / "out", write(tmp_path / "b.csv", [LINES[0].replace("sand", "ice"), *LINES[1:]]))
    with pytest.raises(InputError, match="was packed with labels="):
        repack(source, tmp_path / "out", progress=False, tiles_per_shard=4)
    assert (tmp_path / "out" / "index.json").read_bytes() == before


@pytest.mark.parametrize(
    ("header", "lines", "said"),
    [
        ("tile_id,a", ["tile_0_l1c,1", "tile_0_l1c,1"], r":3: tile 'tile_0_l1c' stands in line 2 too"),
        ("tile_id,a", ["nowhere,1"], "none of its 1 tile id is in a split of data.h5"),
        ("tile_id,rgb", ["tile_0_l1c,1"], "'rgb' has the name of a modality or dataset"),
        ("tile_id,era5:a", ["tile_0_l1c,1"], "'era5:a' has the name of a modality or dataset"),
        ("tile_id,elevation", ["tile_0_l1c,1"], "has the name of a modality"),
        ("tile_id,a b", ["tile_0_l1c,1"], "'a b' cannot be a label"),
        ("tile_id,a,a:b", ["tile_0_l1c,1,1"], "there are a column 'a' and columns a:PART"),
        ("tile_id,a:b", ["tile_0_l1c,much"], r":2: a:b='much' is not a finite number"),
        ("tile_id,a", ["tile_0_l1c,inf"], r":2: a='inf' is not a finite number"),
        ("tile_id,a", ["tile_0_l1c,1e39"], r":2: a='1e39' is not a finite number of float32"),
        ("tile_id,a", ["tile_0_l1c,"], "a has no value for any tile"),
        ("tile_id,a,split", ["tile_0_l1c,1,val"], "give splits with --splits FILE"),
        ("tile_id", ["tile_0_l1c"], "no column holds labels"),
    ],
)
def test_a_bad_file_is_refused_before_anything_is_written(
    header: str, lines: list[str], said: str, source: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        packed(source, tmp_path / "out", write(tmp_path / "a.csv", lines, header))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"name": "sentinel2"},
        {"name": "../x"},
        {"classes": ["ice", "ice"]},
        {"classes": []},
        {"classes": ["ice"]},
        {"parts": ["a"]},
    ],
)
def test_an_index_whose_labels_contradict_themselves_is_damaged(
    change: dict[str, Any], source: Path, tmp_path: Path
) -> None:
    packed(source, tmp_path / "out", write(tmp_path / "a.csv", LINES))
    path = tmp_path / "out" / "index.json"
    head = json.loads(path.read_text())
    head["labels"][0] |= change
    sign(path, head)
    with pytest.raises(InputError, match="the index is damaged"):
        open_index(tmp_path / "out")
