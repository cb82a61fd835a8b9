"""Memory for the states of a model on each rank: weights, gradients, optimiser, and DeepSpeed's buffers.

As deepspeed 0.19.8 allocates them under `mmae.config.deepspeed`, with torch's AdamW. P numbers, N ranks, b bytes of a
number in the weights' dtype; the optimiser's numbers are float32 (Rajbhandari et al., SC 2020, section 3, whose count
leaves out what the optimiser's step adds for a moment: the gradients once more, flat, and once more in float32).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from mmae.config.deepspeed_schema import Zero
from mmae.plan.activations import FLOAT

MOMENTS: Final = 2 * FLOAT
FULLY_SHARDED: Final = 3
"""The ZeRO stage that divides weights, too."""
BUCKET: Final = 500_000_000
"""Numbers reduced at a time by default, and always at stage 0 (DeepSpeed's defaults)."""
_FETCHED: Final = 50_000_000
_KEPT_WHOLE: Final = 100_000
_LIVE: Final = 1_000_000_000
_SUB_GROUP: Final = 1_000_000_000
_MUON_STEP: Final = 5 * FLOAT
"""Bytes a number of the tensor that Muon is at: new momentum, what is made orthogonal, and products of matrices."""


@dataclass(frozen=True)
class StateBytes:
    """Bytes of one rank, on its device but for `host`.

    Attributes:
        weights: as the model computes with them, or this rank's part.
        optimiser: master weights and moments that lie on the device, and averaged weights.
        buffers: held through the forward and backward pass for communication: buckets, gathered weights.
        first_gradients: gradients that exist when the last micro-batch's backward pass begins.
        last_gradients: gradients that exist when it ends, with the memory that reducing them takes.
        optimiser_moment: on top of weights and optimiser during the optimiser's step, gradients included.
        host: in the host's memory.
    """

    weights: int
    optimiser: int
    buffers: int
    first_gradients: int
    last_gradients: int
    optimiser_moment: int
    host: int

    @property
    def steady(self) -> int:
        """Bytes between two steps, without communication buffers."""
        return self.weights + self.optimiser


def with_average(states: StateBytes, sizes: Mapping[str, int], zero: Zero, world: int) -> StateBytes:
    """The memory of a rank that also keeps averaged weights (`train.ema`), in float32 beside its master weights."""
    match zero.stage:
        case 0:
            own = sum(sizes.values())
        case 3:
            own = _own_part(sizes, world)
        case _:
            own = -(-sum(sizes.values()) // world)
    if _off_device(zero.offload_optimizer):
        return replace(states, host=states.host + FLOAT * own)
    return replace(states, optimiser=states.optimiser + FLOAT * own)


def with_muon(states: StateBytes, sizes: Mapping[str, int]) -> StateBytes:
    """The memory of a rank whose optimiser is Muon. It holds as much as AdamW, and multiplies a tensor at a time."""
    return replace(states, optimiser_moment=states.optimiser_moment + _MUON_STEP * max(sizes.values()))


def with_graphs(states: StateBytes, sizes: Mapping[str, int], number_bytes: int) -> StateBytes:
    """The memory of a rank that replays CUDA graphs, at most: the memory of all gradients stays with them."""
    own = sum(sizes.values()) * number_bytes
    return replace(states, buffers=states.buffers + own, optimiser_moment=states.optimiser_moment + own)


def with_frozen(
    states: StateBytes, learned: Mapping[str, int], frozen: Mapping[str, int], zero: Zero, world: int, number_bytes: int
) -> StateBytes:
    """The memory of a rank of which some tensors do not learn (`train.frozen`): they are weights, and nothing else.

    Args:
        states: of the learned tensors alone.
    """
    if zero.stage != FULLY_SHARDED:
        return replace(states, weights=states.weights + sum(frozen.values()) * number_bytes)
    part = _own_part(frozen, world) * number_bytes
    sizes = {**learned, **frozen}
    whole = (kept_whole(sizes, zero, world) - kept_whole(learned, zero, world)) * number_bytes
    fetched = (gathered(sizes, zero, world) - gathered(learned, zero, world)) * number_bytes
    weights_off = _off_device(zero.offload_param)
    return replace(
        states,
        weights=states.weights + whole + (0 if weights_off else part),
        buffers=states.buffers + fetched,
        optimiser_moment=states.optimiser_moment - whole,
        host=states.host + (part if weights_off else 0),
    )


def state_bytes(
    sizes: Mapping[str, int],
    zero: Zero,
    world: int,
    number_bytes: int,
    accumulation: int,
    sum_bytes: int | None = None,
    direct: bool = False,
) -> StateBytes:
    """The memory that one of `world` ranks holds.

    Args:
        sizes: numbers in each learned tensor.
        number_bytes: bytes of a number in the weights' dtype: 2 or 4.
        accumulation: micro-batches a step.
        sum_bytes: bytes of a number in the dtype in which gradients add up. None: the weights'.
        direct: `train.direct_gradients`.
    """
    sum_bytes = number_bytes if sum_bytes is None else sum_bytes
    match zero.stage:
        case 0:
            return _unsharded(sum(sizes.values()), number_bytes, accumulation)
        case 3:
            return _sharded(sizes, zero, world, number_bytes, sum_bytes)
        case _ if sum_bytes == FLOAT != number_bytes:
            return _summed_in_float(sizes, zero, world, number_bytes, accumulation)
        case _ if direct and world == 1 and not _off_device(zero.offload_optimizer):
            return _handed_over(sizes, zero, number_bytes, accumulation)
        case _:
            return _optimiser_sharded(sizes, zero, world, number_bytes, accumulation)


def _unsharded(numbers: int, number_bytes: int, accumulation: int) -> StateBytes:
    weights = numbers * number_bytes
    mixed = number_bytes != FLOAT
    return StateBytes(
        weights=weights,
        optimiser=numbers * (MOMENTS + (FLOAT if mixed else 0)),
        buffers=0,
        first_gradients=weights if accumulation > 1 else 0,
        # Gradients are copied into a bucket to be reduced.
        last_gradients=weights + min(numbers, BUCKET) * number_bytes,
        optimiser_moment=weights + (numbers * FLOAT if mixed else 0),
        host=0,
    )


def _optimiser_sharded(
    sizes: Mapping[str, int], zero: Zero, world: int, number_bytes: int, accumulation: int
) -> StateBytes:
    numbers = sum(sizes.values())
    own = -(-numbers // world)
    weights, part = numbers * number_bytes, own * number_bytes
    states = own * (FLOAT + MOMENTS)
    buckets = 2 if zero.overlap_comm else 1
    bucket = int(_said(zero.reduce_bucket_size, BUCKET)) * number_bytes
    buffers = buckets * bucket if zero.contiguous_gradients else 0
    every_gradient = weights if zero.stage == 1 else part
    if _off_device(zero.offload_optimizer):
        largest = max(sizes.values()) * number_bytes
        return StateBytes(
            weights=weights + largest,
            optimiser=0,
            buffers=buffers,
            first_gradients=weights if zero.stage == 1 and accumulation > 1 else 0,
            last_gradients=part,
            optimiser_moment=0,
            # Gradients in float32, the new weights, and a tensor's gradient on its way.
            host=states + own * FLOAT + part + largest,
        )
    return StateBytes(
        weights=weights,
        optimiser=states,
        buffers=buffers,
        first_gradients=every_gradient if accumulation > 1 else 0,
        last_gradients=part * (2 if zero.stage == 2 and accumulation > 1 else 1),
        # This rank's gradients, once more flat, and once more in float32 where they are not yet.
        optimiser_moment=2 * part + (own * FLOAT if number_bytes != FLOAT else 0),
        host=0,
    )


def _handed_over(sizes: Mapping[str, int], zero: Zero, number_bytes: int, accumulation: int) -> StateBytes:
    """Stage 1 or 2 on one rank, whose gradients are copied once, to float32."""
    plain, numbers = _optimiser_sharded(sizes, zero, 1, number_bytes, accumulation), sum(sizes.values())
    gradients = numbers * number_bytes
    return replace(plain, buffers=0, last_gradients=gradients, optimiser_moment=gradients + numbers * FLOAT)


def _summed_in_float(
    sizes: Mapping[str, int], zero: Zero, world: int, number_bytes: int, accumulation: int
) -> StateBytes:
    """Stage 1 or 2, where this rank's part of the sums is one flat float32 tensor, which the optimiser takes as it is.

    Stage 1 in fp16 keeps a float32 sum of each rank's own gradients beside it.
    """
    plain = _optimiser_sharded(sizes, zero, world, number_bytes, accumulation)
    numbers = sum(sizes.values())
    part, own_sums = -(-numbers // world) * FLOAT, numbers * FLOAT if zero.stage == 1 else 0
    offloaded = _off_device(zero.offload_optimizer)
    return replace(
        plain,
        first_gradients=(own_sums or part) if accumulation > 1 else 0,
        last_gradients=own_sums + part,
        optimiser_moment=0 if offloaded else part,
    )


def _sharded(sizes: Mapping[str, int], zero: Zero, world: int, number_bytes: int, sum_bytes: int) -> StateBytes:
    numbers = sum(sizes.values())
    own = _own_part(sizes, world)
    part, sums, states = own * number_bytes, own * sum_bytes, own * (FLOAT + MOMENTS)
    bucket = int(_said(zero.reduce_bucket_size, BUCKET)) * number_bytes
    fetched = gathered(sizes, zero, world) * number_bytes
    sub_group = min(own, int(_said(zero.sub_group_size, _SUB_GROUP)))
    weights_off, states_off = _off_device(zero.offload_param), _off_device(zero.offload_optimizer)
    whole = kept_whole(sizes, zero, world) * number_bytes
    flat = sub_group * (sum_bytes + (FLOAT if sum_bytes != FLOAT else 0))
    return StateBytes(
        weights=whole + (0 if weights_off else part),
        optimiser=0 if states_off else states,
        buffers=bucket + fetched,
        # Memory for its part of all gradients is kept throughout.
        first_gradients=0 if states_off else sums,
        last_gradients=(0 if states_off else sums) + min(numbers * number_bytes, bucket),
        # Small tensors are released in the meantime.
        optimiser_moment=0 if states_off else sums + bucket + flat - whole,
        host=(part if weights_off else 0) + (states + own * FLOAT + sums if states_off else 0),
    )


def _own_part(sizes: Mapping[str, int], world: int) -> int:
    """Numbers of a rank at stage 3, where each tensor is divided."""
    return sum(-(-size // world) for size in sizes.values())


def kept_whole(sizes: Mapping[str, int], zero: Zero, world: int) -> int:
    """Numbers of small tensors that every rank keeps beside its part."""
    if world == 1:
        return 0
    threshold = _said(zero.stage3_param_persistence_threshold, _KEPT_WHOLE)
    return sum(size for size in sizes.values() if size <= threshold)


def gathered(sizes: Mapping[str, int], zero: Zero, world: int) -> int:
    """Most numbers of weights that are gathered at once: those to be used again soon, or the next to be used."""
    if world == 1:
        return 0
    numbers = sum(sizes.values()) - kept_whole(sizes, zero, world)
    kept = min(_said(zero.stage3_max_live_parameters, _LIVE), _said(zero.stage3_max_reuse_distance, _LIVE))
    ahead = _said(zero.stage3_prefetch_bucket_size, _FETCHED) + max(sizes.values())
    return int(min(numbers, max(kept, ahead)))


def _said(value: float | None, default: float) -> float:
    return default if value is None else value


def _off_device(offload: object) -> bool:
    return getattr(offload, "device", "none") != "none"
