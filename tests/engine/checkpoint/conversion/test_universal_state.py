"""A checkpoint's state by name: from both layouts of stage 0, and from DeepSpeed's converted files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmae.engine.checkpoint.consolidate import consolidated_weights
from mmae.engine.checkpoint.conversion.universal_state import MOMENTS, FullState, ParameterState, read_stage_0
from mmae.errors import InputError

GROUPS = [["b"], ["a", "c"]]
WEIGHTS = {"a": torch.arange(4.0).view(2, 2), "b": torch.full((3,), 0.5), "c": torch.ones(1)}
ORDER = [name for group in GROUPS for name in group]


def moment(name: str, key: str) -> Tensor:
    return WEIGHTS[name] + 10 * (1 + MOMENTS.index(key))


def stored(mixed: bool) -> dict[str, Any]:
    states = {
        i: {"step": torch.tensor(3.0), **{key: moment(name, key) for key in MOMENTS}} for i, name in enumerate(ORDER)
    }
    low = {name: (weight + 0.25).bfloat16() for name, weight in WEIGHTS.items()}
    if not mixed:
        return {"module": WEIGHTS, "optimizer": {"state": states}}
    masters = [[WEIGHTS[name] for name in group] for group in GROUPS]
    return {"module": low, "optimizer": {"fp32_groups": masters, "optimizer_state_dict": {"state": states}}}


def check(state: ParameterState, name: str) -> None:
    assert torch.equal(state.weight, WEIGHTS[name].flatten())
    assert state.moments.keys() == set(MOMENTS)
    assert all(torch.equal(value, moment(name, key).flatten()) for key, value in state.moments.items())


@pytest.mark.parametrize("mixed", [False, True])
def test_stage_0_holds_whole_tensors_in_the_order_of_groups(mixed: bool, tmp_path: Path) -> None:
    torch.save(stored(mixed), tmp_path / "mp_rank_00_model_states.pt")
    found = read_stage_0(tmp_path, GROUPS)
    assert found.keys() == WEIGHTS.keys()
    for name in WEIGHTS:
        check(FullState(None, found)[name], name)
        assert found[name].updates == 3
    weights = consolidated_weights(tmp_path, 0, GROUPS)
    assert all(torch.equal(weights[name], WEIGHTS[name].flatten()) for name in WEIGHTS)


@pytest.mark.parametrize("wrapped", [False, True])
def test_converted_files_are_read_one_parameter_at_a_time(wrapped: bool, tmp_path: Path) -> None:
    (tmp_path / "zero" / "a").mkdir(parents=True)
    for kind, value in {"fp32": WEIGHTS["a"], **{key: moment("a", key) for key in MOMENTS}}.items():
        torch.save({"param": value} if wrapped else value, tmp_path / "zero" / "a" / f"{kind}.pt")
    state = FullState(tmp_path)
    check(state["a"], "a")
    # ZeRO-3's files do not say how often AdamW has changed it.
    without = state["a"].updates
    assert without is None
    torch.save(torch.tensor(3.0), tmp_path / "zero" / "a" / "step.pt")
    with_count = state["a"].updates
    assert with_count == 3
    with pytest.raises(InputError, match="the converted checkpoint lacks b"):
        state["b"]
