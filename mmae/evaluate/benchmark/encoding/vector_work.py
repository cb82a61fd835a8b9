"""The vectors of a task's tiles, computed by any number of processes, each of which stores what it computes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from data_tools.workers.pool import Tally, in_processes
from data_tools.workers.progress import progress
from mmae.evaluate.benchmark.encoding.tile_features import Meter, TileFeatures, Vectors
from mmae.evaluate.frozen.feature_store import FeatureStore
from mmae.inference.process_model import load_here

if TYPE_CHECKING:
    from mmae.evaluate.frozen.token_vectors import Pooling
    from mmae.model.saved.saved_config import SavedModel

_FLOAT: Final = 4


@dataclass(frozen=True, eq=False)
class VectorWork:
    """Computes and stores chunks of tiles. It is given to worker processes.

    Attributes:
        features: of a task's tiles.
        store: where vectors are kept.
        blocks, poolings: of which there are vectors.
        location, trust: where each process loads the model from.
        devices: one a process.
        saved: what the encoder of another process is to have; None in the process that made this.
    """

    features: TileFeatures
    store: FeatureStore
    blocks: tuple[int, ...]
    poolings: tuple[Pooling, ...]
    location: str
    trust: bool
    devices: tuple[str, ...]
    saved: SavedModel | None = None

    def __getstate__(self) -> dict[str, Any]:
        state = {key: value for key, value in self.__dict__.items() if key != "_here"}
        encoder = self.features.inputs.encoder
        # A model is not sent to other processes: each loads it.
        inputs = replace(self.features.inputs, encoder=None)  # type: ignore[arg-type]
        return {**state, "features": replace(self.features, inputs=inputs), "saved": encoder.saved}

    def __call__(self, ids: tuple[str, ...], tally: Tally) -> Meter:
        features = replace(self._here, meter=Meter())
        features.chunk(ids, self.store, self.blocks, self.poolings)
        tally.add(len(ids), 0)
        return features.meter

    @cached_property
    def _here(self) -> TileFeatures:
        if self.saved is None:
            return self.features
        encoder = replace(load_here(self.location, self.trust, self.devices), saved=self.saved)
        return replace(self.features, inputs=replace(self.features.inputs, encoder=encoder))

    def vectors(self, ids: Sequence[str]) -> Vectors:
        """The vectors of tiles, in their order.

        Raises:
            InputError: as the task's reader, or a stored file is damaged.
        """
        return self.features.vectors(ids, self.store, self.blocks, self.poolings)


def compute(work: VectorWork, root: Path) -> None:
    """Compute and store the vectors that are missing of all splits.

    Args:
        root: the folder in which the store lies.

    Raises:
        InputError: as the task's reader; or the disk has too little room, which is said before the first is computed.
    """
    features, meter = work.features, work.features.meter
    chunks = [chunk for ids in features.task.splits.values() for chunk in features.chunks(ids)]
    todo = [chunk for chunk in chunks if not work.store.has(features.chunk_name(chunk))]
    tiles = sum(map(len, todo))
    dim = features.inputs.encoder.saved.variant.dim
    FeatureStore.check_space(root, tiles * len(work.blocks) * len(work.poolings) * dim * _FLOAT)
    if not todo:
        return
    with progress(tiles, features.task.info.name) as shown, closing(
        in_processes(work, todo, len(work.devices), shown, lambda ids: f"sample {ids[0]}")
    ) as done:  # fmt: skip
        for _, each in done:
            meter.tiles += each.tiles
            # Of all processes at once.
            meter.seconds += each.seconds / len(work.devices)
