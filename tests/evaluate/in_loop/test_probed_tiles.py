"""The tiles of probes: the same for every number of ranks, drawn by the seed, and read once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mmae.errors import InputError
from mmae.evaluate.in_loop.probed_tiles import choose, read_share, seen_modalities
from mmae.run.spec import RunSpec, make_run_spec
from tests.support.small_model import SMALL
from tests.support.tiny_sets import damage, write_set

TRAIN, VAL = list(range(40)), list(range(50, 62))


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    write_set(tmp_path / "shards", {"train": TRAIN, "val": VAL})
    return tmp_path / "shards"


def spec_of(shards: Path, *overrides: str) -> RunSpec:
    words = [*SMALL, f"data.shards={shards}", f"run.dir={shards.parent / 'run'}", "data.check_units=false", *overrides]
    return make_run_spec("debug", "zero1", words, 1)


def rows(spec: RunSpec) -> tuple[list[int], list[int]]:
    """Source rows of the fitted and of the scored tiles."""
    chosen = choose(spec)
    row_S = spec.tiles.sets[0].index.row[chosen.places.tile_B].tolist()
    return row_S[: chosen.fitted], row_S[chosen.fitted :]


def test_half_of_the_tiles_are_of_val_and_the_seed_draws_them(shards: Path) -> None:
    fitted, scored = rows(spec_of(shards, "eval.tiles=10"))
    assert (len(fitted), len(scored)) == (5, 5)
    assert set(fitted) < set(TRAIN)
    assert set(scored) < set(VAL)
    assert rows(spec_of(shards, "eval.tiles=10")) == (fitted, scored)
    assert rows(spec_of(shards, "eval.tiles=10", "eval.seed=1")) != (fitted, scored)
    # A larger choice holds the smaller one.
    more = rows(spec_of(shards, "eval.tiles=16"))
    assert (more[0][:5], more[1][:5]) == (fitted, scored)


def test_a_small_val_leaves_more_tiles_to_fit(shards: Path) -> None:
    fitted, scored = rows(spec_of(shards, "eval.tiles=48"))
    assert (len(fitted), sorted(scored)) == (36, VAL)
    fitted, scored = rows(spec_of(shards))
    assert (sorted(fitted), sorted(scored)) == (TRAIN, VAL)


def test_only_tiles_that_training_takes_are_fitted(shards: Path) -> None:
    fitted, _ = rows(spec_of(shards, "data.max_tiles=6"))
    assert sorted(fitted) == TRAIN[:6]


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_tiles(shards: Path, world: int) -> None:
    spec = spec_of(shards, "eval.tiles=15")
    chosen = choose(spec)
    whole = read_share(spec, chosen, ["depth"], 0, 1)
    row_S = torch.cat([each.row_B for each in whole.stored])
    assert row_S.tolist() == spec.tiles.sets[0].index.row[chosen.places.tile_B].tolist()
    for rank in range(world):
        share = read_share(spec, chosen, ["depth"], rank, world)
        assert torch.cat([each.row_B for each in share.stored]).tolist() == row_S[rank::world].tolist()
        values = torch.cat([each.values["rgb"] for each in share.inputs])
        assert torch.equal(values, torch.cat([each.values["rgb"] for each in whole.inputs])[rank::world])
        assert set(share.stored[0].pixels) == {"aster"}
        assert share.usable().all()


def test_a_damaged_tile_is_left_out_or_refused_as_the_recipe_says(shards: Path) -> None:
    spec = spec_of(shards)
    damage(spec.tiles.sets[0].index, 7, "sentinel2")
    with pytest.raises(InputError, match=r"of row 7 .* is damaged"):
        read_share(spec, choose(spec), [], 0, 1)
    spec = spec_of(shards, "data.on_damage=skip")
    chosen = choose(spec)
    usable_B = read_share(spec, chosen, [], 0, 1).usable()
    row_S = spec.tiles.sets[0].index.row[chosen.places.tile_B]
    assert row_S[~usable_B.numpy()].tolist() == [7]


def test_more_ranks_than_tiles_leave_some_without(shards: Path) -> None:
    spec = spec_of(shards, "eval.tiles=2")
    share = read_share(spec, choose(spec), ["depth"], 5, 8)
    assert (len(share.inputs), len(share.usable()), len(share.biome_B)) == (0, 0, 0)


def test_without_val_or_something_to_look_at_there_are_no_probes(tmp_path: Path, shards: Path) -> None:
    write_set(tmp_path / "train_only", {"train": TRAIN})
    with pytest.raises(InputError, match=r"eval\.every needs tiles in a split val"):
        choose(spec_of(tmp_path / "train_only"))
    spec = spec_of(shards, "model.in_domains=[depth,slope]")
    with pytest.raises(InputError, match=r"eval\.every needs an encoder with one of the inputs rgb"):
        seen_modalities(spec)


def test_what_is_predicted_is_never_shown(shards: Path) -> None:
    spec = spec_of(shards)
    assert spec.config.model.in_domains == ("rgb", "depth")
    (first, *_) = read_share(spec, choose(spec), ["depth"], 0, 1).inputs
    assert set(first.values) == {"rgb"}
    assert np.isfinite(first.values["rgb"].numpy()).all()
