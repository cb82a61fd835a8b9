"""What users of a model do, as a program: `python light_use.py FOLDER LIBRARY...`, where the libraries are missing.

FOLDER holds `model`, and `tiles.npy` with Sentinel-2 tiles of level L2A, uint16 (B, 13, H, W).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

LIGHT = ("torch", "safetensors", "numpy", "pydantic", "pyyaml", "huggingface_hub")
"""All that using a model needs, and what these need."""
HEAVY = (
    "accelerate", "blosc2", "deepspeed", "deflate", "h5py", "ninja", "PIL", "requests", "timm", "torchvision", "wandb",
    "webdataset", "xxhash", "zlib_ng", "tensorboard", "pandas",
)  # fmt: skip
"""Modules of other libraries, of which none is needed."""
GEO = ("rasterio", "pyarrow")
"""Modules of the extra `geo`. A picture needs the first one."""


class Hiding(MetaPathFinder):
    """Another finder, which does not find some libraries."""

    def __init__(self, finder: Any, names: Sequence[str]) -> None:
        self.finder, self.names = finder, names

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        hidden = fullname.partition(".")[0] in self.names
        return None if hidden else self.finder.find_spec(fullname, path, target)

    def __getattr__(self, name: str) -> Any:
        # Such as `find_distributions`, by which libraries look up their versions.
        return getattr(self.finder, name)


def use(folder: Path) -> None:
    """Load a model in every way, encode tiles, and run the commands that need nothing but a model."""
    import numpy as np
    import torch

    import mmae
    from mmae.cli import main
    from mmae.raw_tiles import raw_inputs

    tiles = np.load(folder / "tiles.npy")
    encoder = mmae.load_encoder(folder / "model")
    out = encoder(tiles[:, [3, 2, 1]], bands=["B4", "B3", "B2"], level="l2a")
    inputs = raw_inputs(encoder.saved, {"sentinel2": tiles}, ["l2a"] * len(tiles))
    found = mmae.features(mmae.load_model(folder / "model"), {"rgb": inputs.values["rgb"]},
                          {"rgb": inputs.token_valid["rgb"]})  # fmt: skip
    torch.testing.assert_close(out.maps["rgb"], found.maps["rgb"].detach())
    assert out.vector.isfinite().all()
    mmae.MultiMAE.from_pretrained(folder / "model").save_pretrained(folder / "saved")
    for number, words in enumerate((["--format", "folder"], ["--format", "published"])):
        assert main(["export", str(folder / "model"), str(folder / f"out{number}"), *words]) == 0
    assert main(["import-published", str(folder / "out1"), str(folder / "out2")]) == 0
    assert main(["train", "--config", "debug", f"run.dir={folder}/run", f"data.shards={folder}/none"]) == 2
    assert main(["repack", str(folder), str(folder / "shards")]) == 2
    assert main(words_of_embed(folder)) == (0 if find_spec("rasterio") else 2)


def words_of_embed(folder: Path) -> list[str]:
    """The words of a command that turns `scene.tif`, a picture of three bands, into vectors."""
    files = [str(folder / name) for name in ("model", "scene.tif", "vectors.tif")]
    return ["embed", *files, "--bands", "B4,B3,B2", "--level", "l2a"]


if __name__ == "__main__":
    sys.meta_path[:] = [Hiding(finder, sys.argv[2:]) for finder in sys.meta_path]
    use(Path(sys.argv[1]))
    loaded = sorted(set(sys.argv[2:]) & {name.partition(".")[0] for name in sys.modules})
    assert not loaded, loaded
