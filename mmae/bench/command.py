"""`mmae bench WHAT`: the table of measurements. The module of each is imported when it runs."""

from __future__ import annotations

from typing import Final

COMMANDS: Final = {
    "shuffle": ("mmae.bench.shuffle.command", "how well an epoch's order mixes a shard set, next to a perfect shuffle"),
    "loader": (
        "mmae.bench.loader.command",
        "shards to shuffled batches: tiles/s, compared with h5py, webdataset and the machine's limit",
    ),
    "repack": (
        "mmae.bench.repack.command",
        "HDF5 to shards: tiles/s, compared with h5py + webdataset's writer and the machine's limit",
    ),
    "embed": ("mmae.bench.embed.command", "a scene to vectors: windows/s beside the encoder's forward pass alone"),
    "attention": (
        "mmae.bench.attention.command",
        "the kernel of model.attention=short: time and error beside torch's on a GPU; registers, without one",
    ),
    "step": (
        "mmae.bench.step.command",
        "a training step: MFU, memory and the time of its parts, compared with the device's bound",
    ),
}
