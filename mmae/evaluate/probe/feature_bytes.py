"""How much disk the features of tiles take, known before the first is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mmae.evaluate.frozen.feature_store import FeatureStore
from mmae.evaluate.frozen.image_features import RCF_FEATURES
from mmae.evaluate.frozen.token_vectors import default_blocks, poolings_of
from mmae.evaluate.probe.probe_features import (
    ENCODER,
    FEATURE_SETS,
    RANDOM,
    STATISTICS,
    FeatureJob,
    Wanted,
    dense_blocks,
    missing,
)
from mmae.modalities import MODALITIES

_FLOAT: Final = 4
_CLASS: Final = 2
_STATISTICS: Final = 4
"""Of a channel: mean, deviation, minimum, maximum."""


def check_space(job: FeatureJob, wanted: Sequence[Wanted]) -> None:
    """Refuse features that the disk has no room for.

    Args:
        wanted: what `probe_features.compute` is about to be asked for.

    Raises:
        InputError: the message says how much is free and how much is needed.
    """
    sizes = {(features, each): bytes_of(job, features, each) for each in wanted for features in each.groups}
    needed = sum(sizes[group] * len(chunk.positions) for chunk in job.chunks() for group in missing(job, wanted, chunk))
    FeatureStore.check_space(job.root, needed)


def bytes_of(job: FeatureJob, features: str, wanted: Wanted) -> int:
    """What the arrays of one tile take, of a feature set, or of labels."""
    datasets = job.set.index.datasets
    rows = [MODALITIES[name] for name in wanted.inputs]
    height, width = datasets[rows[0].dataset].shape[1:]
    if features not in FEATURE_SETS:
        return _CLASS * height * width * len(rows)
    encoder = job.encoders[ENCODER]
    patches = (height // encoder.patch_size) * (width // encoder.patch_size) if wanted.form == "patch" else 1
    channels = sum(row.channels for row in rows)
    depth, dim = encoder.saved.variant.depth, encoder.saved.variant.dim
    of_patches, of_tile = len(dense_blocks(depth)), len(default_blocks(depth))
    vectors = (
        of_patches if wanted.form == "patch" else of_tile * len(poolings_of(encoder.saved.config.num_global_tokens))
    )
    numbers = {STATISTICS: _STATISTICS * channels, RANDOM: RCF_FEATURES}.get(features, vectors * dim)
    return _FLOAT * patches * numbers
