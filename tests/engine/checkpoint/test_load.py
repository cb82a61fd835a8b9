"""What a start loads: as it is, or converted, and refused where DeepSpeed finds another step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mmae.config.schema import TrainConfig
from mmae.engine.checkpoint.contents.rng_state import generator_state
from mmae.engine.checkpoint.load import ResumePoint, difference, load, state_at
from mmae.engine.optim import build_scheduler
from mmae.errors import InputError
from mmae.run.spec import RunSpec, make_run_spec
from tests.support.small_model import SMALL
from tests.support.tiny_sets import write_set

# A checkpoint notes the commit of the code, which git is asked for.
pytestmark = pytest.mark.process


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first rank, without a process group."""
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 0)


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    write_set(tmp_path / "shards", {"train": list(range(9))})
    return make_run_spec("debug", "zero1", [*SMALL, f"data.shards={tmp_path / 'shards'}", "run.dir=run"], 2)


def test_a_start_of_the_same_kind_does_not_differ(spec: RunSpec) -> None:
    state = state_at(spec, 5)
    assert (state.step, state.tiles_seen, state.world) == (5, 20, 2)
    assert state.shards == spec.tiles.sets[0].index.fingerprint
    assert difference(spec, state) == ""


def test_every_difference_is_named(spec: RunSpec) -> None:
    state = replace(state_at(spec, 5), world=1, zero_stage=3, precision="odd")
    assert difference(spec, state) == f"1 rank -> 2 ranks, ZeRO-3 -> ZeRO-1, odd -> {spec.precision}"


class FakeEngine:
    """Loads a step, and a learning rate that is not the recipe's."""

    global_steps = 0

    def __init__(self, finds: int | None) -> None:
        self.finds = finds
        self.module = nn.Linear(2, 2)
        train = TrainConfig()
        self.basic_optimizer = torch.optim.AdamW(self.module.parameters(), lr=1.0, weight_decay=0.05)
        self.lr_scheduler = build_scheduler(self.basic_optimizer, train)

    def load_checkpoint(self, folder: str, tag: str) -> tuple[str | None, dict[str, Any]]:
        if self.finds is None:
            return None, {}
        self.global_steps = self.finds
        self.basic_optimizer.param_groups[0]["weight_decay"] = 0.5
        return f"{folder}/{tag}", {}


def load_step_5(spec: RunSpec, folder: Path, finds: int | None) -> Any:
    found = ResumePoint(folder / "global_step5", state_at(spec, 5))
    return load(cast(Any, FakeEngine(finds)), spec, found)


def test_the_recipe_s_hyper_parameters_hold(spec: RunSpec, tmp_path: Path) -> None:
    loaded = load_step_5(spec, tmp_path, 5)
    assert loaded.step == 5
    assert loaded.reapplied == ("group 0: weight_decay 0.5 -> 0.05",)


@pytest.mark.parametrize("finds", [None, 4])
def test_another_step_than_the_state_says_is_refused(spec: RunSpec, tmp_path: Path, finds: int | None) -> None:
    with pytest.raises(InputError, match="DeepSpeed could not load step 5 from it"):
        load_step_5(spec, tmp_path, finds)


def test_random_numbers_go_on(spec: RunSpec, tmp_path: Path) -> None:
    (tmp_path / "global_step5").mkdir()
    save_file(generator_state(), tmp_path / "global_step5" / "rng_rank_0.safetensors")
    expected = torch.rand(3)
    load_step_5(spec, tmp_path, 5)
    assert torch.equal(torch.rand(3), expected)
