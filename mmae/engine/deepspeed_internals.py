"""Everything that reaches into DeepSpeed behind its public interface, in one place.

Each function says which version it was written for and why it is needed. `tests/engine/test_deepspeed_internals.py`
checks that the attributes and methods used here exist in the installed DeepSpeed, with the signatures expected here;
`test_deepspeed_behaviour.py` beside it, that each function does what it says. After an upgrade run both, then read the
functions that they name.

Not here: the files of DeepSpeed's checkpoints (`checkpoint/conversion/universal_state.py`), and what belongs to torch
(`skip_update.py`, `operators/op_build.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointEngine
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer
from torch import Tensor, nn

from mmae.engine.engine_protocol import Engine
from mmae.errors import InputError

OLDEST: Final = (0, 19, 4)
NEXT_UNTESTED: Final = (0, 20)
"""The versions that this module is tested with, the second one excluded. `setup.py` says the same."""


def untested_version(version: str) -> str | None:
    """One line for a start with a DeepSpeed outside the tested range; None within it."""
    # Not as version numbers are ordered: a release candidate of 0.20 is as untested as 0.20 itself.
    if OLDEST <= tuple(map(int, re.findall(r"\d+", version)[:3])) < NEXT_UNTESTED:
        return None
    oldest, newest = (".".join(map(str, bound)) for bound in (OLDEST, NEXT_UNTESTED))
    return (
        f"WARNING: mmae is not tested with deepspeed {version}, whose internals it uses: "
        f'if the training fails, pip install "deepspeed>={oldest},<{newest}"'
    )


# Parameters at stage 3


def is_sharded(tensor: Tensor) -> bool:
    """Whether a parameter is divided over the ranks, and empty until it is gathered.

    Written for deepspeed 0.19.8, which gives such parameters a `ds_id` and offers no function that tells this.
    """
    return hasattr(tensor, "ds_id")


def gathered(tensor: Tensor, modifier_rank: int | None = None) -> AbstractContextManager[object]:
    """A context in which a sharded tensor is whole; it does nothing for others. Collective for a sharded tensor.

    Written for deepspeed 0.19.8, whose context does nothing if it is not enabled.

    Args:
        modifier_rank: the rank that may change the tensor, for all ranks.
    """
    context: AbstractContextManager[object] = deepspeed.zero.GatheredParameters(
        [tensor], modifier_rank=modifier_rank, enabled=is_sharded(tensor)
    )
    return context


def whole_shape(parameter: nn.Parameter) -> torch.Size:
    """A parameter's shape when it is gathered.

    Written for deepspeed 0.19.8: a sharded parameter has the shape (0,), and its own in `ds_shape`.
    """
    marked: Any = parameter
    shape: torch.Size = marked.ds_shape if is_sharded(parameter) else parameter.shape
    return shape


# The optimiser's state


def has_master_part(parameter: nn.Parameter) -> bool:
    """Whether DeepSpeed's setters for single parameters (`safe_set_full_*`) reach this one at stages 1 and 2.

    Written for deepspeed 0.19.8, whose setters ignore other parameters without an error.
    """
    return hasattr(parameter, "_hp_mapping")


def stage_0_master(engine: Engine, parameter: nn.Parameter) -> Tensor:
    """The tensor that the optimiser updates at stage 0: the parameter, or its float32 copy under mixed precision.

    Written for deepspeed 0.19.8, whose setters do not reach stage 0.
    """
    outer = engine.optimizer
    if not hasattr(outer, "fp32_groups"):
        return parameter
    pairs = zip(outer.fp16_groups, outer.fp32_groups, strict=True)
    found: Tensor = next(
        master
        for low_group, high_group in pairs
        for low, master in zip(low_group, high_group, strict=True)
        if low is parameter
    )
    return found


def master_flats(engine: Engine) -> list[Tensor]:
    """The float32 tensors that the optimiser updates on this rank: a few flat ones, at stage 0 one a parameter.

    Written for deepspeed 0.19.8: at stage 3 the optimiser's own groups are empty between the steps of their parts.
    """
    flats: list[Tensor] | None = getattr(engine.optimizer, "fp32_partitioned_groups_flat", None)
    if flats is not None:
        return list(flats)
    return [parameter for group in engine.basic_optimizer.param_groups for parameter in group["params"]]


@dataclass(frozen=True)
class MasterPlace:
    """Where the numbers of a parameter lie that this rank's optimiser updates.

    Written for deepspeed 0.19.8: at stages 1 to 3 a rank has at most one row of a parameter's numbers.

    Attributes:
        flat: index in `master_flats`.
        offset: of the first one in that tensor, flattened.
        start: of the first one in the parameter, flattened.
        size: how many there are.
        whole: every rank has all numbers of the parameter.
    """

    flat: int
    offset: int
    start: int
    size: int
    whole: bool = False


def master_place(engine: Engine, parameter: nn.Parameter) -> MasterPlace | None:
    """Where a trained parameter's numbers lie on this rank; None where it has none of them.

    Written for deepspeed 0.19.8, whose getters return copies of single parameters, and do not reach stage 0.
    """
    marked: Any = parameter
    if is_sharded(parameter):
        flat, offset, size = engine.optimizer.grad_position[engine.optimizer.get_param_id(parameter)]
        start = size * dist.get_rank()
        # Parts are padded so that all ranks have equally many numbers.
        own = min(size, whole_shape(parameter).numel() - start)
        return MasterPlace(flat, offset, start, own) if own > 0 else None
    if has_master_part(parameter):
        if (found := marked._hp_mapping) is None:
            return None
        ours, its = found.hp_fragment_address, found.lp_fragment_address
        return MasterPlace(found.param_group_index, ours.start, its.start, ours.numel)
    master = stage_0_master(engine, parameter)
    flat = next(number for number, each in enumerate(master_flats(engine)) if each is master)
    return MasterPlace(flat, 0, 0, parameter.numel(), whole=True)


def link_moments(engine: Engine) -> None:
    """Let the setters for single parameters find AdamW's moments, after the first step has allocated them.

    Written for deepspeed 0.19.8: stages 1 and 2 link moments to parameters after the first group's first step, when the
    other groups have none yet. Setting theirs failed with `exp_avg not found in optimizer state fragment`.
    """
    if link := getattr(engine.optimizer, "_lazy_init_hp_params_optimizer_state", None):
        engine.optimizer._hp_optimizer_states_linked = False
        link()


def set_counts(engine: Engine, step: int) -> None:
    """Make the engine count from this optimiser step on, with no step left out.

    Written for deepspeed 0.19.8, which sets its counts only when it loads a checkpoint of its own.
    """
    engine.global_steps = step
    engine.micro_steps = step * engine.gradient_accumulation_steps()
    engine.global_samples = step * engine.train_batch_size()
    engine.skipped_steps = 0


def undo_first_step(engine: Engine) -> None:
    """Undo the step by which DeepSpeed allocates AdamW's moments at stage 0 under mixed precision.

    Written for deepspeed 0.19.8. That step has gradients of 0, but it counts: it decays the master weights, and every
    later bias correction is late by one. Losses were 2 % off those of ZeRO 1 to 3 after three steps.
    """
    engine.basic_optimizer.state.clear()
    engine.optimizer.refresh_fp32_params()


# The loss scale of fp16


def loss_scale(engine: Engine) -> float:
    """The loss scale of fp16 that the next step uses.

    Written for deepspeed 0.19.8, whose optimisers keep it in one of two places.
    """
    return float(getattr(engine.optimizer, "loss_scale_config", engine.optimizer).cur_scale)


def grow_scale_after_steps(engine: Engine) -> None:
    """Have a step use one loss scale from its backward pass to its end.

    Written for deepspeed 0.19.8, which lets the scale grow in the middle of a step: every 1 000th step, by its
    defaults, took half of its gradient.
    """
    optimizer = engine.optimizer
    update, step = optimizer._update_scale, optimizer.step

    def shrink_only(overflow: bool) -> None:
        if overflow:
            update(overflow)

    def step_then_grow(*args: Any, **kwargs: Any) -> None:
        step(*args, **kwargs)
        if not optimizer.overflow:
            update(False)

    optimizer._update_scale, optimizer.step = shrink_only, step_then_grow


def scale_loss_at_stage_0(engine: Engine) -> None:
    """Multiply the loss by the loss scale at stage 0, whose step divides gradients by it. After
    `grow_scale_after_steps`.

    Written for deepspeed 0.19.8, whose `engine.backward` scales the loss at other stages only. Gradients reached AdamW
    65 536 times too small, where its eps outweighs them, and no step was clipped or found too large.
    """
    whole: Any = engine
    optimizer, backward, step = engine.optimizer, engine.backward, engine.optimizer.step

    def backward_of_scaled(loss: Tensor, **kwargs: Any) -> None:
        backward(loss * optimizer.loss_scale, **kwargs)

    def step_with_true_norm(*args: Any, **kwargs: Any) -> None:
        scale = optimizer.loss_scale
        step(*args, **kwargs)
        if not optimizer.overflow:
            # DeepSpeed says the norm of scaled gradients there, and that of unscaled ones at other stages.
            report_norm(engine, optimizer._global_grad_norm / scale)

    whole.backward, optimizer.step = backward_of_scaled, step_with_true_norm


# The gradient's norm


def replace_norm(engine: Engine, norm_of: Callable[[Sequence[Tensor]], Tensor]) -> None:
    """Have `norm_of` compute a rank's part of the gradient's norm at stages 1 and 2, in place of DeepSpeed's own.

    Written for deepspeed 0.19.8, which first looks at every gradient for an infinity or a NaN, then takes its norm,
    each with several kernels a parameter and a wait for the device. Offloaded optimisers and other stages keep
    DeepSpeed's. In bf16 the first look is left out too: it discards no step that the norm would not discard.

    Args:
        norm_of: the 2-norm over all gradients it is given.
    """
    optimizer = engine.optimizer
    if not isinstance(optimizer, DeepSpeedZeroOptimizer) or optimizer.cpu_offload:
        return

    def norm_direct(gradients: Sequence[Tensor], _params: object, norm_type: float = 2) -> Tensor:
        """Returns what DeepSpeed's method returns: float32, -1 where the norm is not finite."""
        if norm_type != 2:
            raise ValueError(f"a norm of order {norm_type} is not computed here")
        own = norm_of([gradient for gradient in gradients if not getattr(gradient, "_zero_padding", False)])
        square: Tensor = own.to(optimizer.device).square()
        dist.all_reduce(square, group=optimizer.dp_process_group)
        norm = square.sqrt().float()
        return torch.where(torch.isfinite(norm), norm, -1.0)

    optimizer.get_grad_norm_direct = norm_direct
    if engine.bfloat16_enabled():
        optimizer.has_overflow = lambda partition_gradients=True: False


class _Handed(list[Tensor]):
    """A group's gradients as autograd has left them, with one flat float32 copy of them."""

    def __init__(self, places: Sequence[tuple[Tensor, int]], size: int) -> None:
        """From the group's parameters, each with the place of its first number among the group's `size` numbers."""
        super().__init__(parameter.grad for parameter, _ in places if parameter.grad is not None)
        self._places, self._size = places, size

    @property
    def flat_partition(self) -> Tensor:
        """The copy, (size,); 0 where there is no gradient."""
        given = [(each.grad, place) for each, place in self._places if each.grad is not None]
        make = torch.empty if sum(gradient.numel() for gradient, _ in given) == self._size else torch.zeros
        flat = make(self._size, dtype=torch.float32, device=self._places[0][0].device)
        parts = [flat[place : place + gradient.numel()].view_as(gradient) for gradient, place in given]
        torch._foreach_copy_(parts, [gradient for gradient, _ in given])
        return flat


def hand_over_gradients(engine: Engine) -> None:
    """Give a single rank's gradients to AdamW in one copy at stages 1 and 2, clipped within AdamW's own kernel.

    Written for deepspeed 0.19.8, which copies each gradient into a bucket and out of it, all of them into a flat
    tensor, that one into float32, and multiplies it to clip it: 24 bytes a parameter more in bf16. It also waits twice
    more for the device. Its own step does all else: it takes a group's flat float32 gradients where they are given.

    Nothing is changed where there are several ranks, an offloaded optimiser, or sums in another dtype than the weights.
    """
    optimizer = engine.optimizer
    if not isinstance(optimizer, DeepSpeedZeroOptimizer) or optimizer.cpu_offload or optimizer.use_separate_grad_accum:
        return
    if dist.get_world_size(optimizer.dp_process_group) > 1:
        return
    # torch's own AdamW, an attribute of which is not in its types.
    adamw: Any = engine.basic_optimizer

    def collect(*_args: object, **_kwargs: object) -> None:
        if optimizer.is_gradient_accumulation_boundary():
            for number, group in enumerate(optimizer.round_robin_bit16_groups):
                places = list(zip(group, optimizer.round_robin_bit16_offsets[number], strict=True))
                optimizer.averaged_gradients[number] = _Handed(places, int(optimizer.partition_size[number]))

    def divide_in_the_step(_gradients: object, norm: Tensor) -> None:
        # No copy of a number from the host, which would wait for the device.
        scale = torch.full((), float(optimizer.loss_scale), device=engine.device)
        if optimizer.clip_grad > 0:
            scale = (((norm / optimizer.loss_scale) + 1e-6) / optimizer.clip_grad).clamp(min=1.0) * scale
        adamw.grad_scale = scale.float()

    optimizer.process_gradients = lambda param, i: None
    optimizer.reduce_gradients = collect
    optimizer.overlapping_partition_gradients_reduce_epilogue = collect
    optimizer.unscale_and_clip_grads = divide_in_the_step


def watch_norm(engine: Engine, see: Callable[[Any], None]) -> None:
    """Have `see` called in every optimiser step with the gradient's norm, after it is known and before the update.

    Written for deepspeed 0.19.8, which has no hook there. The norm is that of all ranks' gradients, still multiplied
    by the loss scale.

    Raises:
        InputError: DeepSpeed's optimiser is of a class that this does not know.
    """
    outer = engine.optimizer
    ways = (
        ("_get_norm_groups", _seen_from_groups),  # stage 3
        ("scaled_global_norm", _seen_from_result),  # stages 1 and 2
        ("unscale_and_clip_grads", _seen_from_argument),  # stage 0
    )
    for name, seen in ways:
        if hasattr(outer, name):
            setattr(outer, name, seen(getattr(outer, name), see))
            return
    raise InputError(
        f"train.skip_grad_norm does not work with DeepSpeed's {type(outer).__name__}, which this --deepspeed_config "
        "asks for: leave data_types.grad_accum_dtype out of it"
    )


def _seen_from_groups(norms: Callable[[], list[Any]], see: Callable[[Any], None]) -> Callable[[], list[Any]]:
    def seen() -> list[Any]:
        found = norms()
        see(torch.stack([torch.as_tensor(norm).float() for norm in found]).norm())
        return found

    return seen


def _seen_from_result(total_norm: Callable[..., Any], see: Callable[[Any], None]) -> Callable[..., Any]:
    def seen(*args: Any, **kwargs: Any) -> Any:
        norm = total_norm(*args, **kwargs)
        see(norm)
        return norm

    return seen


def _seen_from_argument(clip: Callable[..., Any], see: Callable[[Any], None]) -> Callable[..., Any]:
    # Of DeepSpeed's two optimisers of this stage, one is given the gradients too, before the norm.
    def seen(*args: Any, **kwargs: Any) -> Any:
        see(args[-1])
        return clip(*args, **kwargs)

    return seen


def leave_out_clipping(engine: Engine) -> None:
    """Take DeepSpeed's own clipping out of float32 steps at stage 0: a hook on the optimiser clips there.

    Written for deepspeed 0.19.8, which clips before the optimiser's step, and would compute the norm a second time.
    """
    engine.clip_fp32_gradients = lambda: None  # type: ignore[attr-defined]


def report_norm(engine: Engine, norm: Tensor) -> None:
    """Have `get_global_grad_norm` return this norm after the step, in float32 at stage 0.

    Written for deepspeed 0.19.8, which asks the optimiser for it after each step, and torch's AdamW has none.
    """
    engine.optimizer._global_grad_norm = norm


# Saving


class WriterInterface(CheckpointEngine):  # type: ignore[misc]  # DeepSpeed has no types
    """What DeepSpeed calls while it saves and loads; a subclass has `save` and `makedirs` too.

    Written for deepspeed 0.19.8, which chooses among classes of its own by the JSON and takes no object.
    """

    def __init__(self) -> None:
        super().__init__()
        self.name = type(self).__name__

    def create(self, info: Any) -> None:
        """DeepSpeed begins a save. There is nothing to do."""

    def load(self, path: str, map_location: Any = None) -> Any:
        """Read what DeepSpeed itself wrote. Unpickles: the caller has checked the owner."""
        return torch.load(path, map_location=map_location, weights_only=False)

    def commit(self, info: Any) -> bool:
        """DeepSpeed ends a save. Whether the save counts is decided by all ranks, later."""
        return True


def replace_writer(engine: Engine, writer: WriterInterface) -> None:
    """Have the engine save and load through `writer`.

    Written for deepspeed 0.19.8. It copies two scripts of its own beside each checkpoint, from rank 0 alone in the
    middle of a save, where an error would leave the other ranks waiting: that is left out, `mmae export` replaces them.
    """
    engine.checkpoint_engine = writer  # type: ignore[attr-defined]
    engine._copy_recovery_script = lambda save_path: None  # type: ignore[attr-defined]


def end_failed_save(engine: Engine) -> None:
    """Make the collective calls that a failed save has skipped on this rank, so that no other rank waits for ever.

    Written for deepspeed 0.19.8: this is how its `save_checkpoint` ends.
    """
    if hasattr(engine.optimizer, "checkpoint_event_epilogue"):
        engine.optimizer.checkpoint_event_epilogue()
    dist.barrier()
