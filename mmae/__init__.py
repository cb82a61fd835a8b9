"""mmae: a DeepSpeed-accelerated scaling framework for multi-modal masked autoencoders on MMEarth.

Importing this package is light. `load_model` brings torch with it when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmae.model.folder import load_model as load_model

__version__ = "0.1.0"
__all__ = ["__version__", "load_model"]


def __getattr__(name: str) -> Any:
    if name == "load_model":
        from mmae.model.folder import load_model

        return load_model
    raise AttributeError(f"module 'mmae' has no attribute {name!r}")
