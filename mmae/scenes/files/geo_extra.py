"""The libraries of the extra `geo`, imported when they are needed: one line says what is missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from mmae.errors import InputError


def rasterio() -> Any:
    """The package that reads and writes GeoTIFFs.

    Raises:
        InputError: it is not installed.
    """
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
