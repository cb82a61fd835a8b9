"""`mmae baseline RUN`: a run's validation losses beside the losses of constant predictions on the same pixels.

The constants are fitted on the training tiles: the mean of each channel, and the class frequencies of a label map.
A model that does not beat them has learned nothing from its visible tokens. With `--hide`, whole input modalities are
hidden: a model that predicts them better than the constants do has learned to derive them from the other modalities.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from mmae.disk.json_text import standard_json
from mmae.disk.ownership import add_trust_argument
from mmae.errors import InputError, did_you_mean
from mmae.run.log_reader import LogRecords
from mmae.terminal.plurals import counted
from mmae.terminal.printable import printable
from mmae.terminal.table import Column, Table, Value, add_json_argument, check_json_path, write_json

if TYPE_CHECKING:
    from mmae.config.schema import Config, ModelConfig
    from mmae.data.sampling.mixture import Places
    from mmae.evaluate.scores import Score
    from mmae.model.mmae import MultiMAE
    from mmae.types import Inputs, MaskPlan

Row = dict[str, Value]

HEADINGS: Final = MappingProxyType(
    {
        "first": "first val loss",
        "last": "last val loss",
        "hidden": "loss when hidden",
        "constant": "loss of a constant",
        "accuracy": "accuracy (share of pixels)",
        "majority": "accuracy of the majority class",
    }
)

FIT_TILES = 2048
"""The most training tiles that the constants are fitted on: more tiles no longer change the means."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's folder (run.dir)")
    parser.add_argument(
        "--shards",
        action="append",
        help="where the shards are now, if not at the run's data.shards; once a set",
    )
    parser.add_argument(
        "--hide", metavar="A,B", help="run the latest checkpoint with no token of these input modalities visible"
    )
    add_trust_argument(parser, "a run")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    from mmae.run.folder import open_run

    check_json_path(args.json)
    # A bad path is reported before imports that take seconds.
    folder = open_run(args.run, args.trust)
    config = folder.stored_config(args.trust)
    assert config is not None
    hidden = hidden_names(args.hide, config.model)
    model = None
    if hidden:
        from mmae.engine.checkpoint.consolidate import load_trained
        from mmae.model.saved.doubtful_weights import warn_of_weights

        trained = load_trained(args.run, None, args.trust)
        warn_of_weights(trained.model, args.run)
        print(printable(f"{args.run}, step {trained.step}: no token of {', '.join(hidden)} is visible"))
        model = trained.model
    scores = _scores(config, args.shards, folder.stored_band_stats(), model, hidden)
    rows = _trained_rows(scores["constant"], folder.log_file) if model is None else _hidden_rows(scores)
    rows = standard_json(rows)
    print(table_of(rows, f"mmae baseline {args.run}: losses on normalised values").text())
    if args.json:
        write_json(args.json, json.dumps(rows, indent=2) + "\n")
    return 0


def hidden_names(said: str | None, model: ModelConfig) -> tuple[str, ...]:
    """The modalities of `--hide`, in the model's order.

    Raises:
        InputError: a name is not an input of the model, or the others have fewer tokens than the encoder needs.
    """
    names = [name.strip() for name in said.split(",")] if said is not None else []
    for name in names:
        if name not in model.in_domains:
            raise InputError(
                f"--hide {said}: {name!r} is not an input of this run{did_you_mean(name, model.in_domains)}"
            )
    left = (len(model.in_domains) - len(set(names))) * model.tokens_per_modality
    if left < model.num_encoded_tokens:
        raise InputError(
            f"--hide {said}: the other inputs have {counted(left, 'token')}, and the encoder sees "
            f"{model.num_encoded_tokens} (model.num_encoded_tokens): hide fewer"
        )
    return tuple(name for name in model.in_domains if name in names)


def _scores(
    config: Config, shards: list[str] | None, band_stats: dict[str, Any], model: MultiMAE | None, hidden: Sequence[str]
) -> dict[str, dict[str, Score]]:
    """Scores on the validation split: of the constant predictions, and of the model if one is given."""
    import torch

    from mmae.data.checks.stats_cover import check_levels, check_split
    from mmae.data.loading.loader import read_batches
    from mmae.data.sampling.mixture import all_places
    from mmae.data.sampling.shard_sets import common_datasets, moved, open_sets, split_positions
    from mmae.data.sampling.training_tiles import training_tiles
    from mmae.data.transforms.preprocess import Preprocess
    from mmae.draws import VALIDATION_EPOCH
    from mmae.evaluate.constant_predictions import constant_output, fit
    from mmae.evaluate.scores import Predict, score
    from mmae.model.masking import plan_masks_without

    sets = open_sets(moved(config.data, shards))
    common_datasets(sets, config.model.domains)
    tiles = training_tiles(sets, config.data, config.train.seed)
    for each, positions in zip(sets, tiles.positions, strict=True):
        check_split(each, "val", config.model.domains, band_stats)
        check_levels(each.index, positions, "train", config.model.domains, band_stats)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    preprocess = Preprocess(config.data, config.model, band_stats, device)

    def read(places: Places) -> Iterator[Inputs]:
        seed = config.train.seed
        for batch in read_batches(sets, config.model.domains, places, seed=seed, epoch=VALIDATION_EPOCH):
            yield preprocess(batch.to(device), train=False)

    def masked(inputs: Inputs) -> tuple[Inputs, MaskPlan]:
        token_valid_BN = torch.cat([inputs.token_valid[name] for name in config.model.in_domains], dim=1)
        return inputs, plan_masks_without(hidden, token_valid_BN, inputs.key_B, config.model)

    constants = fit(read(tiles.sample(FIT_TILES)), config.model.outputs)
    predictors: dict[str, Predict] = {"constant": lambda inputs, _: constant_output(constants, inputs, config.model)}
    if model is not None:
        on_device = model.to(device)
        predictors["model"] = lambda inputs, plan: on_device(inputs.values, plan)
    val = all_places(split_positions(sets, "val"))
    return score(predictors, map(masked, read(val)), config.model)


def _trained_rows(constant: dict[str, Score], log: Path) -> list[Row]:
    """The losses of the constants, and of the run's first and last validation."""
    losses = [record["losses"] for record in LogRecords(log).all("val")] or [{}]
    rows: list[Row] = []
    for name, each in constant.items():
        first, last = losses[0].get(name), losses[-1].get(name)
        ratio = last / each.loss if last is not None and each.loss else None
        rows.append({"output": name, "first": first, "last": last, "constant": each.loss, "last/constant": ratio})
    return rows


def _hidden_rows(scores: dict[str, dict[str, Score]]) -> list[Row]:
    """Losses of model and constants, and for label maps the accuracy of each: the majority class is a constant too."""
    rows: list[Row] = []
    for name, model in scores["model"].items():
        constant = scores["constant"][name]
        ratio = model.loss / constant.loss if constant.loss else None
        losses = {"hidden": model.loss, "constant": constant.loss, "hidden/constant": ratio}
        rows.append({"output": name, **losses, "accuracy": model.accuracy, "majority": constant.accuracy})
    return rows


def table_of(rows: list[Row], title: str) -> Table:
    """The rows as they are printed."""
    keys = rows[0].keys()
    columns = [Column(key, HEADINGS.get(key, key), "{}" if key == "output" else "{:.4f}") for key in keys]
    return Table(title, columns, rows)
