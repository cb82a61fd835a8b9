"""Parts of a model by name: which learn (`train.frozen`), and how fast (`train.lr_multipliers`).

A pattern is the dotted name of a part, such as `encoder` or `tokenizer.adapters.rgb`, and means all parameters below
it. `*`, `?` and `[ab]` match as in a shell, and `*` also matches dots: `encoder.blocks.[0-3]`, `*.bias`. Names are
those of an exported model's file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import accumulate
from typing import Final

from mmae.config.schema import Config, TrainConfig
from mmae.errors import InputError, did_you_mean
from mmae.model.counts.parameter_sizes import Sizes, parameter_sizes

_WRAPPED: Final = "model."
"""What the engine's module puts before the names of the model's own parameters."""
_OF_OUTPUTS: Final = "decoders"


def learns(name: str, train: TrainConfig) -> bool:
    """Whether a parameter of the engine's module learns."""
    return not any(_covers(pattern, name) for pattern in train.frozen or ())


def multiplier(name: str, train: TrainConfig) -> float:
    """The factor of a parameter's learning rate: the product of those whose patterns name it."""
    return math.prod(factor for pattern, factor in (train.lr_multipliers or {}).items() if _covers(pattern, name))


def check_parts(config: Config) -> None:
    """Refuse patterns that name nothing, and a model of which nothing learns.

    Raises:
        InputError: the pattern, with the nearest name.
    """
    train, names = config.train, list(parameter_sizes(config.model))
    for key, patterns in (("frozen", train.frozen), ("lr_multipliers", train.lr_multipliers)):
        for pattern in patterns or ():
            if not any(_covers(pattern, name) for name in names):
                raise InputError(f"train.{key}: the model has no part {pattern!r}{_nearest(pattern, config, names)}")
    trained = [name for name in names if learns(name, train)]
    if not trained:
        raise InputError("train.frozen names the whole model, and nothing would learn: leave a part out")
    for pattern in train.lr_multipliers or ():
        if not any(_covers(pattern, name) for name in trained):
            raise InputError(f"train.lr_multipliers: {pattern!r} is frozen (train.frozen): leave it out of one of them")


def split_sizes(config: Config) -> tuple[Sizes, Sizes]:
    """Numbers in each tensor that learns, and in each frozen one, by name in the engine's module."""
    sizes, train = parameter_sizes(config.model), config.train
    learned = {name: size for name, size in sizes.items() if learns(name, train)}
    return learned, {name: size for name, size in sizes.items() if name not in learned}


def frozen_parts(config: Config) -> frozenset[str]:
    """Those of tokenizer, encoder and decoders of which nothing learns."""
    if config.train.frozen is None:
        return frozenset()
    learned, frozen = ({next(_parts(name)) for name in sizes} for sizes in split_sizes(config))
    return frozenset(frozen - learned)


def told(config: Config) -> Iterator[str]:
    """What does not learn, and what learns at another rate: a line each."""
    learned, frozen = (sum(sizes.values()) for sizes in split_sizes(config))
    if frozen:
        random = "" if config.model.init_from else "; they stay random, as model.init_from is not set"
        yield (
            f"train.frozen: {frozen:,} of {frozen + learned:,} parameters do not learn "
            f"({', '.join(config.train.frozen or ())}){random}"
        )
    if rates := config.train.lr_multipliers:
        yield f"train.lr_multipliers: {', '.join(f'{part} x {factor:g}' for part, factor in rates.items())}"


def _covers(pattern: str, name: str) -> bool:
    return any(fnmatchcase(part, pattern) for part in _parts(name))


def _parts(name: str) -> Iterator[str]:
    """`model.encoder.blocks.0.norm1.bias` -> encoder, encoder.blocks, ..., and the whole name."""
    return accumulate(name.removeprefix(_WRAPPED).split("."), lambda whole, word: f"{whole}.{word}")


def _nearest(pattern: str, config: Config, names: list[str]) -> str:
    part, _, output = pattern.partition(".")
    if output in config.model.outputs and part == _OF_OUTPUTS:
        return f": decoders share stacked weights; only decoders.out_proj.{output}, or decoders as a whole, is one"
    known = list(dict.fromkeys(part for name in names for part in _parts(name)))
    near = get_close_matches(pattern, known, n=1, cutoff=0.5)
    return did_you_mean(pattern, near or [each for each in known if "." not in each])
