"""What computes rasters from the windows of a scene, as the pass over a scene sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmae.scenes.files.rasters import Raster
    from mmae.types import Inputs


class WindowModel(Protocol):
    """Computes rasters from windows."""

    @property
    def rasters(self) -> Sequence[Raster]: ...

    def prepare(self, arrays: Mapping[str, NDArray[Any]]) -> Inputs:
        """Windows as read, dataset -> (B, C, H, W), as the model's inputs. A thread of its own may call it."""

    def run(self, inputs: Inputs) -> list[NDArray[np.float32]]:
        """For each raster what the windows say: float32 (B, R, C, channels)."""

    def finish(self, raster: Raster, sums_RCK: NDArray[np.float32], data_RC: NDArray[np.bool_]) -> NDArray[Any]:
        """A raster (bands, R, C) of its dtype, from weighted means; no data where `data_RC` is False."""
