"""Reconstructions through time: the pictures of a run's validations, small enough for a page."""

from __future__ import annotations

import base64
import re
import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmae.disk.regular_file import open_regular
from mmae.report.page.markup import el
from mmae.run.layout import TILES_KEY

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from PIL.Image import Image

_STEP: Final = re.compile(r"step_(\d{1,18})\.png")
_MOST_FRAMES: Final = 8
_FRAME_BYTES: Final = 22_000
"""A frame of seven modalities at half its width takes about three quarters of it: base64 adds a third."""
_WIDTH: Final = 936
_MOST_PIXELS: Final = 60_000_000
_TRIES: Final = ((1.0, 60), (1.0, 40), (0.75, 50), (0.5, 50), (0.5, 25))
"""Shares of the width, and qualities of WebP: the first that fits is taken. Small is better than blurred, or none."""


def film(folder: Path, budget: int) -> list[Element]:
    """The first tile of some validations' pictures, spread evenly over the run, and a line where there are none.

    Args:
        folder: the run's `pictures`.
        budget: most bytes in the page.
    """
    found = sorted((int(match[1]), path) for path in folder.glob("step_*.png") if (match := _STEP.fullmatch(path.name)))
    most = max(2, min(_MOST_FRAMES, budget // _FRAME_BYTES))
    if len(found) > most:
        found = [found[round(at * (len(found) - 1) / (most - 1))] for at in range(most)]
    frames, skipped = [], 0
    for step, path in found:
        data = _small(path, budget * 3 // 4 // len(found))
        if data is None:
            skipped += 1
            continue
        about = f"Step {step}"
        alt = f"Reconstruction of one validation tile at step {step}: input, visible, prediction, target, error."
        source = f"data:image/webp;base64,{base64.b64encode(data).decode()}"
        frames.append(el("figure", el("figcaption", about), el("img", src=source, alt=alt)))
    lines = [el("p", f"{skipped} pictures cannot be read, or are too large for this page.")] if skipped else []
    if not frames:
        return [*lines, el("p", "There is no picture of a validation (log.pictures).")]
    return [*lines, el("div", *frames, class_="film", tabindex="0", role="group", aria_label="Reconstructions by step")]


def _small(path: Path, most: int) -> bytes | None:
    """The picture's first tile as WebP of at most so many bytes; None if that cannot be."""
    from PIL import Image

    try:
        with open_regular(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=["PNG"]) as picture:
                if picture.width * picture.height > _MOST_PIXELS:
                    return None
                tile = _first_tile(picture)
                for share, quality in _TRIES:
                    data = BytesIO()
                    _scaled(tile, share).save(data, format="WEBP", quality=quality, method=4)
                    if data.tell() <= most:
                        return data.getvalue()
    # A damaged picture may raise anything.
    except Exception:
        return None
    return None


def _first_tile(picture: Image) -> Image:
    said = picture.info.get(TILES_KEY, "1")
    tiles = int(said) if isinstance(said, str) and said.isdecimal() and 0 < int(said) < 1000 else 1
    tile = picture.convert("RGB").crop((0, 0, picture.width // tiles, picture.height))
    return _scaled(tile, min(1.0, _WIDTH / tile.width))


def _scaled(tile: Image, share: float) -> Image:
    if share == 1:
        return tile
    return tile.resize((max(1, int(tile.width * share)), max(1, int(tile.height * share))))
