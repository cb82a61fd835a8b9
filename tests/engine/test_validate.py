"""Validation: means over the tiles that can be scored, and which of them are lost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist

from mmae.data.transforms.preprocess import Preprocess
from mmae.engine.module import PretrainModule
from mmae.engine.validate import Validation, validate
from mmae.types import Batch
from tests.support.step_case import STATS, VARIANT, config, cut, tiles

CFG = config()


@pytest.fixture(autouse=True)
def group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Engine(PretrainModule):
    device = torch.device("cpu")

    @property
    def module(self) -> Engine:
        return self


def found_on(batches: list[Batch], spoil: Callable[[Engine], None] | None = None) -> Validation:
    engine = Engine(CFG.model, VARIANT, seed=1)
    if spoil is not None:
        with torch.no_grad():
            spoil(engine)
    return validate(cast(Any, engine), batches, Preprocess(CFG.data, CFG.model, STATS, torch.device("cpu")), CFG)


def test_an_output_that_no_tile_can_be_scored_on_has_no_loss() -> None:
    batch = tiles(8)
    without = {**batch.pixels, "esa_worldcover": torch.zeros_like(batch.pixels["esa_worldcover"])}
    found = found_on(cut(replace(batch, pixels=without), 2))
    assert found.losses["semseg"] is None
    assert found.scored["semseg"] == 0
    assert all(loss is not None and math.isfinite(loss) for name, loss in found.losses.items() if name != "semseg")
    assert (found.lost, found.lost_rows, found.diverged) == ({}, {}, [])


def test_how_tiles_are_cut_into_batches_changes_nothing() -> None:
    whole, spread = found_on([tiles(8)]), found_on(cut(tiles(8), 4))
    assert spread.losses == pytest.approx(whole.losses)
    assert spread.scored == whole.scored


def test_weights_that_have_diverged_lose_every_tile_of_an_output() -> None:
    def spoil(engine: Engine) -> None:
        for name, parameter in engine.model.named_parameters():
            if "decoders" in name:
                parameter.fill_(1e30)

    found = found_on(cut(tiles(8), 2), spoil)
    assert "rgb" in found.diverged
    loss = found.losses["rgb"]
    assert loss is not None
    assert not math.isfinite(loss)
    assert len(found.lost_rows["rgb"]) == found.lost["rgb"] == found.scored["rgb"] > 0


def test_a_lost_tile_is_named_and_is_not_a_divergence(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs_of = Preprocess.__call__

    def spoilt(self: Preprocess, batch: Batch, train: bool) -> Any:
        inputs = inputs_of(self, batch, train=train)
        inputs.values["rgb"][batch.row_B == 5] = 3e38
        return inputs

    monkeypatch.setattr(Preprocess, "__call__", spoilt)
    found = found_on(cut(tiles(8), 2))
    assert found.lost["rgb"] == 1
    assert found.lost_rows["rgb"] == [5]
    assert "rgb" not in found.diverged
    # A tile that only fills a batch counts nowhere.
    batch = tiles(8)
    real_B = batch.real_B.clone()
    real_B[5] = False
    assert "rgb" not in found_on([replace(batch, real_B=real_B)]).lost
