"""`mmae export --format published`: one torch save under the names that the published code loads."""

from __future__ import annotations

from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, Final, cast

from mmae.errors import InputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from pathlib import Path

    from mmae.publish.export_source import Source

OPTIONS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType({})


def check(out: Path, args: argparse.Namespace) -> None:
    """Refuse a file that exists, and the name of a folder."""
    from mmae.publish.export_options import new_file

    new_file(out, args.out)


def write(out: Path, source: Source, args: argparse.Namespace) -> None:
    """Write float32 weights and options. The format has no place for band statistics."""
    import torch

    from mmae.disk.files import atomic_file, writing
    from mmae.disk.library_file import library_file
    from mmae.model.mmae import MultiMAE
    from mmae.model.published.file import published_checkpoint

    if not isinstance(source.model, MultiMAE):
        raise InputError("--format published: a fine-tuned model has no decoders, which the published code loads")
    model, epoch = source.model, source.extra.get("epoch")
    checkpoint = published_checkpoint(
        model.state_dict(), model.config, model.variant, source.extra.get("log_vars"), epoch
    )
    with writing(out, "make room, or choose another place"):
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(out, replace=False) as file, library_file(file) as output:
            torch.save(checkpoint, cast("IO[bytes]", output))
