"""A new folder with weights: whole or not at all, and only its owner writes into it later."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from mmae.disk.files import atomic_folder, check_new_folder, writing
from mmae.disk.ownership import keep_from_others

WEIGHTS_NAME: Final = "model.safetensors"


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which gets the name `folder` when the block ends without an error.

    Raises:
        InputError: the folder holds something already, is not a folder, or cannot be written.
    """
    check_new_folder(folder)
    with writing(folder, "make room, or choose another folder"):
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(folder) as partial:
            yield partial
            # Or whoever shares a group with the user would have to be trusted by every command that reads the model.
            for path in (partial, *partial.rglob("*")):
                keep_from_others(path)


def save_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors, readable as the other files of their folder are.

    Args:
        path: below a folder of `new_folder`.

    Raises:
        OSError: the file cannot be written.
    """
    try:
        save_file(dict(state), path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(None, str(error).rpartition("error: ")[2]) from error
    # safetensors makes a file that only its owner reads, whatever the umask.
    path.chmod(stat.S_IMODE(path.parent.stat().st_mode) & 0o666)
