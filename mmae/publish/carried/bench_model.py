"""A model for torchgeo-bench: frozen features of the optical bands that a data set and the encoder share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torchgeo_bench.models import BenchModel, InputUnit

from mmae.publish.carried.optical_bands import channels_of
from mmae.publish.carried.plain_encoder import PlainEncoder


def statistics_of(encoder: PlainEncoder, channels: Mapping[str, int], count: int) -> tuple[list[float], list[float]]:
    """Mean and deviation of the encoder's training for each channel of a data set; 0 and 1 where it has none."""
    mean, std = [0.0] * count, [1.0] * count
    for row in encoder.table["inputs"].values():
        numbers = row["statistics_by_level"][encoder.table["level"]]
        for place, band in enumerate(row["bands"]):
            if band in channels and numbers["mean"][place] is not None:
                mean[channels[band]] = numbers["mean"][place]
                std[channels[band]] = numbers["std"][place] or 1.0
    return mean, std


class MmaeBench(BenchModel):  # type: ignore[misc]
    """(B, C, H, W) in the data set's units -> (B, D).

    A modality without any of its bands in the data set is left out; a band that is missing is at its mean. Radar is
    left out: its units differ between data sets.

    Args:
        bands: the data set's, given by torchgeo-bench.
        normalization: torchgeo-bench's; `model_native` is by the statistics of the encoder's training.
        pooling: `mean` over all patches, or the first `global` token.
        folder: of other weights of this kind.
    """

    expected_input_unit = InputUnit.S2_DN

    def __init__(
        self,
        bands: Sequence[Any],
        normalization: str = "model_native",
        pooling: Literal["mean", "global"] = "mean",
        folder: str | None = None,
        **_: object,
    ) -> None:
        encoder = PlainEncoder(folder)
        channels = channels_of(bands)
        # torchgeo-bench reads them while it builds the normalisation.
        self.pretrain_mean, self.pretrain_std = statistics_of(encoder, channels, len(bands))
        super().__init__(bands=list(bands), normalization=normalization)
        self.encoder, self.pooling = encoder, pooling
        self.places = {
            name: [channels.get(band, -1) for band in named]
            for name, named in encoder.bands.items()
            if any(band in channels for band in named)
        }
        if not self.places:
            raise ValueError(
                f"no band of the data set ({', '.join(band.name for band in bands)}) is one of the encoder's"
            )
        if pooling == "global" and not len(encoder.global_tokens):
            raise ValueError("pooling: this encoder has no global token; choose mean")

    @torch.no_grad()
    def _forward_patch_features(self, images: Tensor) -> Tensor:
        images = self._whole_patches(images)
        inputs = {name: self._modality(images, places) for name, places in self.places.items()}
        last = self.encoder(inputs)[-1]
        if self.pooling == "global":
            vector_BD: Tensor = last.global_tokens[:, 0]
            return vector_BD
        return torch.stack([each.mean((2, 3)) for each in last.maps.values()]).mean(0)

    def _modality(self, images: Tensor, places: Sequence[int]) -> Tensor:
        empty = torch.zeros_like(images[:, 0])
        return torch.stack([empty if place < 0 else images[:, place] for place in places], dim=1)

    def _whole_patches(self, images: Tensor) -> Tensor:
        side, hw = self.encoder.patch_size, images.shape[-2:]
        target = [max(1, round(each / side)) * side for each in hw]
        if list(hw) == target:
            return images
        return functional.interpolate(images, size=target, mode="bilinear", align_corners=False)
