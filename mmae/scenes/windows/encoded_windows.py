"""The encoder over windows: one vector a patch, the mean of the tokens that its modalities have there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from mmae.model.features import features
from mmae.scenes.files.rasters import Raster
from mmae.scenes.windows.window_inputs import WindowInputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.types import Inputs

EMBEDDING: Final = "embedding"


def embedding_raster(dim: int) -> Raster:
    """One band a dimension, on the grid of patches; NaN where there is no data."""
    return Raster(EMBEDDING, 1, dim, "float32", float("nan"), tuple(f"dimension {number}" for number in range(dim)))


class EncodedWindows:
    """A `WindowModel` whose one raster holds the encoder's vectors."""

    def __init__(self, inputs: WindowInputs) -> None:
        self._inputs = inputs
        self.rasters = (embedding_raster(inputs.encoder.dim),)

    def prepare(self, arrays: Mapping[str, NDArray[Any]]) -> Inputs:
        return self._inputs.prepare(arrays)

    def run(self, inputs: Inputs) -> list[NDArray[np.float32]]:
        """The vectors (B, h, w, D) of windows; 0 where no modality has data."""
        visible = inputs.visible()
        with torch.inference_mode():
            found = features(self._inputs.encoder.model, inputs.values, visible)
            maps_MBhwD = torch.stack(list(found.maps.values())).float()
            if visible is None:
                return [maps_MBhwD.mean(0).cpu().numpy()]
            valid_MBN = torch.stack([visible[name] for name in found.maps])
            count_Bhw = valid_MBN.sum(0).view(maps_MBhwD.shape[1:4])
            # A hidden token's place holds 0.
            return [(maps_MBhwD.sum(0) / count_Bhw.clamp(min=1)[..., None]).cpu().numpy()]

    def finish(self, raster: Raster, sums_RCK: NDArray[np.float32], data_RC: NDArray[np.bool_]) -> NDArray[np.float32]:
        """The vectors, (D, R, C) float32."""
        return np.where(data_RC, sums_RCK.transpose(2, 0, 1), np.float32(raster.no_data))
