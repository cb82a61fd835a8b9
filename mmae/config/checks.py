"""Checks that need several keys of a `Config`: each names the contradiction, and what to write instead."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from mmae.addresses import is_incomplete, without_secrets
from mmae.config.schema import Config, DataConfig, ModelConfig, TrainConfig
from mmae.config.score_names import EMA, EVAL, VAL, of_weights, score_names
from mmae.draws import MAX_SETS
from mmae.errors import did_you_mean
from mmae.modalities import MODALITIES
from mmae.terminal.plurals import counted
from mmae.variants import VARIANTS

MAX_PROFILED: Final = 100
"""Most steps of one profile."""
MAX_WORKERS: Final = 128
"""Most loader processes of a rank: more than any machine has cores."""
MAX_PREFETCH: Final = 1024
"""Most micro-batches that a loader process reads in advance: memory for all of them is taken at the start."""

LEAST_FLOAT8_WIDTH: Final = 1024
"""Narrower encoders lose more time by rounding their numbers to float8 than its products gain."""


def contradiction(config: Config) -> str | None:
    """The first contradiction in one line, or None."""
    model, train = config.model, config.train
    for problems in (
        _sets(config.data),
        _loading(config.data),
        _names(model),
        _grid(model),
        _tokens(model),
        _parametrisation(model),
        _optimizer(config),
        _float8(config),
        _steps(train),
        _rates(train),
        _profile(train),
        _scores(config),
    ):
        for problem in problems:
            return problem
    return None


def _sets(data: DataConfig) -> Iterator[str]:
    if len(data.locations) > MAX_SETS:
        yield f"data.shards names {len(data.locations)} shard sets, at most {MAX_SETS} can be mixed"
    for place in data.locations:
        if not place:
            yield "data.shards holds an empty name: remove it"
        # Two hidden secrets look alike, so equal locations with secrets are not reported.
        if data.locations.count(place) > 1 and not is_incomplete(place):
            yield f"data.shards names {without_secrets(place)} twice: give it a weight of 2 instead (data.weights)"
    if data.weights is not None and len(data.weights) != max(1, len(data.locations)):
        sets = counted(len(data.locations), "shard set")
        yield f"data.weights has {counted(len(data.weights), 'number')} for {sets} (data.shards)"


def _loading(data: DataConfig) -> Iterator[str]:
    if data.workers > MAX_WORKERS:
        yield (
            f"data.workers={data.workers} are too many loader processes for one rank, at most {MAX_WORKERS} are "
            "started: a few a GPU are enough"
        )
    if data.prefetch > MAX_PREFETCH:
        yield f"data.prefetch={data.prefetch} micro-batches would not fit into memory: at most {MAX_PREFETCH}"


def _names(model: ModelConfig) -> Iterator[str]:
    if model.size not in VARIANTS:
        yield f"unknown model.size={model.size!r}{did_you_mean(model.size, VARIANTS)}"
    for key in ("in_domains", "out_domains"):
        names = getattr(model, key)
        if not names:
            yield f"model.{key} is empty: name at least one modality"
        if len(set(names)) != len(names):
            yield f"model.{key} names a modality twice: {', '.join(names)}"
        for name in names:
            if name not in MODALITIES:
                yield f"model.{key}: unknown modality {name!r}{did_you_mean(name, MODALITIES)}"
    if model.extra_norm_pix_loss and "rgb" not in model.out_domains:
        yield "model.extra_norm_pix_loss needs rgb in model.out_domains: add rgb, or set the key to false"


def _grid(model: ModelConfig) -> Iterator[str]:
    for name in model.domains:
        stride = MODALITIES[name].stride
        if model.patch_size % stride:
            yield f"model.patch_size={model.patch_size} is not divisible by the stride of {name} ({stride})"
    for side in model.image_hw:
        if side % model.patch_size:
            nearest = max(1, round(side / model.patch_size)) * model.patch_size
            yield (
                f"model.input_size={side} is not divisible by model.patch_size={model.patch_size}: "
                f"the nearest that is: {nearest}"
            )


def _tokens(model: ModelConfig) -> Iterator[str]:
    if model.num_encoded_tokens >= model.num_tokens:
        yield (
            f"model.num_encoded_tokens={model.num_encoded_tokens} must be fewer than all {model.num_tokens} tokens, "
            "or nothing is left to reconstruct"
        )
    if len(model.alphas_m) != len(model.in_domains):
        entries = counted(len(model.alphas_m), "entry", "entries")
        inputs = counted(len(model.in_domains), "input modality", "input modalities")
        yield f"model.alphas has {entries} for {inputs}"
    if model.decoder_dim % model.decoder_num_heads:
        yield (
            f"model.decoder_dim={model.decoder_dim} is not divisible by "
            f"model.decoder_num_heads={model.decoder_num_heads}"
        )
    if model.decoder_dim % 4:
        yield f"model.decoder_dim={model.decoder_dim} is not divisible by 4, which sine-cosine positions need"


def _parametrisation(model: ModelConfig) -> Iterator[str]:
    if model.paper_exact and model.parametrisation != "standard":
        yield (
            f"model.paper_exact has the published initial weights, and model.parametrisation={model.parametrisation} "
            "has others: turn one of them off"
        )


def _optimizer(config: Config) -> Iterator[str]:
    if config.train.optimizer == "adamw":
        return
    if config.model.parametrisation != "standard":
        yield (
            f"model.parametrisation={config.model.parametrisation} is made for AdamW's steps, and train.optimizer="
            f"{config.train.optimizer} makes others: leave one of them out"
        )
    if config.model.paper_exact:
        yield (
            f"model.paper_exact has the published optimiser, and train.optimizer={config.train.optimizer} another: "
            "turn one of them off"
        )


def _float8(config: Config) -> Iterator[str]:
    if config.train.float8 != "tensorwise":
        return
    width = config.model.variant.dim
    if width < LEAST_FLOAT8_WIDTH:
        yield (
            f"train.float8=tensorwise takes a width of at least {LEAST_FLOAT8_WIDTH} (large and larger), and "
            f"model.size={config.model.size} has {width}: leave it out, or study it with train.float8=emulated"
        )
    if not config.train.compile:
        yield (
            "train.float8=tensorwise needs train.compile=true: uncompiled, rounding to float8 takes longer than its "
            "products save"
        )


def _steps(train: TrainConfig) -> Iterator[str]:
    if train.warmup_steps > train.max_steps:
        yield (
            f"train.warmup_steps={train.warmup_steps} is longer than the whole schedule "
            f"(train.max_steps={train.max_steps})"
        )
    if train.schedule == "wsd" and train.warmup_steps + train.decay_steps > train.max_steps:
        yield (
            f"train.warmup_steps={train.warmup_steps} and the {train.decay_steps} steps of train.decay_share="
            f"{train.decay_share:g} are more than the whole schedule (train.max_steps={train.max_steps})"
        )
    if train.compile and train.activation_checkpointing == "selective":
        yield (
            "train.activation_checkpointing=selective does not go with train.compile=true, "
            "which recomputes the cheap parts by itself: say none or full"
        )
    if train.stop_at is not None and train.stop_at > train.max_steps:
        yield f"train.stop_at={train.stop_at} lies behind train.max_steps={train.max_steps}"


def _rates(train: TrainConfig) -> Iterator[str]:
    if train.frozen is not None and not train.frozen:
        yield "train.frozen is empty: name a part of the model, or set it to null"
    if train.lr_multipliers is None:
        return
    if not train.lr_multipliers:
        yield "train.lr_multipliers is empty: name a part of the model, or set it to null"
    for name, factor in train.lr_multipliers.items():
        if not (math.isfinite(factor) and factor > 0):
            yield (
                f"train.lr_multipliers: {name}: {factor:g} is not a number above 0 "
                "(train.frozen names parts that do not learn)"
            )


def _profile(train: TrainConfig) -> Iterator[str]:
    if train.profiled is None:
        return
    first, last = train.profiled
    end = train.stop_at or train.max_steps
    if not 1 <= first <= last:
        yield f"train.profile={train.profile} is not a range of steps: write first:last, counted from 1, such as 10:12"
    elif first > end:
        yield f"train.profile={train.profile} begins after the last step ({end}): choose earlier steps"
    elif last - first >= MAX_PROFILED:
        yield (
            f"train.profile={train.profile} is {last - first + 1} steps, and no viewer opens such a large trace: "
            f"at most {MAX_PROFILED}"
        )


def _scores(config: Config) -> Iterator[str]:
    tasks, best = config.eval.tasks, config.checkpoint.keep_best
    if config.eval.every and not tasks:
        yield "eval.tasks is empty: name at least one task, or set eval.every=0"
    if len(set(tasks)) != len(tasks):
        yield f"eval.tasks names a task twice: {', '.join(tasks)}"
    if config.eval.averaged and config.train.ema is None:
        yield "eval.averaged=true needs averaged weights: set train.ema"
    if best is None:
        return
    if best.startswith(EMA) and config.train.ema is None:
        yield f"checkpoint.keep_best={best} needs averaged weights: set train.ema"
    names = score_names(config)
    if best not in names:
        yield f"checkpoint.keep_best={best!r} is not a score of this run{did_you_mean(best, names)}"
    if of_weights(best).startswith(EVAL) and not config.eval.every:
        yield f"checkpoint.keep_best={best} needs probes while training: set eval.every"
    if of_weights(best).startswith(VAL) and not config.val.every:
        yield f"checkpoint.keep_best={best} needs validations while training: set val.every"
