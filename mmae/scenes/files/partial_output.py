"""A folder beside an output that is being computed: finished parts lie in it, so that another start goes on there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmae.disk.file_lock import LockedFile
from mmae.disk.files import TEMPORARY, check_place, write_whole, writing
from mmae.disk.json_text import parse_json
from mmae.disk.named_arrays import load_arrays, save_arrays
from mmae.disk.regular_file import read_regular_text
from mmae.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SUFFIX: Final = ".partial"
_JOB: Final = "job.json"
_LOCK: Final = "lock"
_OWN: Final = (_JOB, _LOCK, "*.npz", f".*{TEMPORARY}", "*.plain.tif*", "whole.tif*")
"""Names of what commands leave in the folder. Anything else is the user's."""
REMEDY: Final = "make room, or choose another OUT; the same command then goes on"


class PartialOutput:
    """Named groups of arrays that are finished. Several processes may write different ones.

    Attributes:
        out: the output that this is a part of.
        folder: `OUT.partial`.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out.with_name(f"{out.name}{_SUFFIX}")

    def has(self, name: str) -> bool:
        return self._path(name).is_file()

    def save(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Store a group, whole or not at all.

        Raises:
            InputError: it cannot be written.
        """
        save_arrays(self._path(name), arrays, REMEDY)

    def load(self, name: str) -> dict[str, NDArray[Any]]:
        """A stored group.

        Raises:
            InputError: it is damaged.
        """
        return load_arrays(self._path(name))

    def remove(self) -> None:
        """Remove what commands left in the folder, and the folder if nothing else lies in it: the output is whole."""
        with suppress(OSError):
            for name in _OWN:
                for path in self.folder.glob(name):
                    path.unlink()
            self.folder.rmdir()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"


@contextmanager
def partial_output(out: Path, job: Mapping[str, Any]) -> Iterator[PartialOutput]:
    """The partial output of a job, new or left by an interrupted start; this process holds its lock.

    Args:
        out: the file or folder that the job makes; it must not exist.
        job: JSON-able: everything that the result depends on.

    Raises:
        InputError: the output exists; another process writes it; or what an earlier start left is of another job.
    """
    check_new_output(out)
    partial = PartialOutput(out)
    text = json.dumps(job, indent=1, sort_keys=True)
    _check_own(partial.folder)
    with writing(partial.folder, REMEDY):
        partial.folder.mkdir(parents=True, exist_ok=True)
        lock = LockedFile(partial.folder / _LOCK, os.O_RDWR | os.O_CREAT)
    try:
        if lock.try_lock(exclusive=True) is False:
            raise InputError(f"{out}: another process writes it: wait for it, or choose another OUT")
        _check_job(partial.folder, text)
        yield partial
    finally:
        lock.close()


def check_new_output(out: Path) -> None:
    """Refuse an output that exists, or could not be written at the end, before seconds are spent.

    Raises:
        InputError: as said.
    """
    if os.path.lexists(out):
        raise InputError(f"{out} exists already: choose another name, or remove it first")
    check_place(out, out, "choose another place")


def _check_own(folder: Path) -> None:
    """Raise InputError if something that no command of ours left has the name of the folder."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InputError(f"{folder} is in the way of parts of the result: remove it, or choose another OUT")
    if not folder.is_dir() or (folder / _JOB).exists():
        return
    # A start that was killed at once has left its lock, or the beginning of the job's file.
    for found in sorted(folder.iterdir()):
        if found.name != _LOCK and not found.match(f".{_JOB}.*{TEMPORARY}"):
            raise InputError(
                f"{folder} was not left by an earlier start, as it has no {_JOB}: move it away, or choose another OUT"
            )


def _check_job(folder: Path, text: str) -> None:
    path = folder / _JOB
    try:
        stored = parse_json(read_regular_text(path))
    except FileNotFoundError:
        with writing(path, REMEDY):
            write_whole(path, text)
        return
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): remove {folder}") from None
    wanted = json.loads(text)
    if stored != wanted:
        known = stored if isinstance(stored, dict) else {}
        differing = [key for key in sorted({*known, *wanted}) if known.get(key) != wanted.get(key)]
        raise InputError(
            f"{folder} holds the beginning of another result ({', '.join(differing)} differ): "
            "give the same inputs and options to go on, or remove it"
        )
