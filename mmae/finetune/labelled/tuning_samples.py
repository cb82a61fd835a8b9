"""A batch of tiles as samples: the model's inputs, and labels that were cropped and turned with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from mmae.data.transforms.preprocess import Preprocess
from mmae.data.transforms.resize import resize_nearest
from mmae.modalities import MODALITIES, Modality
from mmae.types import Batch, Inputs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from mmae.config.schema import DataConfig, ModelConfig
    from mmae.finetune.labelled.label_sources import LabelSource


@dataclass(frozen=True)
class Samples:
    """Tiles as the model and the loss see them.

    Attributes:
        inputs: of the modalities that the model reads.
        labels: see `LabelSource.labels`; not known where a tile is not real.
    """

    inputs: Inputs
    labels: Tensor


class SampleMaker:
    """Makes samples on a device.

    Args:
        model: the encoder's configuration; only its inputs are read.
        band_stats: normalise the inputs.
        source: of the labels.
        table: what modalities are, where the model takes other bands of them.
        bands: dataset -> the bands that batches hold, in their order; None: all of MMEarth's.
    """

    def __init__(
        self,
        config: DataConfig,
        model: ModelConfig,
        band_stats: Mapping[str, Any],
        source: LabelSource,
        device: torch.device,
        table: Mapping[str, Modality] = MODALITIES,
        bands: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        only_inputs = replace(model, out_domains=model.in_domains, extra_norm_pix_loss=False)
        self._preprocess = Preprocess(config, only_inputs, band_stats, device, bands, table)
        self._source = source
        self._resized = model.image_hw if config.crop == "resize" else None

    def __call__(self, batch: Batch, train: bool) -> Samples:
        """The batch, already on the device; cropped and turned at random in training only."""
        inputs = self._preprocess(batch, train=train)
        index_BHW = self._preprocess.source_index(batch, train)
        if self._resized is not None:
            index_BHW = resize_nearest(index_BHW, self._resized)
        labels = self._source.labels(batch, index_BHW)
        real = batch.real_B.view(-1, *(1 for _ in labels.shape[1:]))
        nothing = torch.nan if labels.is_floating_point() else -1
        return Samples(inputs, torch.where(real, labels, nothing))
