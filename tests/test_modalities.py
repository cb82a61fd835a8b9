"""The table, against the facts it states."""

from __future__ import annotations

import pytest

from mmae.modalities import (
    MODALITIES,
    NORM_RGB,
    PUBLISHED,
    S2_LEVELS,
    Modality,
    entry_levels,
    output_source,
    stats_entry,
)

S2_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8A", "B8", "B9", "B10", "B11", "B12")


def test_sentinel2_modalities_name_the_bands_they_take() -> None:
    rows = [row for row in MODALITIES.values() if row.dataset == "sentinel2"]
    assert len(rows) == 4
    for row in rows:
        assert tuple(S2_BANDS[band] for band in row.bands) == row.band_names
        assert row.by_level
        assert row.no_data == (0,)


def test_the_published_six_come_first_and_in_order() -> None:
    assert tuple(MODALITIES)[:6] == PUBLISHED
    assert [MODALITIES[name].channels for name in PUBLISHED] == [3, 1, 12, 3, 2, 2]


def test_class_ids_leave_room_for_no_data() -> None:
    assert (MODALITIES["semseg"].num_classes, MODALITIES["semseg"].no_data_class) == (12, 11)
    assert (MODALITIES["dynamic_world"].num_classes, MODALITIES["dynamic_world"].no_data_class) == (10, 9)
    with pytest.raises(ValueError, match="not categorical"):
        _ = MODALITIES["rgb"].no_data_class


def test_no_code_is_both_class_and_no_data() -> None:
    for row in MODALITIES.values():
        assert not set(row.no_data) & set(row.class_codes)


def test_the_second_rgb_decoder_looks_at_rgb() -> None:
    assert output_source(NORM_RGB) is MODALITIES["rgb"]
    assert output_source("depth") is MODALITIES["depth"]


def test_rows_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match="2 bands but 1 names"):
        Modality("x", "x", (0, 1), ("a",), "m")
    with pytest.raises(ValueError, match="categorical"):
        Modality("x", "x", (0,), ("a",), "m", class_codes=(1, 2))
    with pytest.raises(ValueError, match="2 codes but 1 names of classes"):
        Modality("x", "x", (0,), ("a",), "", class_codes=(1, 2), class_names=("a",), loss="cross_entropy")


def test_each_entry_of_the_band_statistics_is_of_one_level_or_of_all() -> None:
    assert entry_levels("sentinel2") == {"sentinel2_l1c": (0,), "sentinel2_l2a": (1,)}
    assert entry_levels("aster") == {"aster": (0, 1)}
    for row in MODALITIES.values():
        assert {stats_entry(row, level) for level in S2_LEVELS} == entry_levels(row.dataset).keys()
