"""Bytes that training sends over the network, by each rank in a step.

As deepspeed 0.19.8 does it, counted in real engines (`tests/support/carried_bytes.py`). Of a whole of S bytes a
reduction that all ranks need sends 2 (N - 1) / N S on each rank's link, and one that scatters or gathers it half of
that: what nccl-tests calls bus bytes (its doc/PERFORMANCE.md), so that they divide by a bus bandwidth.

At stages 1 and 2 every rank gets all reduced gradients, of which it keeps its part, and then the new weights.
At stage 2 and 3 gradients are reduced for every micro-batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from mmae.config.deepspeed_schema import DeepSpeedJson
from mmae.plan.states import BUCKET, gathered, kept_whole

NUMBER_BYTES: Final = {"bf16": 2, "fp16": 2, "fp32": 4}
"""Of one number in each dtype that DeepSpeed computes or communicates in."""


def traffic_bytes(
    sizes: Mapping[str, int],
    parsed: DeepSpeedJson,
    world: int,
    number_bytes: int,
    accumulation: int,
    frozen: Mapping[str, int] = MappingProxyType({}),
) -> int:
    """Bus bytes of one of `world` ranks in a step, at most: stage 3 may find weights still gathered.

    Args:
        sizes: numbers in each learned tensor.
        number_bytes: bytes of a number in the weights' dtype: 2 or 4.
        accumulation: micro-batches a step.
        frozen: numbers in each tensor that does not learn. Only stage 3 sends them.
    """
    zero, numbers = parsed.zero_optimization, sum(sizes.values())
    weights, gradients = numbers * number_bytes, numbers * reduced_bytes(parsed, number_bytes)
    match zero.stage:
        case 0:
            whole = 2 * gradients
        case 1:
            whole = 2 * gradients + weights
        case 2:
            whole = accumulation * 2 * gradients + weights
        case _:
            held = {**sizes, **frozen}
            numbers = sum(held.values())
            small = kept_whole(held, zero, world)
            # If all weights may stay gathered, the backward pass finds them. Small tensors are gathered once a step.
            times = 1 if gathered(held, zero, world) >= numbers - small else 2
            whole = accumulation * (gradients + times * (numbers - small) * number_bytes) + small * number_bytes
    return whole * (world - 1) // world


def reduced_bytes(parsed: DeepSpeedJson, number_bytes: int) -> int:
    """Bytes of one number of the gradients on the network."""
    said = parsed.communication_data_type
    return number_bytes if said is None else NUMBER_BYTES[said]


def bucket_bytes(sizes: Mapping[str, int], parsed: DeepSpeedJson, number_bytes: int) -> int:
    """Numbers of the gradients that are reduced at once."""
    said = parsed.zero_optimization.reduce_bucket_size if parsed.zero_optimization.stage else None
    return min(sum(sizes.values()), BUCKET if said is None else int(said)) * reduced_bytes(parsed, number_bytes)
