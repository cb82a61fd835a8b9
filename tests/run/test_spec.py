"""What a start of training checks of its data, and which checkpoint it goes on from."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from mmae.data.sampling.order import ORDER_VERSION
from mmae.engine.checkpoint.contents.train_state import TrainState
from mmae.engine.checkpoint.resume import find
from mmae.errors import InputError
from mmae.run.layout import LATEST, STATE
from mmae.run.spec import RunSpec, make_run_spec
from tests.support.small_model import SMALL
from tests.support.tiny_sets import STATS, write_set


@pytest.fixture
def sets(tmp_path: Path) -> list[Path]:
    write_set(tmp_path / "one", {"train": list(range(9)), "val": [90]})
    write_set(tmp_path / "two", {"train": list(range(20, 30))})
    return [tmp_path / "one", tmp_path / "two"]


def plan(folder: Path, *overrides: str, run: str = "run") -> RunSpec:
    return make_run_spec("debug", "zero1", [*SMALL, f"run.dir={folder / run}", *overrides], world=2)


def shards(*sets: Path) -> str:
    return f"data.shards=[{', '.join(map(str, sets))}]"


def trained(planned: RunSpec, step: int = 6) -> None:
    """Leave a run folder as a training of this plan does, without weights."""
    planned.folder.write_configs(planned.config, planned.ds_config, planned.band_stats)
    checkpoint = planned.folder.checkpoints / f"global_step{step}"
    checkpoint.mkdir(parents=True)
    fingerprints = " ".join(each.index.fingerprint for each in planned.tiles.sets)
    state = TrainState(step, 0, 2, 1, "bf16", fingerprints, ORDER_VERSION, {"mmae": "0"}, planned.tiles.keys)
    (checkpoint / STATE).write_text(json.dumps(asdict(state)))
    (planned.folder.checkpoints / LATEST).write_text(checkpoint.name)


def test_an_epoch_is_as_long_as_the_weights_say(tmp_path: Path, sets: list[Path]) -> None:
    assert plan(tmp_path, f"data.shards={sets[0]}").order.num_tiles == 9
    assert plan(tmp_path, shards(*sets)).order.num_tiles == 19
    both = plan(tmp_path, shards(*sets), "data.weights=[2, 0.5]", "data.max_tiles=4")
    assert both.order.num_tiles == 10
    assert both.order.steps_per_epoch == 2


def test_no_shards_and_too_few_tiles_are_named(tmp_path: Path, sets: list[Path]) -> None:
    for nothing in ("data.shards=[]", "data.shards="):
        with pytest.raises(InputError, match=r"data\.shards"):
            plan(tmp_path, nothing)
    with pytest.raises(InputError, match=r"train\.global_batch=4 .* 2 training tiles"):
        plan(tmp_path, f"data.shards={sets[0]}", "data.fraction=0.2")


def test_statistics_are_the_first_sets_or_those_of_a_file(tmp_path: Path, sets: list[Path]) -> None:
    assert plan(tmp_path, shards(*sets)).band_stats == STATS
    file = tmp_path / "stats.json"
    file.write_text(json.dumps({**STATS, "aster": {"mean": [5, 5], "std": [1, 1]}}))
    assert plan(tmp_path, shards(*sets), f"data.band_stats={file}").band_stats["aster"]["mean"] == [5, 5]
    file.write_text(json.dumps({"aster": {"mean": [5, 5], "std": [1, 1]}}))
    with pytest.raises(InputError, match="no entry 'sentinel2_l1c'"):
        plan(tmp_path, shards(*sets), f"data.band_stats={file}")


def test_the_same_data_elsewhere_is_gone_on_with(tmp_path: Path, sets: list[Path]) -> None:
    keys, stats = tmp_path / "keys", tmp_path / "stats.json"
    keys.write_text("tile-1\ntile-2\ntile-3\ntile-25\n")
    stats.write_text(json.dumps(dict(STATS)))
    trained(plan(tmp_path, shards(*sets), f"data.keys={keys}"))
    moved = sets[0].rename(tmp_path / "moved")
    elsewhere = tmp_path / "same"
    elsewhere.write_text("tile-25\n\ntile-3\ntile-1\ntile-2")
    found = find(plan(tmp_path, shards(moved, sets[1]), f"data.keys={elsewhere}", f"data.band_stats={stats}"))
    assert found is not None
    assert found.state.step == 6


@pytest.mark.long
def test_other_data_is_refused(tmp_path: Path, sets: list[Path]) -> None:
    three = tmp_path / "three"
    write_set(three, {"train": list(range(40, 50))})
    keys, stats = tmp_path / "keys", tmp_path / "stats.json"
    keys.write_text("\n".join(f"tile-{row}" for row in range(9)))
    stats.write_text(json.dumps({**STATS, "aster": {"mean": [5, 5], "std": [1, 1]}}))
    trained(plan(tmp_path, shards(*sets)))
    for overrides, says in (
        ((shards(sets[0], three),), "other shards .*three"),
        ((shards(sets[1], sets[0]),), "other shards"),
        ((shards(sets[0]),), "trained on 2 shard sets, data.shards names 1"),
        ((shards(*sets), f"data.keys={keys}"), "another list of tiles"),
        ((shards(*sets), f"data.band_stats={stats}"), r"other band statistics: set data\.band_stats=.*run/band_stats"),
    ):
        with pytest.raises(InputError, match=says):
            find(plan(tmp_path, *overrides))
    kept = tmp_path / "run" / "band_stats.json"
    assert find(plan(tmp_path, shards(*sets), f"data.band_stats={kept}")) is not None


@pytest.mark.long
@pytest.mark.parametrize("changed", ["data.weights=[1, 2]", "data.fraction=0.9", "data.window=1", "data.max_tiles=5"])
def test_what_an_epoch_holds_cannot_change(tmp_path: Path, sets: list[Path], changed: str) -> None:
    trained(plan(tmp_path, shards(*sets)))
    with pytest.raises(InputError, match=rf"{changed.partition('=')[0]} is .* it cannot change on resume"):
        plan(tmp_path, shards(*sets), changed)


def test_how_damage_is_met_may_change(tmp_path: Path, sets: list[Path]) -> None:
    trained(plan(tmp_path, shards(*sets)))
    assert find(plan(tmp_path, shards(*sets), "data.on_damage=skip", "data.cache_gb=1", "data.workers=0")) is not None
