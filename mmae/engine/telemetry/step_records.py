"""The records of training steps, from deferred values: no step waits for them. Every rank makes the same records."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor

from mmae.engine.deepspeed_internals.loss_scale import loss_scale
from mmae.engine.deferred import DeferredValues, Values
from mmae.engine.engine_protocol import Engine
from mmae.engine.optim import lr_factor
from mmae.engine.step import StepStats
from mmae.engine.telemetry.damage_log import DamageLog
from mmae.engine.telemetry.step_timer import Lap, StepTimer
from mmae.engine.telemetry.straggler_timer import ForwardTimer
from mmae.model.counts.flops import training_flops_per_tile
from mmae.model.counts.named_parts import frozen_parts
from mmae.model.counts.peak_flops import datasheet_flops, peak_of_recipe
from mmae.processes import memory_of_this_process
from mmae.run.spec import RunSpec

Record = dict[str, Any]
_DTYPES: Final = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_OF_A_RANK: Final = ("own seconds", "data seconds", "peak bytes")
"""What each rank sends to the others with each record."""


@dataclass(frozen=True)
class _Noted:
    """What the host knows when a record's values are queued."""

    record: Record
    lap: Lap


class StepRecords:
    """Counts every step, and makes records of the logged ones."""

    def __init__(self, spec: RunSpec, engine: Engine, clock: StepTimer, damage: DamageLog) -> None:
        self._spec, self._engine, self._clock, self._damage = spec, engine, clock, damage
        self._deferred: DeferredValues[_Noted] = DeferredValues()
        self._timer = ForwardTimer(engine)
        self._loss_sum: Tensor | float = 0.0
        self._scored_steps: Tensor | float = 0.0
        self.step = clock.step
        """The last counted step."""
        self._made_with: Record = {}
        self._flops_per_tile = training_flops_per_tile(spec.config.model, frozen=frozen_parts(spec.config))
        known = datasheet_flops(engine.device, _DTYPES[spec.precision])
        self.device_peak = None if known is None else peak_of_recipe(known[0], spec.config)
        """FLOPs a second of the device by its datasheet; None where no figure is known."""

    def before(self) -> None:
        """Note the next step's learning rate and loss scale: after the step the engine has those of a later one."""
        scale = loss_scale(self._engine) if self._spec.precision == "fp16" else None
        self._made_with = {**self._rates(), "loss_scale": scale}

    def _rates(self) -> Record:
        train = self._spec.config.train
        if train.lr_multipliers is None:
            return {"lr": self._engine.get_lr()[0]}
        # No group of the optimiser need have the run's own rate.
        rate = train.lr * lr_factor(self._engine.lr_scheduler.last_epoch, train)
        return {"lr": rate, "lrs": {part: rate * factor for part, factor in train.lr_multipliers.items()}}

    def add(self, step: int, stats: StepStats, skipped: Tensor, skipped_steps: Tensor, wanted: bool) -> None:
        """Count a step that has been queued on the device. If `wanted`, queue its record.

        Call `before` before the step. Never waits for the device. Collective where `wanted` is true.

        Args:
            skipped: 1 where the step's update was skipped, a scalar.
            skipped_steps: number of skipped steps of the run, a scalar.
        """
        self.step = step
        self._loss_sum = self._loss_sum + stats.loss.double()
        self._scored_steps = scored_steps = stats.count_O.any().double() + self._scored_steps
        self._damage.count(stats)
        if not wanted:
            return
        lap = self._clock.lap(step)
        norm = self._engine.get_global_grad_norm()
        tensors = {
            "loss": stats.loss,
            "loss_mean": self._loss_sum / scored_steps,
            "scored_steps": scored_steps,
            "losses": stats.loss_O,
            "scored": stats.count_O,
            "hidden_share": stats.hidden_M,
            "valid_share": stats.valid_M,
            "filled_tokens": stats.filled,
            "skipped": skipped,
            "skipped_steps": skipped_steps,
            "damaged_tiles": self._damage.lap(),
            "ranks": self._of_all_ranks(lap),
        }
        on_device = norm if isinstance(norm, Tensor) and norm.device == stats.loss.device else None
        if on_device is not None:
            tensors["grad_norm"] = on_device
        self._loss_sum = self._scored_steps = 0.0
        noted = self._known(step, lap, None if on_device is not None or norm is None else float(norm))
        self._deferred.add(step, _Noted(noted, lap), tensors)

    def due(self, step: int) -> Iterator[Record]:
        """Records that can be read after this step, in the order of steps."""
        for noted, values in self._deferred.due(step):
            yield self._finished(noted, values)

    def drain(self) -> Iterator[Record]:
        """All queued records. Waits for the device."""
        for noted, values in self._deferred.drain():
            yield self._finished(noted, values)

    def arrived(self) -> Iterator[Record]:
        """Queued records that need no waiting: for a run that has failed."""
        for noted, values in self._deferred.arrived():
            yield self._finished(noted, values)

    def close(self) -> None:
        self._timer.close()

    def _known(self, step: int, lap: Lap, grad_norm: float | None) -> Record:
        spec, config = self._spec, self._spec.config
        rate = lap.steps * config.train.global_batch / lap.seconds
        peak = self.device_peak
        return {
            "time": round(time.time(), 3),
            "step": step,
            "epoch": spec.order.epoch(step - 1),
            "tiles_seen": step * config.train.global_batch,
            **self._made_with,
            "grad_norm": grad_norm,
            "tiles_per_second": rate,
            "step_seconds": lap.seconds / lap.steps,
            "mfu": None if peak is None else self._flops_per_tile * rate / (spec.split.world * peak),
            "data_wait_share": lap.waiting / lap.seconds,
            "save_seconds": lap.saves,
            "val_seconds": lap.validations,
            "eval_seconds": lap.evaluations,
        }

    def _of_all_ranks(self, lap: Lap) -> Tensor:
        """(ranks x 3,) float64 for all ranks: compute time with waiting for data, waiting for data, and peak memory."""
        device = self._engine.device
        own = lap.waiting + self._timer.lap()
        numbers = torch.tensor([own, lap.waiting, peak_memory(device)], dtype=torch.float64)
        if device.type == "cuda":
            numbers = numbers.pin_memory().to(device, non_blocking=True)
        gathered = numbers.new_empty(dist.get_world_size() * len(numbers))
        dist.all_gather_into_tensor(gathered, numbers)
        return gathered

    def _finished(self, noted: _Noted, values: Values) -> Record:
        model = self._spec.config.model
        domains, outputs = model.in_domains, model.outputs
        named = {"losses": outputs, "scored": outputs, "hidden_share": domains, "valid_share": domains}
        by_name = {key: dict(zip(names, values[key], strict=True)) for key, names in named.items()}
        scored = by_name["scored"]
        return noted.record | {
            "loss": values["loss"][0] if any(scored.values()) else None,
            "loss_mean": values["loss_mean"][0] if values["scored_steps"][0] else None,
            **by_name,
            # An output without a scored tile has no loss. 0 would look like a perfect loss.
            "losses": {name: loss if scored[name] else None for name, loss in by_name["losses"].items()},
            "filled_tokens": int(values["filled_tokens"][0]),
            "damaged_tiles": int(values["damaged_tiles"][0]),
            "skipped": bool(values["skipped"][0]),
            "skipped_steps": int(values["skipped_steps"][0]),
            **({"grad_norm": values["grad_norm"][0]} if "grad_norm" in values else {}),
            **of_ranks(values["ranks"], noted.lap.steps),
        }


def of_ranks(numbers: list[float], steps: int) -> Record:
    """The fields of a record that compare ranks, from the numbers that each rank sent (`_OF_A_RANK`)."""
    ranks = [numbers[at : at + len(_OF_A_RANK)] for at in range(0, len(numbers), len(_OF_A_RANK))]
    own, data, peaks = (list(column) for column in zip(*ranks, strict=True))
    slowest = own.index(max(own))
    return {
        "slowest_rank": slowest,
        "slowest_step_seconds": own[slowest] / steps,
        "slowest_data_seconds": data[slowest] / steps,
        "median_step_seconds": sorted(own)[(len(own) - 1) // 2] / steps,
        "peak_memory_gb": max(peaks) / 1e9,
    }


def peak_memory(device: torch.device) -> int:
    """This rank's peak memory in bytes: of its GPU, or of its process where it trains on CPUs."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return memory_of_this_process("VmHWM")
