"""Normalisation by the tile's own Sentinel-2 level, and statistics that cannot be divided by."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mmae.data.transforms.normalise import normalisation
from mmae.errors import InputError
from mmae.modalities import MODALITIES, Modality

CPU = torch.device("cpu")


def stats(bands: int, shift: float = 0.0, **changes: Any) -> dict[str, Any]:
    return {"mean": [shift + i for i in range(bands)], "std": [1.0 + i for i in range(bands)]} | changes


def test_each_level_has_its_own_statistics_and_bands_keep_their_order() -> None:
    table = {"sentinel2_l1c": stats(13), "sentinel2_l2a": stats(13, shift=100)}
    stored = torch.full((2, 3, 1, 1), 1000, dtype=torch.int32)
    values = normalisation(MODALITIES["rgb"], table, CPU)(stored, torch.tensor([1, 0], dtype=torch.uint8))
    expected = [[(1000 - 100 - b) / (1 + b) for b in (3, 2, 1)], [(1000 - b) / (1 + b) for b in (3, 2, 1)]]
    torch.testing.assert_close(values[:, :, 0, 0], torch.tensor(expected))


def test_other_datasets_do_not_look_at_the_level() -> None:
    normalise = normalisation(MODALITIES["slope"], {"aster": stats(2)}, CPU)
    stored = torch.full((2, 1, 1, 1), 5, dtype=torch.int32)
    assert normalise(stored, torch.tensor([0, 1], dtype=torch.uint8)).flatten().tolist() == [2.0, 2.0]


@pytest.mark.parametrize("std", [0.0, float("nan"), None])
def test_a_deviation_of_nothing_never_divides(std: float | None) -> None:
    cirrus = Modality("cirrus", "sentinel2", (10,), ("B10",), "", by_level=True)
    table = {"sentinel2_l1c": stats(13), "sentinel2_l2a": stats(13, std=[1.0] * 10 + [std] + [1.0] * 2)}
    stored = torch.full((2, 1, 1, 1), 7, dtype=torch.int32)
    values = normalisation(cirrus, table, CPU)(stored, torch.tensor([0, 1], dtype=torch.uint8))
    torch.testing.assert_close(values.flatten(), torch.tensor([-3 / 11, 0.0]))


@pytest.mark.parametrize("kind", ["mean", "std"])
def test_bands_without_statistics_count_as_no_data(kind: str) -> None:
    table = {"sentinel2_l1c": stats(13) | {kind: [1.0, None, float("nan"), *[1.0] * 10]}}
    normalise = normalisation(MODALITIES["rgb"], table, CPU)
    usable = normalise.usable(torch.ones(2, 3, 1, 1, dtype=torch.bool), torch.tensor([0, 1], dtype=torch.uint8))
    assert usable[..., 0, 0].tolist() == [[True, False, False], [False] * 3], "L2A has no entry"
    assert not normalise.complete


def test_zeros_for_a_level_without_tiles_are_not_statistics() -> None:
    """Older shard sets have such zeros. 0 means no data for Sentinel-2, but it is data for the slope of a flat sea."""
    nothing = {"mean": [0.0] * 13, "std": [0.0] * 13}
    table = {"sentinel2_l1c": stats(13), "sentinel2_l2a": nothing, "aster": {"mean": [0.0] * 2, "std": [0.0] * 2}}
    assert normalisation(MODALITIES["rgb"], table, CPU).known_SC.tolist() == [[True] * 3, [False] * 3]
    assert normalisation(MODALITIES["slope"], table, CPU).complete
    radar = {"sentinel1": {"mean": [-12.0, 0.0] * 4, "std": [4.0, 0.0] * 4}}
    assert normalisation(MODALITIES["sentinel1"], radar, CPU).known_SC[0].tolist() == [True, False] * 4


def test_a_band_that_never_changes_has_data() -> None:
    table = {"sentinel2_l1c": stats(13, std=[0.0] * 13), "sentinel2_l2a": stats(13)}
    normalise = normalisation(MODALITIES["rgb"], table, CPU)
    assert normalise.complete
    valid = torch.ones(1, 3, 1, 1, dtype=torch.bool)
    assert normalise.usable(valid, torch.zeros(1, dtype=torch.uint8)) is valid


def test_missing_or_short_statistics_are_named() -> None:
    with pytest.raises(InputError, match=r"no entry 'sentinel2_l1c', which modality 'rgb' needs"):
        normalisation(MODALITIES["rgb"], {"sentinel2_l1d": stats(13)}, CPU)
    with pytest.raises(InputError, match=r"aster\.mean has 1 numbers, modality 'slope' needs 2"):
        normalisation(MODALITIES["slope"], {"aster": stats(1)}, CPU)
    broken: list[Any] = [3, [], {}, {"mean": "ab", "std": [1.0] * 2}, {"mean": [True] * 2, "std": [1.0] * 2}]
    for wrong in [*broken, stats(2, std=[1.0])]:
        with pytest.raises(InputError, match="band statistics: aster"):
            normalisation(MODALITIES["slope"], {"aster": wrong}, CPU)
    with pytest.raises(InputError, match="negative"):
        normalisation(MODALITIES["slope"], {"aster": stats(2, std=[1.0, -1.0])}, CPU)
