"""What a format of `mmae export` is: a module with these three names, entered in `mmae.export.FORMATS`.

The module is imported for `mmae export --help`, so it imports torch within its functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from pathlib import Path

    from mmae.publish.export_source import Source


class ExportFormat(Protocol):
    """A module that writes a model in one format."""

    OPTIONS: Mapping[str, Mapping[str, Any]]
    """The format's own options: flag -> arguments of `add_argument`. The default is None: the user did not say it.

    A flag that several formats share has the same arguments in each.
    """

    def check(self, out: Path, args: argparse.Namespace) -> None:
        """Refuse a place that is taken, and options that contradict; called before weights are read.

        Raises:
            InputError: one of these.
        """

    def write(self, out: Path, source: Source, args: argparse.Namespace) -> None:
        """Write the model whole or not at all.

        Raises:
            InputError: the format has no place for such a model, or the disk refuses.
        """
