"""mmae: a DeepSpeed-accelerated scaling framework for multi-modal masked autoencoders on MMEarth.

Importing this package is light. Everything else that it offers brings torch with it when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from mmae.version import __version__

if TYPE_CHECKING:
    from mmae.data.loading.shard_dataset import ShardDataset as ShardDataset
    from mmae.inference.raw_encoder import load_encoder as load_encoder
    from mmae.model.features import features as features
    from mmae.model.saved.saved_model import load_finetuned as load_finetuned
    from mmae.model.saved.saved_model import load_model as load_model
    from mmae.publish.hub.hub_model import MultiMAE as MultiMAE
__all__ = ["MultiMAE", "ShardDataset", "__version__", "features", "load_encoder", "load_finetuned", "load_model"]

_HOMES: Final = MappingProxyType(
    {
        "MultiMAE": "mmae.publish.hub.hub_model",
        "ShardDataset": "mmae.data.loading.shard_dataset",
        "features": "mmae.model.features",
        "load_encoder": "mmae.inference.raw_encoder",
        "load_finetuned": "mmae.model.saved.saved_model",
        "load_model": "mmae.model.saved.saved_model",
    }
)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'mmae' has no attribute {name!r}")
