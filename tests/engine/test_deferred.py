"""Values that are read late: when, in which order, and unchanged to the last bit."""

from __future__ import annotations

import math

import pytest
import torch

from mmae.engine.deferred import DEFERRED_STEPS, DeferredValues


def scalar(value: float) -> dict[str, torch.Tensor]:
    return {"x": torch.tensor(value)}


def test_nothing_is_read_before_its_time() -> None:
    late: DeferredValues[str] = DeferredValues()
    for step in range(1, 5):
        late.add(step, f"step {step}", scalar(step))
        assert [tag for tag, _ in late.due(step)] == (
            [f"step {step - DEFERRED_STEPS}"] if step > DEFERRED_STEPS else []
        )
    assert [tag for tag, _ in late.drain()] == ["step 3", "step 4"]
    assert list(late.drain()) == []


def test_steps_without_a_value_count_too() -> None:
    late: DeferredValues[int] = DeferredValues()
    late.add(10, 10, scalar(1.5))
    assert list(late.due(11)) == []
    assert list(late.due(12)) == [(10, {"x": [1.5]})]
    late.add(20, 20, scalar(1))
    late.add(21, 21, scalar(2))
    assert [tag for tag, _ in late.due(40)] == [20, 21]


def test_every_bit_arrives() -> None:
    third, tiny = torch.tensor(1 / 3), torch.tensor(1e-45)
    tensors = {
        "float32": torch.stack([third, tiny]),
        "bfloat16": torch.tensor([1.0078125], dtype=torch.bfloat16),
        "int64": torch.tensor([[2**52 + 1], [-7]]),
        "none": torch.empty(0),
        "lost": torch.tensor([math.inf, -math.inf, math.nan]),
    }
    late: DeferredValues[None] = DeferredValues()
    late.add(1, None, tensors)
    ((_, values),) = late.drain()
    assert values["float32"] == [third.item(), tiny.item()]
    assert values["bfloat16"] == [1.0078125]
    assert values["int64"] == [2**52 + 1, -7]
    assert values["none"] == []
    assert values["lost"][:2] == [math.inf, -math.inf]
    assert math.isnan(values["lost"][2])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_tensor_may_be_used_again_at_once(dtype: torch.dtype) -> None:
    loss = torch.tensor(1.0, dtype=dtype, requires_grad=True)
    late: DeferredValues[None] = DeferredValues()
    late.add(1, None, {"loss": loss})
    with torch.no_grad():
        loss.mul_(3)
    assert list(late.arrived()) == [(None, {"loss": [1.0]})]


@pytest.mark.gpu
def test_a_gpu_is_not_waited_for() -> None:
    device = torch.device("cuda")
    late: DeferredValues[int] = DeferredValues()
    busy = torch.randn(4096, 4096, device=device)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(50):
            busy = busy @ busy * 1e-3
        late.add(1, 1, {"x": torch.full((2,), 1.5, device=device), "y": busy[0, 0]})
        assert list(late.arrived()) == []
    finally:
        torch.cuda.set_sync_debug_mode("default")
    ((_, values),) = late.drain()
    assert values["x"] == [1.5, 1.5]
