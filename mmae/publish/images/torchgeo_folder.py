"""`mmae export --format torchgeo`: weights of the encoder of one image, and the entry of TorchGeo's list of weights.

TorchGeo takes new weights by a change of its code only. So the entry is printed for whoever proposes that change.
"""

from __future__ import annotations

import hashlib
from pprint import pformat
from typing import TYPE_CHECKING, Any, Final

from mmae.publish.export_options import check_folder, options

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from mmae.publish.export_source import Source
    from mmae.publish.images.one_image import OneImage

check: Final = check_folder
OPTIONS: Final = options(("--modality", "--bands", "--level", "--image-size"))

ENTRY_NAME: Final = "entry.py"

_ENTRY: Final = """\
# An entry of a WeightsEnum of TorchGeo. Upload the .pth file and replace the capitals in its address.
{notes}
# torchgeo.models.{model}(weights=..., **weights.meta["model_args"]) builds the network and reads the weights.
Weights(
    url="https://hf.co/OWNER/NAME/resolve/COMMIT/{file}",
    transforms=T.Normalize(mean={mean}, std={std}),
    meta={meta},
)
"""


def write(out: Path, source: Source, args: argparse.Namespace) -> None:
    """Write `NAME-HASH.pth` and `entry.py`, and print the entry. The hash is TorchGeo's: the file's own SHA-256."""
    from mmae.model.saved.weights_file import new_folder
    from mmae.publish.images.one_image import one_image

    image = one_image(source, args)
    with new_folder(out) as partial:
        stem = "_".join(["mmae", source.model.config.size, *(each.name for each in image.bands.modalities)])
        file = _save(partial, stem, image)
        entry = _entry(file, image)
        (partial / ENTRY_NAME).write_text(entry, encoding="utf-8")
    print(entry, end="")


def _save(folder: Path, stem: str, image: OneImage) -> str:
    """Write the weights as torch saves them, and return the file's name with its hash."""
    import torch

    from mmae.disk.library_file import library_file

    partial = folder / f"{stem}.pth"
    with open(partial, "x+b") as file, library_file(file) as output:
        torch.save(dict(image.state), output)  # type: ignore[arg-type]
    with open(partial, "rb") as written:
        name = f"{stem}-{hashlib.file_digest(written, 'sha256').hexdigest()[:8]}.pth"
    partial.rename(folder / name)
    return name


def _entry(file: str, image: OneImage) -> str:
    meta = entry_meta(image)
    return _ENTRY.format(
        notes="\n".join(f"# {note}" for note in image.notes),
        model=meta["model"],
        file=file,
        mean=list(image.statistics.mean),
        std=list(image.statistics.std),
        meta=pformat(meta, sort_dicts=False, width=100).replace("\n", "\n    "),
    )


def entry_meta(image: OneImage) -> dict[str, Any]:
    """What TorchGeo keeps of weights, and the arguments without which timm builds another network."""
    from mmae.publish.images.timm_names import ARCHITECTURE

    arguments = {name: value for name, value in image.arguments.items() if name != "in_chans"}
    return {
        "dataset": "MMEarth",
        "in_chans": len(image.bands.sources),
        "model": ARCHITECTURE,
        "publication": "https://arxiv.org/abs/2505.14951",
        "repo": "REPOSITORY",
        "ssl_method": "multimae",
        "bands": image.bands.names,
        "img_size": tuple(image.image_hw),
        "model_args": {**arguments, "num_classes": 0},
    }
