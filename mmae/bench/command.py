"""`mmae bench WHAT`: the table of measurements. The module of each is imported when it runs."""

from __future__ import annotations

from typing import Final

COMMANDS: Final = {
    "shuffle": ("mmae.bench.shuffle.command", "how well an epoch's order mixes a shard set, beside a perfect shuffle"),
    "loader": (
        "mmae.bench.loader.command",
        "shards to shuffled batches: tiles/s beside h5py, webdataset and the limit",
    ),
    "repack": (
        "mmae.bench.repack.command",
        "HDF5 to shards: tiles/s beside h5py with webdataset's writer, and the limit",
    ),
    "embed": ("mmae.bench.embed.command", "a scene to vectors: windows/s beside the encoder's forward pass alone"),
    "step": (
        "mmae.bench.step.command",
        "a training step: MFU, memory, where its time goes, beside its matrix products alone",
    ),
}
