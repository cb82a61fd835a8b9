"""`mmae export --format folder`: what `mmae.load_model` and `mmae.load_encoder` read."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from pathlib import Path

    from mmae.publish.export_source import Source

OPTIONS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType({})


def check(out: Path, args: argparse.Namespace) -> None:
    """Refuse a folder that holds something."""
    from mmae.disk.files import check_new_folder

    check_new_folder(out)


def write(out: Path, source: Source, args: argparse.Namespace) -> None:
    """Write `model.safetensors` and `config.json`."""
    from mmae.model.saved.saved_model import save_model

    save_model(out, source.model, source.band_stats, source.extra)
