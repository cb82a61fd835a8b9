"""`mmae.load_encoder`: a pretrained encoder that takes raw arrays with named bands, and normalises them by itself.

encoder = mmae.load_encoder("model")
out = encoder(dn_BCHW, bands=["B2", "B3", "B4"], level="l2a")
out.vector, out.maps["rgb"]  # (B, D) and (B, h, w, D)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import torch
from torch import Tensor

from mmae.errors import InputError
from mmae.inference.band_plan import BandPlan, Bands, find_dataset, in_order, plan_bands
from mmae.inference.model_location import model_folder
from mmae.inference.stored_units import Units, as_stored, check_marks, check_offset, check_units_known, remedy
from mmae.modalities import MODALITIES, S2_LEVELS, S2Level
from mmae.model.features import features
from mmae.model.saved.saved_config import SavedModel
from mmae.model.saved.saved_model import load_saved
from mmae.model.tuned.finetuned_model import FinetunedModel, prediction
from mmae.raw_tiles import stored_inputs
from mmae.types import Inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.model.encoder import EncoderModel

Pooling = Literal["mean", "global"]

_POOLINGS: Final = ("mean", "global")


@dataclass(frozen=True, eq=False)
class Encoded:
    """What the encoder says about a batch, in the weights' dtype, without gradients.

    Attributes:
        maps: modality -> (B, h, w, D) over the grid of patches; 0 where a patch holds no data.
        valid: modality -> bool (B, h, w), True where a patch holds data.
        global_tokens: (B, G, D); G may be 0.
        vector: (B, D); NaN for a tile without any data.
    """

    maps: Mapping[str, Tensor]
    valid: Mapping[str, Tensor]
    global_tokens: Tensor
    vector: Tensor


@dataclass(frozen=True, eq=False)
class RawEncoder:
    """A model with what it needs to normalise raw arrays.

    Attributes:
        model: in eval mode; its decoders are not used.
        saved: what its folder says; the band statistics normalise.
    """

    model: EncoderModel
    saved: SavedModel

    @property
    def dim(self) -> int:
        """Width D of tokens and vectors."""
        return self.saved.variant.dim

    @property
    def patch_size(self) -> int:
        """Pixels of a side of a patch; sizes of images are multiples of it."""
        return self.saved.config.patch_size

    def __call__(
        self,
        arrays: Mapping[str, NDArray[np.generic] | Tensor] | NDArray[np.generic] | Tensor,
        *,
        bands: Bands,
        level: str | Sequence[str] | None = None,
        units: Units = None,
        offset: float = 0.0,
        check_units: bool = True,
        pooling: Pooling = "mean",
        block: int | None = None,
    ) -> Encoded:
        """Encode a batch of tiles; patches without data are hidden from the encoder.

        Args:
            arrays, bands, level, units, offset, check_units: see `inputs`.
            pooling: how a tile becomes one vector: the mean of its tokens with data, or of its global tokens.
            block: use the output of this encoder block, counted from 0, or from the end if it is negative; None: of
                the last.

        Raises:
            InputError: as `inputs`; or there is no such block, pooling or global token.
        """
        self._check_pooling(pooling, block)
        given = self.inputs(arrays, bands=bands, level=level, units=units, offset=offset, check_units=check_units)
        return self.encode(given, pooling, block)

    def encode(self, given: Inputs, pooling: Pooling = "mean", block: int | None = None) -> Encoded:
        """`__call__` on what `inputs` gave; pooling and block are not checked."""
        with torch.no_grad():
            found = features(self.model, given.values, given.visible(), block)
            valid = {name: given.token_valid[name].view(tokens.shape[:3]) for name, tokens in found.maps.items()}
            vector_BD = _pooled(found.maps, valid, found.global_tokens, pooling)
        return Encoded(found.maps, valid, found.global_tokens, vector_BD)

    def predict(
        self,
        arrays: Mapping[str, NDArray[np.generic] | Tensor] | NDArray[np.generic] | Tensor,
        *,
        bands: Bands,
        level: str | Sequence[str] | None = None,
        units: Units = None,
        offset: float = 0.0,
        check_units: bool = True,
    ) -> Tensor:
        """What a fine-tuned model predicts: float32 (B, K), or (B, K, H, W) of each pixel, without gradients.

        Probabilities of classes, or numbers in the units of the task (`saved.tuned.task`). Patches without data are
        hidden from the encoder.

        Args:
            arrays, bands, level, units, offset, check_units: see `inputs`.

        Raises:
            InputError: as `inputs`, or the model is not fine-tuned.
        """
        if not isinstance(self.model, FinetunedModel):
            raise InputError("this model is pretrained and has no task to predict: fine-tune it first")
        given = self.inputs(arrays, bands=bands, level=level, units=units, offset=offset, check_units=check_units)
        with torch.no_grad():
            return prediction(self.model.task, self.model(given.values, given.visible()))

    def inputs(
        self,
        arrays: Mapping[str, NDArray[np.generic] | Tensor] | NDArray[np.generic] | Tensor,
        *,
        bands: Bands,
        level: str | Sequence[str] | None = None,
        units: Units = None,
        offset: float = 0.0,
        check_units: bool = True,
    ) -> Inputs:
        """The model's normalised inputs: values, validity, and which tokens hold data.

        Every input modality all of whose bands are given is computed; `plan` says which.

        Args:
            arrays: dataset (`sentinel2`, `sentinel1`, `aster`, ...) -> numpy array or tensor (B, C, H, W) of any real
                dtype; or one such array, whose dataset is found from the names of its bands. H and W are multiples of
                the patch size, the same for all. 0 and below in Sentinel-2, what is not finite, what a numpy
                mask hides, and elsewhere -9999 and below and 1 000 000 and above is no data.
            bands: dataset -> name of each band of the array, in its order; a list where there is one array. The names
                are those of `mmae.modalities`; B02 and b2 are B2.
            level: Sentinel-2 processing level, `l1c` or `l2a`: of all tiles, or one a tile.
            units: None: as MMEarth stores them (Sentinel-2 digital numbers, reflectance x 10000; Sentinel-1 decibels).
                `reflectance` (0 to 1) and `linear` (power) are converted. One name, or one a dataset.
            offset: is added to Sentinel-2 digital numbers that are not 0, after `units`: -1000 for products of
                processing baseline 04.00 and later (January 2022), whose metadata call it `BOA_ADD_OFFSET`.
            check_units: compare the values with the statistics, and refuse 8-bit pictures, marks of no data such as
                65535, and an offset that was subtracted before. False: the caller knows that they are right.

        Raises:
            InputError: a dataset, band, level or unit that the model does not have; bands that complete no modality;
                shapes that do not fit; or values that cannot be in the units of the statistics.
        """
        given, named = self._by_dataset(arrays, bands)
        plan = plan_bands(self.saved.config.in_domains, named, self.saved.table)
        used = tuple(dict.fromkeys(MODALITIES[name].dataset for name in plan.names))
        check_units_known(tuple(given), units, offset)
        for dataset in given:
            _check_shape(dataset, given[dataset], named[dataset])
        for dataset in used if check_units else ():
            check_marks(given[dataset], dataset)
            check_offset(given[dataset], dataset, units, offset)
        pixels = {dataset: as_stored(given[dataset], dataset, units, offset) for dataset in used}
        _check_classes(pixels)
        levels = _levels(level, plan, next(iter(pixels.values())).shape[0])
        switch = "check_units=False" if check_units else None
        device = next(self.model.parameters()).device
        return stored_inputs(self.saved, pixels, plan.places, plan.names, levels, device, switch, remedy)

    def plan(self, bands: Bands) -> BandPlan:
        """Which modalities these bands complete, and which bands none of them takes. No array is needed.

        Raises:
            InputError: as `inputs`, for the bands.
        """
        inputs, table = self.saved.config.in_domains, self.saved.table
        if not isinstance(bands, Mapping):
            bands = {find_dataset(inputs, bands, table): bands}
        return plan_bands(inputs, bands, table)

    def _by_dataset(self, arrays: Any, bands: Bands) -> tuple[dict[str, Any], dict[str, Sequence[str]]]:
        """Arrays and names of bands by dataset, in the same order."""
        if not isinstance(arrays, Mapping):
            if isinstance(bands, Mapping):
                raise InputError("bands is a mapping, and arrays is one array: give a list of names")
            arrays = {find_dataset(self.saved.config.in_domains, bands, self.saved.table): arrays}
        if not isinstance(bands, Mapping):
            if len(arrays) != 1:
                raise InputError(f"bands is a list, and arrays hold {', '.join(arrays) or 'nothing'}: give a mapping")
            bands = dict.fromkeys(arrays, bands)
        for dataset in (*arrays, *bands):
            if dataset not in bands or dataset not in arrays:
                lacks = "bands" if dataset in arrays else "arrays"
                raise InputError(f"{dataset!r} is not in {lacks}: give the array of each dataset and its bands")
        return dict(arrays), {dataset: in_order(bands[dataset], dataset) for dataset in arrays}

    def _check_pooling(self, pooling: str, block: int | None) -> None:
        config, depth = self.saved.config, self.saved.variant.depth
        if pooling not in _POOLINGS:
            raise InputError(f"pooling={pooling!r} is not known: say {' or '.join(map(repr, _POOLINGS))}")
        if pooling == "global" and not config.num_global_tokens:
            raise InputError("pooling='global': this model has no global token: say pooling='mean'")
        if block is not None and not _is_whole(block):
            raise InputError(f"block={block!r:.80}: give a whole number, or None for the last block")
        if block is not None and not -depth <= block < depth:
            raise InputError(f"block={block}: this encoder has {depth} blocks, 0 to {depth - 1}")


def load_encoder(
    source: str | Path,
    revision: str | None = None,
    trust: bool = False,
    device: torch.device | str = "cpu",
) -> RawEncoder:
    """The encoder of a model folder, or of a model on the Hugging Face hub, in eval mode.

    Args:
        source: a folder that `mmae export` wrote, or `owner/name` on the hub.
        revision: branch, tag or commit on the hub.
        trust: read files that other users wrote or can write.

    Raises:
        InputError: there is no such model, a file is damaged, weights do not fit the configuration, or torch cannot
            use the device.
    """
    device = _usable(device)
    folder = model_folder(source, revision)
    saved, model = load_saved(folder, trust)
    return RawEncoder(model.to(device), saved)


def _is_whole(number: Any) -> bool:
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def _usable(device: torch.device | str) -> torch.device:
    try:
        found = torch.device(device)
        torch.zeros(1).to(found)
    # Which error torch raises depends on the device, and on what it was built for.
    except (AssertionError, NotImplementedError, RuntimeError, TypeError) as error:
        first = str(error).partition("\n")[0]
        raise InputError(f"device={device!r:.80} cannot be used here ({first:.160}): say device='cpu'") from None
    return found


def _check_shape(dataset: str, array: Any, bands: Sequence[str]) -> None:
    shape = tuple(getattr(array, "shape", ()))
    if len(shape) != 4 or 0 in shape:
        raise InputError(f"{dataset} has shape {shape}, (B, C, H, W) was expected: give a batch of tiles")
    if shape[1] != len(bands):
        raise InputError(f"{dataset} of shape {shape} has {shape[1]} bands, and bands name {len(bands)}")


def _check_classes(pixels: Mapping[str, Tensor]) -> None:
    categorical = {row.dataset for row in MODALITIES.values() if row.categorical}
    for dataset, stored in pixels.items():
        if dataset in categorical and stored.is_floating_point():
            raise InputError(f"{dataset} has dtype {stored.dtype}, and class codes are integers: convert them")


def _levels(level: str | Sequence[str] | None, plan: BandPlan, count: int) -> list[S2Level]:
    by_level = [name for name in plan.names if MODALITIES[name].by_level]
    if level is None:
        if by_level:
            raise InputError(
                f"level is missing: the statistics of {', '.join(by_level)} are those of a Sentinel-2 level: say "
                "level='l1c' (top of atmosphere) or level='l2a' (surface)"
            )
        return [S2_LEVELS[0]] * count
    if isinstance(level, set | frozenset | Mapping) or not hasattr(level, "__len__"):
        raise InputError(f"level={level!r:.80} is not known: say 'l1c' or 'l2a', or give a list with one a tile")
    words = [level] * count if isinstance(level, str) else list(level)
    found = [next((known for known in S2_LEVELS if known == str(word).lower()), None) for word in words]
    if None in found:
        raise InputError(f"level {words[found.index(None)]!r} is not known: say 'l1c' or 'l2a'")
    if len(found) != count:
        raise InputError(f"{len(found)} levels are given for {count} tiles: give one for all, or one a tile")
    return [known for known in found if known is not None]


def _pooled(maps: Mapping[str, Tensor], valid: Mapping[str, Tensor], global_BGD: Tensor, pooling: Pooling) -> Tensor:
    """(B, D); NaN where no token of a tile is valid."""
    tokens_BND = torch.cat([maps[name].flatten(1, 2) for name in maps], dim=1)
    valid_BN1 = torch.cat([valid[name].flatten(1) for name in maps], dim=1)[..., None]
    count_B1 = valid_BN1.sum(1)
    if pooling == "global":
        return torch.where(count_B1 > 0, global_BGD.mean(1), torch.nan)
    # Sums of many tokens lose digits in bfloat16.
    sum_BD = torch.where(valid_BN1, tokens_BND, 0).sum(1, dtype=torch.float32)
    return (sum_BD / count_B1).to(tokens_BND.dtype)
