"""Which bands one image of an exported encoder holds, and the single patch projection that takes them.

A patch projection is linear. So one projection can take the bands of several modalities: its kernel holds theirs side
by side, its bias is the sum of theirs, and its token is the sum of their tokens, with the position added once. A band
that is left out counts as 0, which is its mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmae.errors import InputError, did_you_mean
from mmae.modalities import MODALITIES, Modality

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from mmae.config.schema import ModelConfig
    from mmae.model.encoder import EncoderModel


@dataclass(frozen=True)
class ImageBands:
    """The bands of an image, in the order of its channels.

    Attributes:
        sources: one a channel: the modality, and the place of the band among the modality's bands.
    """

    sources: tuple[tuple[Modality, int], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(modality.band_names[place] for modality, place in self.sources)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Each modality that a band is of, once."""
        return tuple({modality.name: modality for modality, _ in self.sources}.values())

    @property
    def left_out(self) -> tuple[str, ...]:
        """Bands of these modalities that the image does not hold."""
        return tuple(band for modality in self.modalities for band in modality.band_names if band not in self.names)

    @property
    def by_level(self) -> bool:
        return any(modality.by_level for modality in self.modalities)


def image_bands(
    config: ModelConfig,
    modality: str | None,
    bands: Sequence[str] | None,
    table: Mapping[str, Modality] = MODALITIES,
) -> ImageBands:
    """The bands of one modality in its own order, or the named bands of any image modalities.

    Args:
        table: what the model's inputs are.

    Raises:
        InputError: neither or both are given, one is no image input of the model, or a band is named twice.
    """
    images = [table[name] for name in config.in_domains if not table[name].categorical]
    if (modality is None) == (bands is None):
        listed = ", ".join(image.name for image in images)
        raise InputError(f"say one of --modality ({listed}) and --bands (names of bands, such as B4,B3,B2)")
    if bands is not None:
        return _named(images, bands, config)
    for image in images:
        if image.name == modality:
            return ImageBands(tuple((image, place) for place in range(len(image.bands))))
    if modality in config.in_domains:
        raise InputError(f"--modality {modality}: it holds class ids, and this format takes images; export it as onnx")
    known = [image.name for image in images]
    raise InputError(f"--modality {modality}: not an image input of this model{did_you_mean(str(modality), known)}")


def _named(images: Sequence[Modality], bands: Sequence[str], config: ModelConfig) -> ImageBands:
    places = {band: (image, place) for image in images for place, band in enumerate(image.band_names)}
    for band in bands:
        if band not in places:
            raise InputError(f"--bands: {band!r} is not a band of this model's inputs{did_you_mean(band, places)}")
        if bands.count(band) > 1:
            raise InputError(f"--bands: {band} is named twice: name each band once")
    chosen = ImageBands(tuple(places[band] for band in bands))
    if len(chosen.modalities) == 1:
        return chosen
    names = ", ".join(image.name for image in chosen.modalities)
    if config.positions == "learned":
        raise InputError(
            f"--bands: they are of {names}, whose learned positions differ: choose bands of one modality, or a model "
            "with fixed positions"
        )
    return chosen


def projection(model: EncoderModel, chosen: ImageBands) -> tuple[Tensor, Tensor]:
    """The kernel (D, C, P, P) and the bias (D,) of the patch projection that takes these bands, float32."""
    import torch

    adapters = model.tokenizer.adapters
    kernels = [
        adapters[modality.name].get_parameter("proj.weight")[:, place : place + 1] for modality, place in chosen.sources
    ]
    biases = [adapters[modality.name].get_parameter("proj.bias") for modality in chosen.modalities]
    return torch.cat(kernels, dim=1).detach().float(), torch.stack(tuple(biases)).sum(0).detach().float()
