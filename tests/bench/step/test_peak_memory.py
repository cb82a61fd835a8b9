from __future__ import annotations

import pytest
import torch

from mmae.bench.step.peak_memory import in_use, peak_during

CPU = torch.device("cpu")
MIB = 1 << 20


@pytest.fixture(autouse=True)
def linux() -> None:
    if peak_during(lambda: None, CPU) is None:
        pytest.skip("this system does not tell a process's peak memory")


def test_freed_memory_counts_only_in_the_peak() -> None:
    before = in_use(CPU)
    peak = peak_during(lambda: torch.ones(64 * MIB), CPU)
    assert peak is not None
    assert peak - before == pytest.approx(256 * MIB, abs=16 * MIB)
    assert in_use(CPU) - before < 16 * MIB


def test_an_earlier_peak_is_forgotten() -> None:
    peak_during(lambda: torch.ones(64 * MIB), CPU)
    before = in_use(CPU)
    peak = peak_during(lambda: torch.ones(MIB), CPU)
    assert peak is not None
    assert peak - before < 32 * MIB
