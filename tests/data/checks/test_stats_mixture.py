"""Statistics of a mixture: those that all of its tiles together have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmae.config.schema import DataConfig
from mmae.data.checks.stats_mixture import mixture_band_stats
from mmae.data.sampling.shard_sets import ShardSet
from mmae.data.sampling.training_tiles import training_tiles
from mmae.errors import InputError
from mmae.modalities import MODALITIES
from tests.support.other_stats import set_with_stats
from tests.support.tiny_sets import STATS

L1C, L2A = [0, 2, 4, 6], [1, 3]


def mixture(
    folder: Path,
    *sets: tuple[list[int], dict[str, Any]],
    weights: tuple[float, ...] | None = None,
    domains: Sequence[str] = tuple(MODALITIES),
) -> Any:
    opened = [
        ShardSet(set_with_stats(folder / str(number), {"train": rows}, stats))
        for number, (rows, stats) in enumerate(sets)
    ]
    return mixture_band_stats(training_tiles(opened, DataConfig(weights=weights), 0), domains)


def table(mean: float, std: float, bands: int = 13, **more: Any) -> dict[str, Any]:
    return {"mean": [mean] * bands, "std": [std] * bands, **more}


def test_entries_on_which_all_sets_agree_stay(tmp_path: Path) -> None:
    assert mixture(tmp_path, (L1C, dict(STATS)), (L2A, dict(STATS))) == STATS


def test_each_level_is_of_the_set_that_has_it(tmp_path: Path) -> None:
    """This holds whatever a set's file says about a level of which it has no tile."""
    l1c, l2a, other = table(1000, 500), table(1300, 400), table(7, 7)
    alone = mixture(tmp_path / "a", (L1C, {"sentinel2_l1c": l1c}), (L2A, {"sentinel2_l2a": l2a}))
    assert alone == {"sentinel2_l1c": l1c, "sentinel2_l2a": l2a}
    both = mixture(tmp_path / "b", (L1C, {"sentinel2_l1c": l1c, "sentinel2_l2a": other}), (L2A, {"sentinel2_l2a": l2a}))
    assert both["sentinel2_l2a"] == l2a
    zeros = table(0, 0, min=[0] * 13, max=[0] * 13)
    old = mixture(tmp_path / "c", (L1C, {"sentinel2_l1c": l1c, "sentinel2_l2a": zeros}), (L2A, {"sentinel2_l2a": l2a}))
    assert old["sentinel2_l2a"] == l2a, "an older index holds zeros for a level that was never seen"


@pytest.mark.parametrize("weights", [None, (1.0, 3.0)])
def test_pooled_as_an_epoch_reads_them(tmp_path: Path, weights: tuple[float, float] | None) -> None:
    draw = np.random.default_rng(0)
    heights = [draw.normal(100, 10, 4000), draw.normal(900, 50, 2000)]
    tables = [
        {"aster": table(each.mean(), each.std(), 2, min=[each.min()] * 2, max=[each.max()] * 2)} for each in heights
    ]
    found = mixture(tmp_path, (L1C, tables[0]), (L2A, tables[1]), weights=weights)["aster"]
    repeats = 1 if weights is None else 3
    whole = np.concatenate([heights[0], *[heights[1]] * repeats])
    assert found["mean"] == pytest.approx([whole.mean()] * 2)
    assert found["std"] == pytest.approx([whole.std()] * 2)
    assert (found["min"], found["max"]) == ([whole.min()] * 2, [whole.max()] * 2)


def test_bands_that_a_set_lacks(tmp_path: Path) -> None:
    first = {"mean": [10.0, None], "std": [2.0, None], "min": [1.0, None], "max": [20.0, None]}
    second = {"mean": [10.0, 5.0], "std": [2.0, 1.0], "min": [0.0, 4.0], "max": [9.0, 6.0]}
    found = mixture(tmp_path, (L1C, {"aster": first}), (L2A, {"aster": second}))["aster"]
    assert found["mean"] == pytest.approx([10, 5])
    assert found["std"] == pytest.approx([2, 1])
    assert (found["min"], found["max"]) == ([0, 4], [20, 6])
    nothing = {"mean": [10.0, None], "std": [3.0, None]}
    assert mixture(tmp_path / "b", (L1C, {"aster": first}), (L2A, {"aster": nothing}))["aster"]["mean"] == [10, None]


def test_b10_of_l2a_stays_as_mmearth_writes_it(tmp_path: Path) -> None:
    tables = [{"mean": [mean] * 10 + [0.0, mean, mean], "std": [1.0] * 10 + [0.0, 1.0, 1.0]} for mean in (5.0, 7.0)]
    found = mixture(tmp_path, ([1, 3], {"sentinel2_l2a": tables[0]}), ([5, 7], {"sentinel2_l2a": tables[1]}))
    assert found["sentinel2_l2a"]["mean"] == pytest.approx([6.0] * 10 + [0.0, 6.0, 6.0])
    assert found["sentinel2_l2a"]["std"][10] == 0


def test_entries_that_no_modality_uses_come_from_the_first_set(tmp_path: Path) -> None:
    assert mixture(tmp_path, (L1C, {"era5": 1}), (L2A, {"era5": 2, "month": 3})) == {"era5": 1, "month": 3}


def test_entries_that_the_run_does_not_use_come_from_the_first_set(tmp_path: Path) -> None:
    """Sets whose elevations do not fit together are mixed by a run without elevation."""
    first, second = {"aster": table(1, 1, 2)}, {"aster": table(5, 2, 3), "canopy_height_eth": "?"}
    found = mixture(tmp_path, (L1C, first), (L2A, second), domains=["rgb", "ired"])
    assert found == first | second | first


def test_sets_that_do_not_fit_together(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 and 3 numbers of aster"):
        mixture(tmp_path, (L1C, {"aster": table(1, 1, 2)}), (L2A, {"aster": table(1, 1, 3)}))
    with pytest.raises(InputError, match=r"aster\.mean is not a list of numbers"):
        mixture(tmp_path / "b", (L1C, {"aster": table(1, 1, 2)}), (L2A, {"aster": "?"}))
