"""What one step of a recipe's training needs from the network, as `mmae plan` counts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmae.config.batch_split import split_global_batch
from mmae.config.deepspeed import load_deepspeed_json
from mmae.config.recipe_file import load_config
from mmae.model.counts.named_parts import check_parts, split_sizes
from mmae.plan.lines import Line, Machines, lines_of
from mmae.plan.measured import PEAK_TFLOPS, utilisation
from mmae.plan.time_and_disk import Speed
from mmae.plan.traffic import NUMBER_BYTES, bucket_bytes


@dataclass(frozen=True)
class Demand:
    """The needs of a training with a given number of ranks.

    Attributes:
        what: recipe and DeepSpeed JSON.
        bucket: number of bytes that are reduced at once.
        mfu: share of an H100's peak that `line` assumes for computing.
    """

    what: str
    line: Line
    bucket: int
    mfu: float


def demand_of(recipe: str, file: str, overrides: Sequence[str], world: int, trust: bool = False) -> Demand:
    """The demand of a recipe with `world` ranks.

    Raises:
        InputError: the recipe or the JSON is invalid, or does not fit that many ranks.
    """
    config = load_config(recipe, list(overrides), trust)
    check_parts(config)
    split = split_global_batch(config.train.global_batch, config.train.micro_batch, world)
    mfu = utilisation(config.model.size, config.train.compile)
    lines = lines_of(config, file, [split], Machines(world, 1, 1), Speed(mfu, PEAK_TFLOPS * 1e12))
    line = next(each for each in lines if each.mode == config.train.activation_checkpointing)
    parsed = load_deepspeed_json(file)[1]
    bucket = bucket_bytes(split_sizes(config)[0], parsed, NUMBER_BYTES[line.precision])
    return Demand(f"{recipe}, {file}", line, bucket, mfu)
