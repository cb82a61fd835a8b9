"""A plan as a table and notes."""

from __future__ import annotations

from typing import Final

from mmae.config.deepspeed import why_rounded
from mmae.config.schema import Config
from mmae.model.counts.flops import training_flops_per_tile
from mmae.model.counts.named_parts import frozen_parts, told
from mmae.model.counts.parameter_counts import parameter_counts
from mmae.plan.lines import RESERVE, Line, Machines
from mmae.plan.measured import LOADER_TILES_PER_CORE, SELECTIVE_TIME
from mmae.plan.tiles import Tiles
from mmae.plan.time_and_disk import loader_cores
from mmae.terminal.plurals import noun_of
from mmae.terminal.table import Column, Value

COLUMNS: Final = (
    Column("choice", ""),
    Column("file", "DeepSpeed"),
    Column("mode", "recomputation"),
    Column("micro_batch", "micro-batch"),
    Column("peak_gb", "peak GB", "{:.1f}"),
    Column("fits", "fits"),
    Column("tiles_per_second", "tiles/s a GPU", "{:.0f}"),
    Column("epoch_minutes", "minutes an epoch", "{:.1f}"),
    Column("gpu_hours", "GPU-hours", "{:.0f}"),
    Column("accumulation", "accumulation steps"),
    Column("states_gb", "states GB", "{:.2f}"),
    Column("gradients_gb", "gradients GB", "{:.2f}"),
    Column("activations_gb", "activations GB", "{:.2f}"),
    Column("buffers_gb", "buffers GB", "{:.2f}"),
    Column("tiles_gb", "tiles GB", "{:.2f}"),
    Column("host_gb", "host GB a rank", "{:.1f}"),
    Column("checkpoint_gb", "checkpoint GB", "{:.2f}"),
    Column("network_gb", "network GB a step", "{:.2f}"),
)
KEYS: Final = 4
"""The number of first columns that identify a row."""
NETWORK_COLUMNS: Final = (
    Column("network_seconds", "network s a step", "{:.2f}"),
    Column("network_share", "network % of a step", "{:.0%}"),
)
"""Columns that need the network's bandwidth."""


def row_of(line: Line, config: Config, tiles: Tiles, chosen: bool) -> dict[str, Value]:
    """A line by the keys of `COLUMNS`; memory of one GPU, and of the host for one rank, in GB (10^9 bytes)."""
    needs, world = line.needs, line.split.world
    seen = config.train.max_steps * config.train.global_batch
    return {
        "choice": "=>" if chosen else "",
        "file": line.file,
        "mode": line.mode,
        "micro_batch": line.split.micro,
        "accumulation": line.split.accumulation,
        "states_gb": needs.states / 1e9,
        "gradients_gb": needs.gradients / 1e9,
        "activations_gb": needs.activations / 1e9,
        "buffers_gb": needs.buffers / 1e9,
        "tiles_gb": needs.tiles / 1e9,
        "peak_gb": needs.peak / 1e9,
        "fits": line.fits,
        "host_gb": needs.host / 1e9,
        "tiles_per_second": line.speed,
        "epoch_minutes": line.speed and tiles.count / (line.speed * world) / 60,
        "gpu_hours": line.speed and seen / line.speed / 3600,
        "checkpoint_gb": line.checkpoint / 1e9,
        "network_gb": line.network / 1e9,
    }


def network_of(line: Line, bandwidth: float | None) -> dict[str, Value]:
    """A line by the keys of `NETWORK_COLUMNS`, for this many bus bytes a second; empty if that is not known."""
    if bandwidth is None:
        return {}
    return {"network_seconds": line.network / bandwidth, "network_share": network_share(line, bandwidth)}


def network_share(line: Line, bandwidth: float) -> float | None:
    """Share of a step, if communication and computing alternate; None if the time of computing is not known."""
    seconds, computing = line.network / bandwidth, line.step_seconds
    return None if computing is None else seconds / (seconds + computing)


def notes_of(config: Config, machines: Machines, tiles: Tiles, speed_source: str, choice: Line | None) -> list[str]:
    """The assumptions of the table, and the demand of the recommended line on loaders and disks."""
    flops, train = training_flops_per_tile(config.model, frozen=frozen_parts(config)), config.train
    steps = tiles.count // train.global_batch
    epochs = train.max_steps * train.global_batch / tiles.count
    notes = [
        f"{parameter_counts(config.model).total / 1e6:.1f} M parameters, {flops / 1e9:.1f} GFLOP a tile; "
        f"{tiles.count:,} {noun_of(tiles.count, 'tile')} an epoch make {steps:,} {noun_of(steps, 'step')} of "
        f"{train.global_batch}; the recipe's {train.max_steps:,} {noun_of(train.max_steps, 'step')} see "
        f"{epochs:.1f} epochs",
        "peak: the largest phase of a step, so less than the sum; activations are those of eager steps",
        f"time: utilisation {speed_source}; without network and validation; selective is assumed to "
        f"take {SELECTIVE_TIME:.2f} times as long; offloading and fp32 are not estimated",
        f"fits: yes leaves {RESERVE:.0%} of a GPU free, tight does not",
        "network: GB that a GPU sends in a step (ZeRO-3: at most); --bandwidth says what share of a step that takes",
        f"shards: {tiles.bytes / 1e9:.1f} GB ({tiles.source})",
    ]
    if train.grad_accumulation_dtype is not None:
        notes.append("gradients of micro-batches add up in fp32; in bf16 with ZeRO-2 and 3 only")
    notes += told(config)
    if frozen_parts(config):
        notes.append(f"frozen as a whole: {', '.join(sorted(frozen_parts(config)))}; time and memory count that alone")
    if train.ema is not None:
        notes.append(
            "train.ema: states and checkpoints hold 4 bytes a parameter more, divided over ranks as the optimiser's; a "
            "step moves 12 bytes for each of these numbers, and each validation is made twice"
        )
    if train.float8 is not None:
        notes.append(
            f"train.float8={train.float8}: time and bound are those of bf16, as no GPU has measured float8; memory is "
            "counted without what rounding takes for a moment"
        )
    if train.cuda_graphs:
        notes.append(
            "train.cuda_graphs: time is that without graphs, as no GPU has measured them; memory is at most this: "
            "activations and gradients of a micro-batch, and a copy of its inputs, stay with the graphs"
        )
    if choice is not None and choice.optimiser and choice.step_seconds:
        notes.append(
            f"train.optimizer=muon: its products take {choice.optimiser / choice.step_seconds:.1%} of a step, if they "
            "run at the same utilisation, which nobody has measured"
        )
    if choice is None:
        return [*notes, "nothing fits with the reserve left free: take more GPUs, larger ones, or a smaller model"]
    if choice.speed is not None:
        rate = choice.speed * machines.gpus
        known = LOADER_TILES_PER_CORE.get(tiles.codec, LOADER_TILES_PER_CORE["small"])
        notes.append(
            f"loaders: {rate:,.0f} tiles/s a node, {loader_cores(rate, tiles.codec):.1f} cores at the "
            f"{known:,.0f} tiles/s that one decoded (codec {tiles.codec}, Sentinel-2, ASTER and WorldCover, page cache)"
        )
    if rounded := why_rounded(choice.adds_up_in, choice.split.accumulation):
        notes.append(f"WARNING: {rounded}")
    return notes
