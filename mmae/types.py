"""The stages of a tile on its way through the project, and the letters of shape suffixes.

    Tile -> Batch -> Inputs -> MaskPlan -> ModelOutput

Shape suffixes, everywhere in the project:
    B  tiles of a micro-batch        C  bands or channels       H W  pixels of the image grid
    M  input modalities              n  tokens of one modality  h w  pixels of a modality (image / stride)
    N  all tokens, M x n, modality after modality               P p  patch side, in image and modality pixels
    K  visible tokens                G  global tokens           L    visible and global tokens, K + G
    D  encoder width                 d  decoder width           O    outputs (decoders)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True)
class Tile:
    """One MMEarth tile as it is stored: every array in the file's own dtype.

    Attributes:
        row: its row in the source HDF5 file, which is its identity for random draws.
        level: index into `modalities.S2_LEVELS`.
        arrays: dataset name -> array without the leading tile axis, (C, H, W) or (C,).
    """

    row: int
    level: int
    arrays: Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Damage:
    """A tile that could not be read and was left out.

    Attributes:
        shard: path of its shard.
        row: its source row.
        dataset: the dataset of the first damaged array.
        offset: byte of the shard where that array's member begins.
        what: describes the damage.
    """

    shard: str
    row: int
    dataset: str
    offset: int
    what: str


@dataclass(frozen=True)
class Batch:
    """A micro-batch in stored integers, before any floating-point number is made.

    Attributes:
        pixels: dataset name -> (B, C, H, W), the file's dtype.
        level_B: uint8, index into `modalities.S2_LEVELS`.
        row_B: int64, source rows.
        key_B: int64, the key of each tile's random draws (`draws.tile_keys`).
        real_B: bool; False where a tile only pads the last micro-batch of a validation, or is damaged: it is in
            no loss and counts nowhere.
        damaged: the damaged ones among its tiles; their pixels are 0.
    """

    pixels: Mapping[str, Tensor]
    level_B: Tensor
    row_B: Tensor
    key_B: Tensor
    real_B: Tensor
    damaged: tuple[Damage, ...] = ()

    def _map(self, name: str, *args: object, **kwargs: object) -> Batch:
        def move(tensor: Tensor) -> Tensor:
            moved: Tensor = getattr(tensor, name)(*args, **kwargs)
            return moved

        return replace(
            self,
            pixels={key: move(value) for key, value in self.pixels.items()},
            level_B=move(self.level_B),
            row_B=move(self.row_B),
            key_B=move(self.key_B),
            real_B=move(self.real_B),
        )

    def pin_memory(self) -> Batch:
        return self._map("pin_memory")

    def to(self, device: torch.device) -> Batch:
        """The batch on a device; pinned memory is copied without waiting."""
        return self._map("to", device, non_blocking=True)

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Keep the batch's device memory until `stream` has done what it was told so far."""
        for tensor in (*self.pixels.values(), self.level_B, self.row_B, self.key_B, self.real_B):
            tensor.record_stream(stream)


@dataclass(frozen=True)
class Inputs:
    """A micro-batch as the model and the losses see it.

    Attributes:
        values: modality -> float32 (B, C, h, w), 0 where there is no data;
            categorical: int64 class ids (B, h, w), the no-data class where there is none.
        valid: modality -> bool, shaped like the values ((B, C, h, w) or (B, h, w)): True where a value is data.
        token_valid: modality -> bool (B, n): True where any value of the token's patch is data.
        key_B: int64, the key of each tile's random draws.
        real_B: bool, False for padding and damaged tiles: they are in no loss.
    """

    values: Mapping[str, Tensor]
    valid: Mapping[str, Tensor]
    token_valid: Mapping[str, Tensor]
    key_B: Tensor
    real_B: Tensor

    def visible(self) -> Mapping[str, Tensor] | None:
        """The mask for `mmae.features`; None where all tokens hold data, which is quicker. Waits for the device."""
        return None if all(bool(valid.all()) for valid in self.token_valid.values()) else self.token_valid


@dataclass(frozen=True)
class MaskPlan:
    """Which tokens the encoder sees.

    Attributes:
        keep_BK: int64, indices of the visible tokens among all N, in the order fed to the encoder.
        hidden_BN: bool, True for every token that is not visible.
        filled_B: int64, how many visible tokens carry no data (a tile with too few valid tokens).
    """

    keep_BK: Tensor
    hidden_BN: Tensor
    filled_B: Tensor


@dataclass(frozen=True)
class ModelOutput:
    """What the decoders predict.

    Attributes:
        patches: output -> (B, n, C, p, p), in the loss's layout: token by token, then channel, row, column.
        encoded_BLD: the encoder's output, visible tokens then global tokens.
    """

    patches: Mapping[str, Tensor]
    encoded_BLD: Tensor
