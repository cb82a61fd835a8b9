"""What is asked of a run of `mmae benchmark`: which scores, of which model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmae.evaluate.benchmark.encoding.tile_inputs import Reading
    from mmae.evaluate.benchmark.protocols.dense_protocols import DenseProtocol
    from mmae.evaluate.benchmark.protocols.finetune_protocol import FinetuneProtocol
    from mmae.inference.raw_encoder import RawEncoder
    from mmae.modalities import S2Level


@dataclass(frozen=True)
class Asked:
    """What the user asks for.

    Attributes:
        suite, data: which suite, and where it lies.
        tasks, protocols, partitions, seeds: a row is made for each combination that fits together.
        reading: how tiles become inputs.
        level: of Sentinel-2, if it is known better.
        k: neighbours of `knn`.
        dense: how heads are trained.
        finetune: how models are fine-tuned.
        blocks: whose vectors are compared on validation; None: four at equal distances.
        experiment: a name for the table; None: `frozen` or `finetune`.
        features: the folder that keeps vectors.
        devices: one a process that computes vectors.
    """

    suite: str
    data: Path
    tasks: tuple[str, ...]
    protocols: tuple[str, ...]
    partitions: tuple[str, ...]
    seeds: tuple[int, ...]
    reading: Reading
    level: S2Level | None
    k: int
    dense: DenseProtocol
    finetune: FinetuneProtocol
    blocks: tuple[int, ...] | None
    experiment: str | None
    features: Path
    devices: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Subject:
    """The model that is scored.

    Attributes:
        encoder: on the first device.
        location, trust: where other processes load it from.
        name: for the table.
        hash: of its weights and configuration.
    """

    encoder: RawEncoder
    location: str
    trust: bool
    name: str
    hash: str
