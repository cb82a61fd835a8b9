"""All ways to run a recipe on given GPUs: ZeRO stage, recomputation and micro-batch, each with what it needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from mmae.config.batch_split import BatchSplit, split_global_batch
from mmae.config.deepspeed import load_deepspeed_json, merge, precision_of, recipe_problem, settled
from mmae.config.deepspeed_schema import DeepSpeedJson
from mmae.config.schema import Config, TrainConfig
from mmae.model.counts.flops import Recomputation
from mmae.model.counts.named_parts import split_sizes
from mmae.plan.memory import Memory, memory
from mmae.plan.states import state_bytes, with_average, with_frozen, with_graphs, with_muon
from mmae.plan.time_and_disk import Pace, Speed, checkpoint_bytes, muon_flops, pace_of
from mmae.plan.traffic import NUMBER_BYTES, traffic_bytes

Mode = Literal["none", "selective", "full"]
MODES: Final[tuple[Mode, ...]] = ("none", "selective", "full")
FILES: Final = ("zero1", "zero0", "zero2", "zero3", "zero3_lean", "zero2_offload", "zero3_offload")
"""DeepSpeed JSONs, the preferred ones first. ZeRO-1 needs less memory than ZeRO-0, though 1.5 times the communication,
and its speed was measured. ZeRO-0 keeps DeepSpeed's slower norm of gradients."""
_SUMS_IN_FLOAT: Final = (2, 3)
RESERVE: Final = 0.1
"""Share of a GPU's memory that is left free, for CUDA's context, libraries' workspaces and fragmentation."""


@dataclass(frozen=True)
class Machines:
    """`nodes` of `gpus` with `memory` bytes each."""

    gpus: int
    nodes: int
    memory: int

    @property
    def world(self) -> int:
        return self.gpus * self.nodes


@dataclass(frozen=True)
class Line:
    """One way to run.

    Attributes:
        file: DeepSpeed JSON.
        adds_up_in: the dtype in which the gradients of several micro-batches add up.
        needs: memory of each rank.
        pace: of one GPU; None if it cannot be estimated.
        optimiser: seconds that the optimiser multiplies matrices in a step; 0 where it does not (AdamW).
        checkpoint: bytes of one checkpoint.
        network: bytes that one GPU sends in a step.
        capacity: bytes of a GPU's memory.
    """

    file: str
    stage: int
    mode: Mode
    split: BatchSplit
    precision: str
    adds_up_in: str
    needs: Memory
    pace: Pace | None
    optimiser: float
    checkpoint: int
    network: int
    capacity: int

    @property
    def step_seconds(self) -> float | None:
        """Seconds of a step without the network; None if they cannot be estimated."""
        return self.split.accumulation * self.pace.seconds + self.optimiser if self.pace else None

    @property
    def speed(self) -> float | None:
        """Tiles a second of one GPU, without the network."""
        return self.split.micro * self.split.accumulation / self.step_seconds if self.step_seconds else None

    @property
    def fits(self) -> Literal["yes", "tight", "no"]:
        """Tight: it fits the GPU, but leaves less than the reserve free."""
        if self.needs.peak > self.capacity:
            return "no"
        return "yes" if self.needs.peak <= (1 - RESERVE) * self.capacity else "tight"


def files_for(train: TrainConfig) -> tuple[str, ...]:
    """The `FILES` that go with a recipe: with its optimiser, and where half-precision gradients add up in float32."""
    jsons = {file: load_deepspeed_json(file)[1] for file in FILES}
    files = tuple(file for file, parsed in jsons.items() if not recipe_problem(parsed, train))
    if train.grad_accumulation_dtype is None or train.precision == "fp32":
        return files
    return tuple(file for file in files if jsons[file].zero_optimization.stage in _SUMS_IN_FLOAT)


def all_lines(config: Config, files: Sequence[str], machines: Machines, speed: Speed | None) -> list[Line]:
    """All lines, file by file.

    Raises:
        InputError: a DeepSpeed JSON that does not go with the recipe, or GPUs that cannot share the global batch.
    """
    splits = list(micro_batches(config, machines.world))
    return [line for file in files for line in lines_of(config, file, splits, machines, speed)]


def micro_batches(config: Config, world: int) -> Iterator[BatchSplit]:
    """Powers of two, and a rank's share of the global batch divided by powers of two.

    Raises:
        InputError: `world` does not divide the global batch.
    """
    share = split_global_batch(config.train.global_batch, config.train.global_batch, world).micro
    powers = {1 << power for power in range(share.bit_length())}
    for micro in sorted({size for power in powers if share % power == 0 for size in (power, share // power)}):
        yield BatchSplit(micro, share // micro, world)


def lines_of(
    config: Config, file: str, splits: Sequence[BatchSplit], machines: Machines, speed: Speed | None
) -> Iterator[Line]:
    """The lines of one DeepSpeed JSON, with each mode of recomputation and each of these splits."""
    path, said = load_deepspeed_json(file)
    precision = _precision(path, said, config, machines.world)
    parsed = settled(said, config.train, machines.world)
    number_bytes, zero = NUMBER_BYTES[precision], parsed.zero_optimization
    adds_up_in = parsed.adds_up_in(precision)
    averaged, (sizes, frozen) = config.train.ema is not None, split_sizes(config)
    multiplied = muon_flops(config, zero.stage, machines.world)
    offloaded = any(each and each.device != "none" for each in (zero.offload_optimizer, zero.offload_param))
    for mode in MODES:
        if mode == "selective" and config.train.compile:
            continue
        again = Recomputation(mode, config.train.checkpoint_blocks_every)
        for split in splits:
            states = state_bytes(
                sizes, zero, machines.world, number_bytes, split.accumulation, NUMBER_BYTES[adds_up_in],
                config.train.direct_gradients,
            )  # fmt: skip
            if frozen:
                states = with_frozen(states, sizes, frozen, zero, machines.world, number_bytes)
            if averaged:
                states = with_average(states, sizes, zero, machines.world)
            if config.train.optimizer == "muon":
                states = with_muon(states, sizes)
            if config.train.cuda_graphs:
                states = with_graphs(states, sizes, number_bytes)
            known = None if offloaded or precision == "fp32" else speed
            yield Line(
                file=file,
                stage=zero.stage,
                mode=mode,
                split=split,
                precision=precision,
                adds_up_in=adds_up_in,
                needs=memory(config, states, again, number_bytes, split.micro, split.accumulation),
                pace=pace_of(config, mode, split.micro, known) if known else None,
                optimiser=multiplied / (known.mfu * known.peak_flops) if known else 0.0,
                checkpoint=checkpoint_bytes(
                    sum(sizes.values()), zero.stage, number_bytes, averaged, sum(frozen.values())
                ),
                network=traffic_bytes(sizes, parsed, machines.world, number_bytes, split.accumulation, frozen),
                capacity=machines.memory,
            )


def _precision(path: Path, parsed: DeepSpeedJson, config: Config, world: int) -> str:
    """The precision that training would use, after the same checks."""
    train = config.train
    return precision_of(merge(path, parsed, train, split_global_batch(train.global_batch, train.micro_batch, world)))


def best_of_each(lines: Sequence[Line]) -> list[Line]:
    """The best line of each JSON and mode of recomputation, in the given order."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.file, line.mode), []).append(line)
    return [max(group, key=_worth) for group in groups.values()]


def recommended(lines: Sequence[Line]) -> Line | None:
    """The fastest line that leaves the reserve free, the preferred one among equals; None if none fits."""
    fitting = [line for line in lines if line.fits == "yes"]
    return max(fitting, key=_worth, default=None)


def _worth(line: Line) -> tuple[object, ...]:
    fit = {"yes": 2, "tight": 1, "no": 0}[line.fits]
    if not fit:
        return 0, 0.0, 0.0, -line.needs.peak
    # Among lines of equal speed: the one that recomputes less, then the one with the largest micro-batch.
    return fit, round(line.speed, 3) if line.speed else 0.0, -MODES.index(line.mode), line.split.micro
