"""The tiles that probes are fitted and scored on: chosen once by `eval.seed`, and held in memory, a share on each rank.

Probes are fitted on tiles of the training split and scored on tiles of `val`.
Shape suffix: S all chosen tiles, first those of training, then those of `val`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from mmae.data.loading.micro_batches import MicroBatches
from mmae.data.sampling.batch_requests import Request
from mmae.data.sampling.mixture import Places, all_places
from mmae.data.sampling.order import hashes
from mmae.data.sampling.shard_sets import common_datasets
from mmae.data.transforms.preprocess import Preprocess
from mmae.draws import VALIDATION_EPOCH, Stream, draw_rows
from mmae.errors import InputError
from mmae.types import Batch, Inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.data.sampling.shard_sets import ShardSet
    from mmae.run.spec import RunSpec

SEEN: Final = ("rgb", "ired", "sired", "ebands", "sentinel1")
"""What the encoder is shown: spectral modalities and radar. None of them is what a probe predicts."""


@dataclass(frozen=True)
class Chosen:
    """Places of the chosen tiles; the first `fitted` are of the training split."""

    places: Places
    fitted: int

    def __len__(self) -> int:
        return len(self.places)


def choose(spec: RunSpec) -> Chosen:
    """At most `eval.tiles` tiles: half from `val`, or all of it if it is smaller, the rest from training.

    Raises:
        InputError: no shard set has a `val` split.
    """
    sets, settings = spec.tiles.sets, spec.config.eval
    val = all_places([each.index.of_split("val") for each in sets])
    if not len(val):
        raise InputError(
            "eval.every needs tiles in a split val, on which probes are scored: repack with --val-fraction, or set "
            "eval.every=0"
        )
    scored = _drawn(val, sets, (settings.tiles + 1) // 2, settings.seed)
    fitted = _drawn(all_places(spec.tiles.positions), sets, settings.tiles - len(scored), settings.seed)
    pairs = [(getattr(fitted, name), getattr(scored, name)) for name in ("set_B", "repeat_B", "tile_B")]
    return Chosen(Places(*map(np.concatenate, pairs)), len(fitted))


def _drawn(places: Places, sets: Sequence[ShardSet], count: int, seed: int) -> Places:
    """So many of the tiles, or all, in the order of the draw: more tiles begin with the same ones."""
    rows = np.empty(len(places), np.int64)
    for number, each in enumerate(sets):
        inside = places.set_B == number
        rows[inside] = each.index.row[places.tile_B[inside]]
    key = hashes(seed, VALIDATION_EPOCH, draw_rows(rows, places.set_B, 0), Stream.PROBES)
    return places[np.argsort(key, kind="stable")[:count]]


@dataclass(frozen=True)
class Share:
    """A rank's share of the tiles.

    Attributes:
        inputs: for the encoder, on the host, in micro-batches.
        stored: the tiles as they are stored, in the same micro-batches; only the datasets of labels.
        biome_B: int64, of the index.
    """

    inputs: list[Inputs]
    stored: list[Batch]
    biome_B: NDArray[np.int64]

    def usable(self) -> Tensor:
        """The tiles that were read and show the encoder something, bool (B,)."""
        return torch.cat([_shows_something(each) for each in self.inputs]) if self.inputs else torch.ones(0).bool()


def seen_modalities(spec: RunSpec) -> tuple[str, ...]:
    """The input modalities that the encoder is shown.

    Raises:
        InputError: the model has none of them.
    """
    seen = tuple(name for name in spec.config.model.in_domains if name in SEEN)
    if not seen:
        raise InputError(
            f"eval.every needs an encoder with one of the inputs {', '.join(SEEN)}, from which probes predict: "
            "add one to model.in_domains, or set eval.every=0"
        )
    return seen


def read_share(spec: RunSpec, chosen: Chosen, labels: Sequence[str], rank: int, world: int) -> Share:
    """Read every `world`-th tile from the `rank`-th on.

    Args:
        labels: modalities that labels are made of.

    Raises:
        InputError: a shard is missing, or a tile is damaged and `data.on_damage` does not skip it.
    """
    config, sets, seen = spec.config, spec.tiles.sets, seen_modalities(spec)
    own = chosen.places[np.arange(rank, len(chosen), world)]
    model = replace(config.model, in_domains=seen, out_domains=seen[:1], extra_norm_pix_loss=False)
    preprocess = Preprocess(config.data, model, spec.band_stats, torch.device("cpu"))
    domains = (*seen, *labels)
    kept = common_datasets(sets, labels) if labels else ()
    reading = MicroBatches(sets, common_datasets(sets, domains), config.eval.seed, config.data.on_damage == "skip")
    inputs, stored = [], []
    for start in range(0, len(own), spec.split.micro):
        places = own[start : start + spec.split.micro]
        batch = reading.read(Request(places, np.ones(len(places), np.bool_), VALIDATION_EPOCH)).batch()
        inputs.append(preprocess(batch, train=False))
        stored.append(replace(batch, pixels={name: batch.pixels[name] for name in kept}))
    return Share(inputs, stored, _biomes(sets, own))


def _biomes(sets: Sequence[ShardSet], places: Places) -> NDArray[np.int64]:
    biome_B = np.empty(len(places), np.int64)
    for number, each in enumerate(sets):
        inside = places.set_B == number
        biome_B[inside] = each.index.biome[places.tile_B[inside]]
    return biome_B


def _shows_something(inputs: Inputs) -> Tensor:
    return torch.stack([valid.any(1) for valid in inputs.token_valid.values()]).any(0) & inputs.real_B
