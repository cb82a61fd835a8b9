"""The encoder of one image: what the formats of timm's family write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmae.publish.export_options import image_size, listed
from mmae.publish.images.image_bands import ImageBands, image_bands
from mmae.publish.images.raw_statistics import RawStatistics, notes, raw_statistics
from mmae.publish.images.timm_names import grid_of, pooling, timm_arguments, timm_state

if TYPE_CHECKING:
    import argparse

    from torch import Tensor

    from mmae.publish.export_source import Source


@dataclass(frozen=True)
class OneImage:
    """An encoder of one image, ready to be written.

    Attributes:
        bands: its channels.
        statistics: what they are normalised with.
        image_hw: pixels of the image.
        arguments: of `timm.create_model`, see `timm_arguments`.
        pooling: timm's `global_pool`.
        state: weights by timm's names.
        width: of a token.
    """

    bands: ImageBands
    statistics: RawStatistics
    image_hw: tuple[int, int]
    arguments: Mapping[str, Any]
    pooling: str
    state: Mapping[str, Tensor]
    width: int

    @property
    def notes(self) -> list[str]:
        """Sentences on what the image must hold, what its token is, and which size it has."""
        height, width = self.image_hw
        size = f"Images have {height}x{width} pixels: positions are those of that grid. Export again for another size."
        return [*notes(self.bands, self.statistics), size]


def one_image(source: Source, args: argparse.Namespace) -> OneImage:
    """The encoder of the image that the options name.

    Raises:
        InputError: the options do not fit the model.
    """
    model = source.model
    chosen = image_bands(model.config, args.modality, listed("--bands", args.bands), model.tokenizer.table)
    image_hw = image_size(args.image_size) or model.config.image_hw
    grid_of(model.config, image_hw)
    statistics = raw_statistics(chosen, source.band_stats, args.level)
    return OneImage(
        chosen,
        statistics,
        image_hw,
        timm_arguments(model, len(chosen.sources), image_hw),
        pooling(model),
        timm_state(model, chosen, image_hw),
        model.variant.dim,
    )
