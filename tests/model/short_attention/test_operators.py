"""The kernels in Triton's interpreter, beside attention in float64; and a whole model, beside torch's kernels."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support.commands import command_environment
from tests.support.paths import ROOT

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is missing"),
]

# The interpreter cuts a number to bfloat16, where GPUs round it: twice the error. Seen: 7e-7, 7e-4, 1.4e-2.
BOUNDS = {"float32": 3e-6, "float16": 2e-3, "bfloat16": 3e-2}
MODEL_BOUND = 1e-5
"""Of a whole model in float32. Seen: 2e-6."""


def checked(*checks: str) -> Any:
    """Errors by check and case, from a process that interprets the kernels."""
    words = [sys.executable, "-m", "tests.support.interpreted_attention", *checks]
    environment = command_environment(TRITON_INTERPRET="1")
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def errors() -> Any:
    return checked("widths", "lengths", "layouts", "stacked", "model", "calls")


def assert_small(found: dict[str, float]) -> None:
    too_large = {case: error for case, error in found.items() if not error <= bound(case)}
    assert found
    assert too_large == {}


def bound(case: str) -> float:
    return BOUNDS.get(case.partition(",")[0], BOUNDS["float32"])


def test_heads_of_every_size_agree_with_float64(errors: Any) -> None:
    assert len(errors["widths"]) == 6
    assert {case.partition(",")[0] for case in errors["widths"]} == BOUNDS.keys()
    assert_small(errors["widths"])


def test_any_lengths_and_widths_agree_with_float64(errors: Any) -> None:
    assert_small(errors["lengths"])


def test_tensors_are_read_where_they_lie_or_copied(errors: Any) -> None:
    assert_small(errors["layouts"])


def test_stacked_layers_agree_with_torch_s(errors: Any) -> None:
    assert_small(errors["stacked"])


def test_a_whole_model_agrees_with_torch_s(errors: Any) -> None:
    assert 0 < errors["model"]["short"] <= MODEL_BOUND


def test_selective_recomputation_keeps_attention_s_results(errors: Any) -> None:
    """Two encoder blocks, a cross-attention and a decoder block; all but the cross-attention are recomputed in full."""
    assert errors["calls"] == {"none": 4, "selective": 4, "full": 7}


@pytest.mark.slow
def test_much_agrees_with_float64() -> None:
    found = checked("all_widths", "sweep", "bench", "recomputed")
    assert len(found["sweep"]) == 300
    for check in ("all_widths", "sweep", "bench"):
        assert_small(found[check])
    assert max(found["recomputed"].values()) <= MODEL_BOUND
