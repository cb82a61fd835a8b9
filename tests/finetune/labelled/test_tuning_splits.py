"""Which tiles train, choose and are scored: parts of train share no ground with the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmae.config.finetune_schema import TuneDataConfig
from mmae.data.sampling.shared_ground import APART, ground_of, shared_ground
from mmae.data.shards.index import Index
from mmae.errors import InputError
from mmae.finetune.labelled.tuning_splits import TuningSplits, tuning_splits
from tests.support.tiny_sets import write_set


def row_of_tiles(folder: Path, **splits: Any) -> Index:
    """Tiles of 80 m, 40 m apart: each overlaps the next ones."""
    rows = [row for part in splits.values() for row in part]
    places = {row: (50.0, 10.0 + row * 0.00056) for row in rows}
    return write_set(folder / "shards", splits, places=places)


def apart(index: Index, one: Any, other: Any) -> bool:
    return bool((shared_ground(ground_of(index, one), ground_of(index, other))[0] == APART).all())


def test_splits_of_the_set_are_taken_as_they_are(tmp_path: Path) -> None:
    index = row_of_tiles(tmp_path, train=range(5), val=range(10, 13), test=range(20, 22))
    found = tuning_splits(index, TuneDataConfig())
    assert [index.row[at].tolist() for at in (found.train, found.val, found.test)] == [
        [0, 1, 2, 3, 4],
        [10, 11, 12],
        [20, 21],
    ]
    assert found.notes == ()


@pytest.mark.parametrize("seed", range(4))
def test_parts_of_train_share_no_ground_with_one_another(seed: int, tmp_path: Path) -> None:
    index = row_of_tiles(tmp_path, train=range(200))
    data = TuneDataConfig(val_fraction=0.2, test_fraction=0.2, block_km=0.4, seed=seed)
    found = tuning_splits(index, data)
    assert apart(index, found.train, np.concatenate([found.val, found.test]))
    assert apart(index, found.val, found.test)
    assert 25 <= len(found.test) <= 55
    assert 10 <= len(found.val) <= 55
    assert len(found.train) > 60
    assert any("share ground with the test" in note for note in found.notes)


def test_blocks_depend_on_the_seed_of_the_data_only(tmp_path: Path) -> None:
    index = row_of_tiles(tmp_path, train=range(200), test=range(300, 310))

    def val(seed: int) -> list[int]:
        found: TuningSplits = tuning_splits(index, TuneDataConfig(val_fraction=0.2, block_km=0.4, seed=seed))
        rows: list[int] = found.val.tolist()
        return rows

    assert val(0) == val(0)
    assert val(0) != val(1)


def test_a_share_of_the_training_tiles_is_among_those_of_a_larger_share(tmp_path: Path) -> None:
    index = row_of_tiles(tmp_path, train=range(100), val=range(200, 205), test=range(300, 305))
    small, large = (tuning_splits(index, TuneDataConfig(fraction=share)).train for share in (0.05, 0.3))
    assert (len(small), len(large)) == (5, 30)
    assert set(small) <= set(large)


def test_splits_of_a_file_replace_those_of_the_set(tmp_path: Path) -> None:
    index = row_of_tiles(tmp_path, train=range(6))
    split_of = {"train": np.array([0, 1]), "val": np.array([2]), "test": np.array([4, 5])}
    found = tuning_splits(index, TuneDataConfig(), split_of)
    assert [at.tolist() for at in (found.train, found.val, found.test)] == [[0, 1], [2], [4, 5]]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            TuneDataConfig(test_split=None),
            "no tile in split 'val' (data.val_split); splits with tiles: train: name another, or take a part",
        ),
        (TuneDataConfig(val_fraction=0.2, block_km=0.3), "no tile in split 'test' (data.test_split)"),
        (
            TuneDataConfig(val_fraction=0.2, test_split=None, block_km=5000),
            "all training tiles lie in 1 block of 5000 km",
        ),
    ],
)
def test_a_split_that_cannot_be_is_refused_with_what_to_do(data: TuneDataConfig, said: str, tmp_path: Path) -> None:
    index = row_of_tiles(tmp_path, train=range(40))
    with pytest.raises(InputError) as refused:
        tuning_splits(index, data)
    assert said in str(refused.value)


def test_training_tiles_that_all_share_ground_with_the_rest_are_refused(tmp_path: Path) -> None:
    index = row_of_tiles(tmp_path, train=range(3))
    with pytest.raises(InputError, match="no training tile is left: take a smaller part"):
        tuning_splits(index, TuneDataConfig(val_fraction=0.5, test_split=None, block_km=0.05))


def test_blocks_need_tiles_that_say_where_they_lie(tmp_path: Path) -> None:
    index = write_set(tmp_path / "shards", {"train": range(5)})
    with pytest.raises(InputError, match="no tile says where it lies"):
        tuning_splits(index, TuneDataConfig(val_fraction=0.2, test_split=None))


def test_a_test_may_be_left_out(tmp_path: Path) -> None:
    index = row_of_tiles(tmp_path, train=range(5), val=range(10, 13))
    assert not len(tuning_splits(index, TuneDataConfig(test_split=None)).test)
