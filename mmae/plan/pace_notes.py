"""What sets the pace of the recommended line, and how far it is from the bound of the GPU."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mmae.config.schema import Config
from mmae.plan.least_work import least_work, step_seconds
from mmae.plan.lines import Line
from mmae.plan.traffic import NUMBER_BYTES


@dataclass(frozen=True)
class Peaks:
    """A GPU's operations a second, and bytes a second of its memory, by its datasheet."""

    flops: float
    memory: float


def pace_notes(config: Config, line: Line, peaks: Peaks) -> list[str]:
    """Notes on the time of a line; none where it is not estimated."""
    if line.pace is None or line.speed is None:
        return []
    micro = line.split.micro
    bound = micro / step_seconds(least_work(config, micro, NUMBER_BYTES[line.precision]), peaks.flops, peaks.memory)
    notes = [
        f"bound: {bound:,.0f} tiles/s a GPU, if each product ran at {peaks.flops / 1e12:,.0f} TFLOP/s and what must "
        f"move at {peaks.memory / 1e12:.2f} TB/s; the estimate is {line.speed / bound:.0%} of it"
    ]
    if line.speed > bound:
        notes.append("WARNING: no such GPU is faster than the bound: --mfu is too large")
    if line.pace.host > line.pace.device:
        notes.append(_host(config, line, line.pace.host, line.pace.device))
    return notes


def _host(config: Config, line: Line, host: float, device: float) -> str:
    enough = math.ceil(line.split.micro * host / device)
    ways = ["GPUs with more memory"]
    if line.split.accumulation == 1:
        ways = [*(["fewer GPUs"] if line.split.world > 1 else []), "a larger train.global_batch"]
    if not config.train.compile:
        ways.append("train.compile=true")
    # ZeRO-3 does not take graphs.
    if line.stage < 3 and not config.train.cuda_graphs:
        ways.append("train.cuda_graphs=true, which no GPU has measured")
    return (
        f"pace: the host sets it, not the GPU: starting the work of a micro-batch takes about {host * 1e3:.0f} ms, the "
        f"work on its {line.split.micro} tiles {device * 1e3:.0f} ms. Micro-batches of {enough} would keep the GPU "
        f"busy: take {', or '.join(ways)}"
    )
