"""`mmae baseline RUN`: a run's validation losses beside what constant predictions would score on the same pixels.

The constants are fitted on the training tiles: the mean of each channel, and the class frequencies of a label map.
A model that does not beat them has learned nothing from its visible tokens.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from mmae.config import Config
    from mmae.data.preprocess import Preprocess
    from mmae.types import Batch, Inputs, MaskPlan, ModelOutput

FIT_TILES = 2048
"""Training tiles that the constants are fitted on, at most: means of so many tiles no longer move."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's folder (run.dir)")
    parser.add_argument("--shards", help="the shards' folder, where it is not the run's data.shards any more")
    parser.add_argument("--json", metavar="FILE", help="also write the table to this file")


def run(args: argparse.Namespace) -> int:
    from mmae.engine.run_folder import open_run, write_whole

    # Before seconds of imports.
    folder = open_run(args.run)
    import torch

    from mmae.data.index import open_index
    from mmae.data.loader import read_batches, training_positions
    from mmae.data.preprocess import Preprocess
    from mmae.draws import VALIDATION_EPOCH

    config = folder.stored_config()
    assert config is not None
    index = open_index(Path(args.shards or config.data.shards))
    preprocess = Preprocess(config.data, config.model, folder.stored_band_stats(), torch.device("cpu"))
    train = training_positions(index, config.data)[:FIT_TILES]
    seed = config.train.seed
    fitted = read_batches(index, config.model.domains, train, seed=seed, epoch=VALIDATION_EPOCH)
    constants = fit(fitted, preprocess, config)
    scored = read_batches(index, config.model.domains, index.positions("val"), seed=seed, epoch=VALIDATION_EPOCH)
    losses = score(constants, scored, preprocess, config)
    first, last = _validation_losses(folder.log_file)
    rows = [
        {"output": name, "first": first.get(name), "last": last.get(name), "constant": losses[name]} for name in losses
    ]
    print(_table(rows))
    if args.json:
        write_whole(Path(args.json), json.dumps(rows, indent=2) + "\n")
    return 0


def fit(batches: Iterable[Batch], preprocess: Preprocess, config: Config) -> dict[str, Tensor]:
    """The best constant prediction of each output: (C,) channel means, or logits of the class frequencies."""
    import torch

    from mmae.modalities import NORM_RGB, output_source

    sums: dict[str, Tensor] = {}
    for batch in batches:
        inputs = preprocess(batch, train=False)
        for name in config.model.outputs:
            modality = output_source(name)
            values, valid = inputs.values[modality.name], inputs.valid[modality.name]
            if modality.categorical:
                counted = torch.bincount(values[valid], minlength=modality.num_classes).double()
                part = torch.stack([counted, torch.ones_like(counted)])
            else:
                part = torch.stack([(values * valid).sum((0, 2, 3)), valid.sum((0, 2, 3))]).double()
            sums[name] = sums.get(name, 0) + part
    constants = {}
    for name, (total_C, count_C) in sums.items():
        if name == NORM_RGB:
            # Its target has mean zero in every patch.
            constants[name] = torch.zeros_like(total_C)
        elif output_source(name).categorical:
            constants[name] = (total_C / total_C.sum()).clamp(min=1e-9).log()
        else:
            constants[name] = total_C / count_C
    return {name: constant.float() for name, constant in constants.items()}


def score(
    constants: dict[str, Tensor], batches: Iterable[Batch], preprocess: Preprocess, config: Config
) -> dict[str, float]:
    """The loss of the constant predictions, on the very pixels that validation scores."""
    import torch

    from mmae.engine.step import prepare
    from mmae.losses import sample_losses, scored

    names = config.model.outputs
    sums = torch.zeros(2, len(names), dtype=torch.float64)
    for batch in batches:
        inputs, plan = prepare(batch, preprocess, config, train=False)
        output = _constant_output(constants, inputs, plan, config)
        sums[0] += sample_losses(output, inputs, plan, config.model).sum(1)
        sums[1] += scored(inputs, plan, config.model).sum(1)
    return dict(zip(names, (sums[0] / sums[1]).tolist(), strict=True))


def _constant_output(constants: dict[str, Tensor], inputs: Inputs, plan: MaskPlan, config: Config) -> ModelOutput:
    import torch

    from mmae.modalities import output_source
    from mmae.types import ModelOutput

    size, tokens = len(inputs.key_B), config.model.tokens_per_modality
    patches = {}
    for name, constant_C in constants.items():
        side = output_source(name).patch(config.model.patch_size)
        patches[name] = constant_C[None, None, :, None, None].expand(size, tokens, -1, side, side)
    return ModelOutput(patches=patches, encoded_BLD=torch.empty(size, 0, 0))


def _validation_losses(log: Path) -> tuple[dict[str, float], dict[str, float]]:
    """The first and the last validation of a run."""
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    losses = [record["losses"] for record in records if record["kind"] == "val"]
    return (losses[0], losses[-1]) if losses else ({}, {})


def _table(rows: list[dict[str, Any]]) -> str:
    def cell(value: float | None) -> str:
        return "-" if value is None or not math.isfinite(value) else f"{value:.4f}"

    lines = [f"{'output':<14}{'first':>10}{'last':>10}{'constant':>10}{'last/constant':>15}"]
    for row in rows:
        ratio = None if row["last"] is None or not row["constant"] else row["last"] / row["constant"]
        lines.append(
            f"{row['output']:<14}{cell(row['first']):>10}{cell(row['last']):>10}{cell(row['constant']):>10}"
            f"{cell(ratio):>15}"
        )
    return "\n".join(lines)
