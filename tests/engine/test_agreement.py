"""Numbers that are read two steps late, in order, each once."""

from __future__ import annotations

import torch

from mmae.engine.agreement import LATE_STEPS, LateNumbers


def test_numbers_are_read_late_and_once() -> None:
    late: LateNumbers[str] = LateNumbers()
    seen = []
    for step in range(1, 6):
        late.push(step, torch.tensor([float(step)]), f"of {step}")
        seen.append(list(late.due(step)))
    assert LATE_STEPS == 2
    assert seen == [[], [], [(1, [1.0], "of 1")], [(2, [2.0], "of 2")], [(3, [3.0], "of 3")]]
    assert [step for step, _, _ in late.drain()] == [4, 5]
    assert list(late.drain()) == []
    assert list(late.due(99)) == []


def test_what_becomes_of_a_tensor_later_does_not_matter() -> None:
    late: LateNumbers[None] = LateNumbers()
    numbers = torch.ones(2)
    late.push(1, numbers, None)
    numbers.zero_()
    assert list(late.drain()) == [(1, [1.0, 1.0], None)]
