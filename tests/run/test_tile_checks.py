"""What a start refuses of its tiles: levels, bands, counts and units without the right statistics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmae.data.shards.index_json import DatasetInfo
from mmae.errors import InputError
from mmae.run.spec import RunSpec, make_run_spec
from tests.support.other_stats import set_with_stats
from tests.support.tiny_sets import DATASETS, STATS, damage, write_set
from tests.support.web import serving

SMALL = [
    "model.in_domains=[rgb,depth]", "model.out_domains=[rgb,depth]", "model.input_size=8", "model.patch_size=4",
    "model.num_encoded_tokens=3", "train.global_batch=2",
]  # fmt: skip
L1C = {name: STATS[name] for name in ("sentinel2_l1c", "aster")}
L2A = {name: STATS[name] for name in ("sentinel2_l2a", "aster")}
EVEN, ODD = list(range(0, 20, 2)), list(range(1, 21, 2))


def plan(folder: Path, shards: str, *overrides: str) -> RunSpec:
    return make_run_spec(
        "debug", "zero1", [*SMALL, f"run.dir={folder / 'run'}", f"data.shards={shards}", *overrides], 1
    )


def test_one_level_needs_no_statistics_of_the_other(tmp_path: Path) -> None:
    set_with_stats(tmp_path / "l1c", {"train": EVEN, "val": [90]}, L1C)
    assert plan(tmp_path, f"{tmp_path / 'l1c'}").band_stats == L1C


def test_two_sets_of_one_level_each_have_the_statistics_of_both(tmp_path: Path) -> None:
    set_with_stats(tmp_path / "l1c", {"train": EVEN}, L1C)
    set_with_stats(tmp_path / "l2a", {"train": ODD}, L2A)
    both = f"[{tmp_path / 'l1c'}, {tmp_path / 'l2a'}]"
    assert plan(tmp_path, both).band_stats == STATS
    file = tmp_path / "stats.json"
    file.write_text(json.dumps(L1C))
    with pytest.raises(InputError, match=r"l2a: 10 of 10 train tiles are Sentinel-2 l2a .*no entry 'sentinel2_l2a'"):
        plan(tmp_path, both, f"data.band_stats={file}")


@pytest.mark.parametrize("zeros", [True, False], ids=["an older index", "no entry"])
def test_tiles_of_a_level_without_statistics_are_counted(tmp_path: Path, zeros: bool) -> None:
    nothing = {"sentinel2_l2a": {"mean": [0.0] * 13, "std": [0.0] * 13}} if zeros else {}
    set_with_stats(tmp_path / "d", {"train": EVEN, "val": [90, 91, 93]}, L1C | nothing)
    with pytest.raises(InputError, match=r"2 of 3 val tiles are Sentinel-2 l2a \(first 'tile-91'\).*data\.band_stats"):
        plan(tmp_path, f"{tmp_path / 'd'}")
    assert not (tmp_path / "run").exists()
    depth = ["model.in_domains=[depth,slope]", "model.out_domains=[depth]", "model.extra_norm_pix_loss=false"]
    assert plan(tmp_path, f"{tmp_path / 'd'}", *depth), "no modality of Sentinel-2 is learned"


def test_only_tiles_that_are_trained_on_are_counted(tmp_path: Path) -> None:
    set_with_stats(tmp_path / "d", {"train": [*EVEN, 91]}, L1C)
    keys = tmp_path / "keys"
    keys.write_text("\n".join(f"tile-{row}" for row in EVEN))
    assert plan(tmp_path, f"{tmp_path / 'd'}", f"data.keys={keys}")
    with pytest.raises(InputError, match="1 of 11 train tiles"):
        plan(tmp_path, f"{tmp_path / 'd'}")


def test_data_in_a_band_without_statistics(tmp_path: Path) -> None:
    lacking = {kind: [*values[:3], None, *values[4:]] for kind, values in STATS["sentinel2_l1c"].items()}
    set_with_stats(tmp_path / "d", {"train": EVEN}, L1C | {"sentinel2_l1c": lacking})
    with pytest.raises(InputError, match=r"10 of 10 tiles hold data of sentinel2 B4 \(modality rgb\)"):
        plan(tmp_path, f"{tmp_path / 'd'}", "data.check_units=false")


def test_data_in_a_band_whose_statistics_say_that_it_never_changes(tmp_path: Path) -> None:
    constant = STATS["aster"] | {"std": [0.0, *STATS["aster"]["std"][1:]]}
    set_with_stats(tmp_path / "d", {"train": EVEN}, L1C | {"aster": constant})
    with pytest.raises(InputError, match=r"10 of 10 tiles hold data of aster elevation .*its deviation is 0"):
        plan(tmp_path, f"{tmp_path / 'd'}", "data.check_units=false")


@pytest.mark.parametrize("bands", [12, 14])
def test_shards_with_other_bands(tmp_path: Path, bands: int) -> None:
    datasets = dict(DATASETS) | {"sentinel2": DatasetInfo(np.dtype("<u2"), (bands, 8, 8))}
    write_set(tmp_path / "d", {"train": EVEN}, datasets=datasets)
    with pytest.raises(InputError, match=rf"sentinel2 has {bands} bands, but modality .* among MMEarth's 13"):
        plan(tmp_path, f"{tmp_path / 'd'}")


def test_statistics_of_another_number_of_bands(tmp_path: Path) -> None:
    set_with_stats(tmp_path / "d", {"train": EVEN}, L1C | {"aster": {"mean": [1.0] * 3, "std": [1.0] * 3}})
    with pytest.raises(InputError, match="aster has 2 bands, and the band statistics of aster have 3 numbers"):
        plan(tmp_path, f"{tmp_path / 'd'}")


def small_values(folder: Path) -> None:
    """Reflectance as it is, where the statistics say reflectance x 10000."""
    datasets = dict(DATASETS) | {"sentinel2": DatasetInfo(np.dtype("<f4"), (13, 8, 8))}
    stats: dict[str, Any] = {"mean": [5e6] * 13, "std": [1e6] * 13}
    set_with_stats(folder, {"train": EVEN}, L1C | {"sentinel2_l1c": stats}, datasets)


def test_values_in_other_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_values(tmp_path / "d")
    with pytest.raises(InputError, match=r"d \(train\): sentinel2_l1c: scale: .*data\.check_units=false"):
        plan(tmp_path, f"{tmp_path / 'd'}")
    assert not (tmp_path / "run").exists()
    assert plan(tmp_path, f"{tmp_path / 'd'}", "data.check_units=false")
    monkeypatch.setenv("RANK", "1")
    assert plan(tmp_path, f"{tmp_path / 'd'}"), "one rank reads the sample"


def test_what_cannot_be_read_is_left_to_the_loader(tmp_path: Path) -> None:
    index = set_with_stats(tmp_path / "d", {"train": EVEN}, L1C)
    for row in EVEN:
        damage(index, row)
    assert plan(tmp_path, f"{tmp_path / 'd'}")
    for shard in index.shards:
        (tmp_path / "d" / shard.name).unlink()
    assert plan(tmp_path, f"{tmp_path / 'd'}")


def test_a_mixture_goes_on_with_what_it_began_with(tmp_path: Path) -> None:
    """So do runs that began with the statistics of their first set."""
    higher = {"aster": {"mean": [300.0, 2.0], "std": [70.0, 2.0]}}
    set_with_stats(tmp_path / "a", {"train": EVEN}, dict(STATS))
    set_with_stats(tmp_path / "b", {"train": ODD}, STATS | higher)
    both = f"[{tmp_path / 'a'}, {tmp_path / 'b'}]"
    fresh = plan(tmp_path, both)
    assert fresh.band_stats["aster"]["mean"] == pytest.approx([200, 1.5])
    fresh.folder.write_configs(fresh.config, fresh.ds_config, dict(STATS))
    assert plan(tmp_path, both).band_stats == STATS
    file = tmp_path / "stats.json"
    file.write_text(json.dumps(STATS | higher))
    assert plan(tmp_path, both, f"data.band_stats={file}").band_stats["aster"] == higher["aster"]


def test_of_a_set_that_is_fetched_one_shard_a_split_is_looked_at(tmp_path: Path) -> None:
    set_with_stats(tmp_path / "d", {"train": EVEN, "val": [90, 92]}, L1C)
    with serving(tmp_path / "d") as web:
        assert plan(tmp_path, web.url, f"data.cache_dir={tmp_path / 'cache'}")
    shards = sorted(path.name for path in (tmp_path / "cache").rglob("*.tar"))
    assert shards == ["train-000000.tar", "val-000000.tar"]


def test_a_dataset_without_statistics(tmp_path: Path) -> None:
    set_with_stats(tmp_path / "d", {"train": [*EVEN, *ODD]}, {name: STATS[name] for name in STATS if name != "aster"})
    with pytest.raises(InputError, match=r"20 train tiles cannot be normalised .* no entry 'aster', which depth need"):
        plan(tmp_path, f"{tmp_path / 'd'}")
