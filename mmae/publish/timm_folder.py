"""`mmae export --format timm`: the encoder of one image, as a folder that timm and transformers load."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, cast

from mmae.publish.export_options import image_size, listed, options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from pathlib import Path

    from mmae.publish.export_source import Source
    from mmae.publish.image_bands import ImageBands
    from mmae.publish.raw_statistics import RawStatistics

OPTIONS: Final = options(("--modality", "--bands", "--level", "--image-size"))


def check(out: Path, args: argparse.Namespace) -> None:
    """Refuse a folder that holds something, and words that cannot be read."""
    from mmae.disk.files import check_new_folder

    listed("--bands", args.bands)
    image_size(args.image_size)
    check_new_folder(out)


def write(out: Path, source: Source, args: argparse.Namespace) -> None:
    """Write `config.json`, `model.safetensors` and `README.md`, and print what the image must hold."""
    from mmae.publish.one_image import one_image
    from mmae.publish.raw_statistics import notes
    from mmae.publish.weight_folder import new_folder

    image = one_image(source, args)
    said = notes(image.bands, image.statistics)
    with new_folder(out) as partial:
        write_files(partial, image, said)
    print("\n".join(said))
