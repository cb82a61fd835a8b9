"""The encoder of one image: what the formats of timm's family write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmae.publish.export_options import image_size, listed
from mmae.publish.images.image_bands import ImageBands, image_bands
from mmae.publish.images.raw_statistics import RawStatistics, notes, raw_statistics
from mmae.publish.images.timm_head import TimmHead, timm_head
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
        head: of a fine-tuned model, where timm has the same.
        head_note: a sentence on it; empty for pretrained models.
    """

    bands: ImageBands
    statistics: RawStatistics
    image_hw: tuple[int, int]
    arguments: Mapping[str, Any]
    pooling: str
    state: Mapping[str, Tensor]
    width: int
    head: TimmHead | None
    head_note: str

    @property
    def notes(self) -> list[str]:
        """Sentences on what the image must hold, what its token is, and which size it has."""
        height, width = self.image_hw
        size = f"Images have {height}x{width} pixels: positions are those of that grid. Export again for another size."
        return [*notes(self.bands, self.statistics), size, *([self.head_note] if self.head_note else [])]


def one_image(source: Source, args: argparse.Namespace, with_head: bool = False) -> OneImage:
    """The encoder of the image that the options name.

    Args:
        with_head: and the head of a fine-tuned model, if timm has the same.

    Raises:
        InputError: the options do not fit the model.
    """
    model = source.model
    chosen = image_bands(model.config, args.modality, listed("--bands", args.bands), model.tokenizer.table)
    image_hw = image_size(args.image_size) or model.config.image_hw
    grid_of(model.config, image_hw)
    statistics = raw_statistics(chosen, source.band_stats, args.level)
    head, head_note = timm_head(model, chosen) if with_head else (None, "")
    arguments, state = timm_arguments(model, len(chosen.sources), image_hw), timm_state(model, chosen, image_hw)
    if head is not None:
        arguments |= {"final_norm": True, "fc_norm": True, "global_pool": head.pooling}
        state |= head.state
    pooled = pooling(model) if head is None else head.pooling
    return OneImage(chosen, statistics, image_hw, arguments, pooled, state, model.variant.dim, head, head_note)
