from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mmae.errors import InputError
from mmae.evaluate.frozen.feature_store import FeatureStore

IDENTITY = {"weights": "ab12", "data": "cd34", "blocks": [2, 5]}


def test_what_was_stored_is_found_by_the_same_identity_alone(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, IDENTITY)
    assert not store.has("tiles-0")
    store.save("tiles-0", {"x": np.arange(6.0).reshape(2, 3)})
    again = FeatureStore(tmp_path, dict(reversed(IDENTITY.items())))
    np.testing.assert_array_equal(again.load("tiles-0")["x"], np.arange(6.0).reshape(2, 3))
    assert not FeatureStore(tmp_path, {**IDENTITY, "weights": "other"}).has("tiles-0")


def test_no_pickle_is_read(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, IDENTITY)
    with (store.folder / "evil.npz").open("wb") as file:
        np.savez(file, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match=r"evil\.npz is damaged .* remove it, and run the same command again"):
        store.load("evil")


def test_a_group_that_was_cut_off_is_named(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, IDENTITY)
    store.save("tiles-0", {"x": np.zeros(1000)})
    path = store.folder / "tiles-0.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"tiles-0\.npz is damaged"):
        store.load("tiles-0")


def test_a_folder_of_other_features_is_refused(tmp_path: Path) -> None:
    folder = FeatureStore(tmp_path, IDENTITY).folder
    (folder / "identity.json").write_text(json.dumps({"weights": "other"}))
    with pytest.raises(InputError, match="is of other features"):
        FeatureStore(tmp_path, IDENTITY)
    (folder / "identity.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        FeatureStore(tmp_path, IDENTITY)


def test_a_place_where_nothing_can_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        FeatureStore(tmp_path / "file", IDENTITY)


def test_names_of_groups_cannot_leave_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no name of a group"):
        FeatureStore(tmp_path, IDENTITY).has("../x")
