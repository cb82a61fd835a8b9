"""Features and labels of tiles: computed once, on all processes, kept on disk by what they depend on, and reused.

Each feature set (the encoder, one of its recipe that is untrained, image statistics, random convolutions) has a folder
of its own in the store, so that another checkpoint of a run finds the baselines' features there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from data_tools.workers.pool import Tally, in_processes
from data_tools.workers.progress import progress
from mmae.data.loading.loader import read_batches
from mmae.data.remote.open_shards import open_shards
from mmae.data.sampling.mixture import all_places
from mmae.data.sampling.shard_sets import ShardSet
from mmae.draws import VALIDATION_EPOCH
from mmae.evaluate.frozen.feature_store import FeatureStore
from mmae.evaluate.frozen.image_features import RandomConvolutions, image_statistics, patch_statistics
from mmae.evaluate.frozen.one_thread import one_thread
from mmae.evaluate.frozen.token_vectors import (
    default_blocks,
    encoded_blocks,
    patch_means,
    pooled_vectors,
    poolings_of,
    untrained,
)
from mmae.evaluate.probe.encoder_source import EncoderSource
from mmae.evaluate.probe.tile_labels import labels_of
from mmae.modalities import DATASET_BANDS, MODALITIES, S2_LEVELS
from mmae.raw_tiles import stored_inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.inference.raw_encoder import RawEncoder
    from mmae.model.features import Features
    from mmae.types import Batch, Inputs

ENCODER: Final = "encoder"
UNTRAINED: Final = "untrained"
STATISTICS: Final = "statistics"
RANDOM: Final = "RCF"
FEATURE_SETS: Final = (ENCODER, UNTRAINED, STATISTICS, RANDOM)
"""The encoder, and the baselines that stand beside it in every table."""

VALID: Final = "valid"
"""In a stored group: which tiles, or patches, hold data in any of the inputs."""

_LABELS: Final = "labels"
_CHUNK: Final = 256
_CACHE_GB: Final = 100.0
_SWITCH: Final = "--no-unit-check"

Arrays = Mapping[str, "NDArray[Any]"]


@dataclass(frozen=True)
class Wanted:
    """Attributes:
    inputs: the modalities that features are computed of; for labels, the modalities that are labels.
    form: a vector a `tile`, one a `patch`, or `labels`.
    """

    inputs: tuple[str, ...]
    form: str

    @property
    def groups(self) -> tuple[str, ...]:
        """What is stored of it: each feature set, or labels."""
        return (_LABELS,) if self.form == _LABELS else FEATURE_SETS


Group = tuple[str, Wanted]
"""A feature set, or labels, of some inputs in one form: what is stored together."""


@dataclass(frozen=True, eq=False)
class FeatureJob:
    """How tiles become features. It is given to worker processes.

    Attributes:
        location: of the shard set.
        positions: the tiles, int64, in ascending order.
        root: where features are kept.
        weights: hashes of the encoder's and of the untrained encoder's weights.
        stats_hash: of the band statistics that normalise, and the patch size.
        seed: of untrained weights and random convolutions.
    """

    source: EncoderSource
    location: str
    cache_dir: str | None
    positions: NDArray[np.int64]
    root: Path
    weights: Mapping[str, str]
    stats_hash: str
    seed: int
    batch: int
    devices: tuple[str, ...]

    def __getstate__(self) -> dict[str, Any]:
        # Each process opens the set and loads the model itself.
        return {key: value for key, value in self.__dict__.items() if key not in {"encoders", "set"}}

    @cached_property
    def encoders(self) -> dict[str, RawEncoder]:
        encoder = self.source.load(_device(self.devices))
        return {ENCODER: encoder, UNTRAINED: untrained(encoder, self.seed)}

    @cached_property
    def set(self) -> ShardSet:
        return ShardSet(*open_shards(self.location, self.cache_dir, _CACHE_GB))

    def store(self, features: str, wanted: Wanted) -> FeatureStore:
        """Where a feature set's arrays are kept."""
        identity = {
            "features": features,
            "weights": self.weights.get(features),
            "seed": self.seed if features == RANDOM else None,
            "normalisation": self.stats_hash,
            "data": self.set.index.fingerprint,
            "tiles": hashlib.blake2b(self.positions.tobytes(), digest_size=16).hexdigest(),
            "inputs": list(wanted.inputs),
            "form": wanted.form,
            "chunk": _CHUNK,
            "version": 1,
        }
        return FeatureStore(self.root, identity)

    def chunks(self) -> list[Chunk]:
        count = len(self.positions)
        return [Chunk(start, self.positions[start : start + _CHUNK]) for start in range(0, count, _CHUNK)]

    def load(self, features: str, wanted: Wanted) -> dict[str, NDArray[Any]]:
        """The stored arrays of all tiles, in the order of `positions`."""
        store = self.store(features, wanted)
        parts = [store.load(chunk.name) for chunk in self.chunks()]
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def inputs(self, batch: Batch, names: Sequence[str], check: bool = False) -> Inputs:
        levels = [S2_LEVELS[number] for number in batch.level_B.tolist()]
        bands = {name: tuple(range(DATASET_BANDS[name])) for name in batch.pixels}
        saved, device = self.encoders[ENCODER].saved, _device(self.devices)
        return stored_inputs(saved, batch.pixels, bands, names, levels, device, _SWITCH if check else None)

    def batches(self, positions: NDArray[np.int64], names: Sequence[str]) -> Iterator[Batch]:
        places = all_places([positions])
        return read_batches([self.set], names, places, seed=0, epoch=VALIDATION_EPOCH, size=self.batch)

    def check_sample(self, names: Sequence[str], check: bool) -> None:
        """Raise InputError if the values of some tiles cannot be in the units of the model's statistics."""
        some = self.positions[:: max(1, len(self.positions) // 32)][:32]
        for batch in self.batches(some, names):
            self.inputs(batch, names, check)


def compute(job: FeatureJob, wanted: Sequence[Wanted]) -> None:
    """Compute what is wanted and not stored yet, on as many processes as the job has devices."""
    # What is computed of the same inputs is computed in one pass.
    passes = [tuple(each for each in wanted if each.inputs == inputs)
              for inputs in dict.fromkeys(each.inputs for each in wanted)]  # fmt: skip
    todo = [(each, chunk) for each in passes for chunk in job.chunks() if missing(job, each, chunk)]
    total = len(passes) * len(job.positions)
    with progress(total, "probe") as shown:
        shown.skip(total - sum(len(chunk.positions) for _, chunk in todo))
        with closing(in_processes(_Work(job), todo, len(job.devices), shown, _name)) as done:
            for _ in done:
                pass


@dataclass(frozen=True, eq=False)
class Chunk:
    """Tiles that are stored together: from place `start` among those that are wanted."""

    start: int
    positions: NDArray[np.int64]

    @property
    def name(self) -> str:
        return f"tiles-{self.start:09d}"


@dataclass(frozen=True, eq=False)
class _Work:
    job: FeatureJob

    def __call__(self, task: tuple[tuple[Wanted, ...], Chunk], tally: Tally) -> None:
        wanted, chunk = task
        found: dict[Group, list[Arrays]] = {group: [] for group in missing(self.job, wanted, chunk)}
        with one_thread(self.job.devices[0]):
            for batch in self.job.batches(chunk.positions, wanted[0].inputs):
                for group, arrays in self._arrays(wanted[0].inputs, list(found), batch):
                    found[group].append(arrays)
                tally.add(len(batch.row_B), sum(pixels.nbytes for pixels in batch.pixels.values()))
        for (features, each), parts in found.items():
            whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
            self.job.store(features, each).save(chunk.name, whole)

    def _arrays(self, inputs: tuple[str, ...], groups: Sequence[Group], batch: Batch) -> Iterator[tuple[Group, Arrays]]:
        encoders = self.job.encoders
        patch = encoders[ENCODER].patch_size
        if groups[0][1].form == _LABELS:
            yield groups[0], {name: labels_of(name, batch.pixels, patch) for name in inputs}
            return
        given = self.job.inputs(batch, inputs)
        encoded: dict[str, dict[int, Features]] = {}
        for features, wanted in groups:
            if features in encoders:
                if features not in encoded:
                    blocks = default_blocks(encoders[features].saved.variant.depth)
                    encoded[features] = encoded_blocks(encoders[features], given, blocks)
                arrays = _encoder_arrays(encoders[features], encoded[features], given, wanted.form)
            else:
                arrays = _image_arrays(features, given, wanted.form, patch, self.job.seed)
            numbers = {key: tensor.cpu().numpy() for key, tensor in arrays.items()}
            yield (features, wanted), {VALID: _any_valid(given, wanted.form), **numbers}


def key_of(block: int, pooling: str) -> str:
    """The name of an array in a stored group: of an encoder block and a pooling; block -1 is no encoder's."""
    return f"{block}.{pooling}"


def block_and_pooling(key: str) -> tuple[int, str]:
    block, _, pooling = key.partition(".")
    return int(block), pooling


def dense_blocks(depth: int) -> tuple[int, ...]:
    """The blocks whose patches are kept: the middle and the last."""
    return default_blocks(depth)[1::2] or (depth - 1,)


def statistics_hash(encoder: RawEncoder) -> str:
    """What the normalised values of tiles depend on."""
    facts = [dict(encoder.saved.band_stats), encoder.patch_size, encoder.saved.config.paper_exact]
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()


def labels_wanted(names: Sequence[str]) -> Wanted:
    return Wanted(tuple(names), _LABELS)


def load_labels(job: FeatureJob, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The labels of all tiles by modality: see `labels_of`."""
    return job.load(_LABELS, labels_wanted(names)) if names else {}


def missing(job: FeatureJob, wanted: Sequence[Wanted], chunk: Chunk) -> list[Group]:
    """The groups of arrays of a chunk that are not stored yet."""
    groups = [(features, each) for each in wanted for features in each.groups]
    return [(features, each) for features, each in groups if not job.store(features, each).has(chunk.name)]


def _encoder_arrays(
    encoder: RawEncoder, encoded: Mapping[int, Features], given: Inputs, form: str
) -> dict[str, Tensor]:
    depth, config = encoder.saved.variant.depth, encoder.saved.config
    if form == "patch":
        some = {block: encoded[block] for block in dense_blocks(depth)}
        return {key_of(block, "patch"): tokens for block, tokens in patch_means(some, given).items()}
    vectors = pooled_vectors(encoded, given, poolings_of(config.num_global_tokens))
    return {key_of(block, pooling): vector for (block, pooling), vector in vectors.items()}


def _image_arrays(features: str, given: Inputs, form: str, patch: int, seed: int) -> dict[str, Tensor]:
    values, valid = _planes(given)
    if features == STATISTICS:
        found = image_statistics(values, valid) if form == "tile" else patch_statistics(values, valid, patch)
    else:
        random = RandomConvolutions(values.shape[1], seed=seed)
        found = random(values) if form == "tile" else random.patches(values, patch)
    return {key_of(-1, form): found}


def _planes(given: Inputs) -> tuple[Tensor, Tensor]:
    """All inputs as image channels (B, C, H, W), classes one-hot, and which values are data."""
    height = max(values.shape[-2] for values in given.values.values())
    planes: list[Tensor] = []
    valid: list[Tensor] = []
    for name, values in given.values.items():
        row, there = MODALITIES[name], given.valid[name]
        ids_or_values = one_hot(values, row.num_classes).movedim(-1, 1).float() if row.categorical else values
        there = (there[:, None] if row.categorical else there).expand_as(ids_or_values)
        stride = height // values.shape[-2]
        for parts, each in ((planes, ids_or_values), (valid, there)):
            parts.append(each.repeat_interleave(stride, 2).repeat_interleave(stride, 3))
    return torch.cat(planes, dim=1), torch.cat(valid, dim=1)


def _any_valid(given: Inputs, form: str) -> NDArray[np.bool_]:
    """Whether any input holds data: of each tile (B,), or of each patch (B, n)."""
    valid_Bn = torch.stack(list(given.token_valid.values())).any(0)
    found: NDArray[np.bool_] = (valid_Bn if form == "patch" else valid_Bn.any(1)).cpu().numpy()
    return found


def _device(devices: tuple[str, ...]) -> str:
    from mmae.inference.process_model import process_number

    return devices[process_number() % len(devices)]


def _name(task: tuple[tuple[Wanted, ...], Chunk]) -> str:
    return f"tile {task[1].start}"
