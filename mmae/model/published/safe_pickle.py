"""Reads a torch save without trusting its pickle: tensors, plain containers and an `argparse.Namespace`."""

from __future__ import annotations

import argparse
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any, Final

import torch

from mmae.errors import InputError
from mmae.terminal.error_line import first_line

_REFUSED: Final = re.compile(r"(?:GLOBAL|function|class) ([\w.]+)")
"""Finds the name of a refused class or function in torch's message."""
_CAUSE: Final = re.compile(r"WeightsUnpickler error:\s+(.+)")


def load_plain(path: Path) -> Any:
    """The content of a file, on the CPU.

    Raises:
        InputError: the file does not exist, is damaged, or asks for anything else, which is not run.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file: give a published checkpoint (a torch save)")
    try:
        _check_sums(path)
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except Exception as error:
        # A damaged or hostile pickle can raise any error.
        raise InputError(f"{path} {_why(error)}") from None


def _check_sums(path: Path) -> None:
    """Check the checksums of the archive, which torch itself ignores."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"wrong checksum of {damaged}: the file is damaged")


def _why(error: Exception) -> str:
    """One line that replaces torch's long message, which advises to trust the file."""
    if refused := _REFUSED.search(str(error)):
        return (
            f"asks for {refused.group(1).rstrip('.')} in its pickle, and nothing was run: save it again so that it "
            "holds only tensors, plain values and argparse.Namespace"
        )
    cause = _CAUSE.search(str(error))
    first = cause.group(1) if cause else first_line(error)
    return f"cannot be read as a torch save ({type(error).__name__}: {first[:160].strip()})"
