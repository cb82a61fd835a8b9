"""Named arrays in one npz file, written whole; pickles are neither written nor read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from mmae.disk.files import atomic_file, writing
from mmae.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], remedy: str) -> None:
    """Write a file, whole or not at all; one that is there is replaced.

    Args:
        remedy: what to do where it cannot be written, for the message.

    Raises:
        InputError: it cannot be written.
    """
    with writing(path, remedy), atomic_file(path) as file:
        np.savez(file, allow_pickle=False, **dict(arrays))


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file.

    Raises:
        InputError: it is damaged, or not there.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise InputError(f"{path} is damaged ({error}): remove it, and run the same command again") from None
