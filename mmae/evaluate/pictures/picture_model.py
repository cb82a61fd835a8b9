"""A trained model that reconstructs tiles one by one, for pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mmae.data.loading.loader import read_batches
from mmae.data.transforms.preprocess import Preprocess
from mmae.engine.checkpoint.consolidate import load_trained
from mmae.errors import InputError
from mmae.evaluate.pictures.tile_figure import METRES, ModelRows
from mmae.evaluate.pictures.tile_rows import RealNumbers, rows_of
from mmae.losses import sample_losses
from mmae.model.saved.doubtful_weights import warn_of_weights
from mmae.terminal.printable import printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.config.schema import Config
    from mmae.data.sampling.mixture import Places
    from mmae.data.sampling.shard_sets import ShardSet
    from mmae.evaluate.pictures.mask_choice import MaskChoice
    from mmae.model.mmae import MultiMAE
    from mmae.types import Batch, Inputs, MaskPlan, ModelOutput


@dataclass(frozen=True, eq=False)
class PictureModel:
    """One model of a picture; `name` is its run's folder."""

    name: str
    step: int
    model: MultiMAE
    config: Config
    band_stats: dict[str, Any]
    seed: int

    def rows(self, sets: Sequence[ShardSet], place: Places, masks: MaskChoice) -> ModelRows:
        """The rows of the one tile at a place, in real units."""
        batch = self._batch(sets, place, masks)
        preprocess = self._preprocess()
        inputs, plan, output = self._run(batch, preprocess, masks)
        scales = preprocess.tile_scales(batch, train=False)
        scale_of = {name: (float(mean_B[0]), float(deviation_B[0])) for name, (mean_B, deviation_B) in scales.items()}
        real = RealNumbers(self.band_stats, int(batch.level_B[0]), scale_of)
        name = printable(f"{Path(self.name).resolve().name}, step {self.step}")
        return ModelRows(
            name, rows_of(0, self.config.model, inputs, plan, output, real), self._metres(batch, preprocess)
        )

    def _metres(self, batch: Batch, preprocess: Preprocess) -> float:
        """Metres along a side of a pixel: a whole tile that is resized has pixels of another size."""
        if self.config.data.crop != "resize":
            return METRES
        _, tile_width = preprocess.tile_size({name: tuple(pixels.shape) for name, pixels in batch.pixels.items()})
        return METRES * tile_width / self.config.model.image_hw[1]

    def losses(self, sets: Sequence[ShardSet], places: Places, masks: MaskChoice) -> NDArray[np.float64]:
        """The loss of each tile, float64 (B,): the sum over the outputs that are scored."""
        preprocess, found = self._preprocess(), []
        for tile in range(len(places)):
            inputs, plan, output = self._run(self._batch(sets, places[tile : tile + 1], masks), preprocess, masks)
            found.append(float(sample_losses(output, inputs, plan, self.config.model).sum()))
        return np.array(found, dtype=np.float64)

    def _batch(self, sets: Sequence[ShardSet], place: Places, masks: MaskChoice) -> Batch:
        return next(read_batches(sets, self.config.model.domains, place, seed=self.seed, epoch=masks.epoch, size=1))

    def _preprocess(self) -> Preprocess:
        return Preprocess(self.config.data, self.config.model, self.band_stats, torch.device("cpu"))

    @torch.no_grad()
    def _run(self, batch: Batch, preprocess: Preprocess, masks: MaskChoice) -> tuple[Inputs, MaskPlan, ModelOutput]:
        inputs = preprocess(batch, train=False)
        token_valid_BN = torch.cat([inputs.token_valid[name] for name in self.config.model.in_domains], dim=1)
        plan = masks.plan(token_valid_BN, inputs.key_B, self.config.model)
        return inputs, plan, self.model(inputs.values, plan)


def load_picture_model(run: str, step: int | None, trust: bool) -> PictureModel:
    """The model of a run.

    Raises:
        InputError: see `load_trained`.
    """
    trained = load_trained(run, step, trust)
    warn_of_weights(trained.model, run)
    return PictureModel(run, trained.step, trained.model, trained.config, trained.band_stats, trained.config.train.seed)


def check_alike(models: Sequence[PictureModel]) -> None:
    """Refuse models that do not look at the same pixels of a tile, which cannot stand side by side.

    Raises:
        InputError: another input size, patch size or way of cropping.
    """
    first = models[0]
    for other in models[1:]:
        for key, ours, theirs in (
            ("model.input_size", first.config.model.image_hw, other.config.model.image_hw),
            ("model.patch_size", first.config.model.patch_size, other.config.model.patch_size),
            ("data.crop", first.config.data.crop, other.config.data.crop),
        ):
            if ours != theirs:
                raise InputError(
                    f"{other.name}: {key} is {theirs}, and {ours} in {first.name}: draw such runs one by one"
                )
