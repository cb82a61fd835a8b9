"""The libraries of the extra `geo`, imported when they are needed: one line says what is missing."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any, Final

from mmae.errors import InputError

_CACHE: Final = "GDAL_CACHEMAX"
_CACHE_MB: Final = "256"


def rasterio() -> Any:
    """The package that reads and writes GeoTIFFs. Its cache is bounded, unless the user has said another bound.

    Raises:
        InputError: it is not installed.
    """
    # GDAL would otherwise keep blocks of files in a share of the machine's memory, in each process.
    os.environ.setdefault(_CACHE, _CACHE_MB)
    # The package does not import all of its modules by itself.
    _library("rasterio.errors")
    return _library("rasterio")


def pyarrow() -> Any:
    """The package that writes Parquet, as `rasterio`."""
    _library("pyarrow.parquet")
    return _library("pyarrow")


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise InputError(f"{package} is not installed, and this needs it: pip install 'mmae[geo]'") from None
