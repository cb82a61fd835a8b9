"""Features on disk: computed once, kept by what they depend on, and reused; an interrupted computation goes on.

ROOT/3f1c.../identity.json     what the features depend on
ROOT/3f1c.../NAME.npz          a group of arrays, written whole; pickles are neither written nor read
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmae.disk.files import write_whole, writing
from mmae.disk.free_space import need_space
from mmae.disk.json_text import parse_json
from mmae.disk.named_arrays import load_arrays, save_arrays
from mmae.disk.regular_file import read_regular_text
from mmae.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_IDENTITY: Final = "identity.json"
_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")
_REMEDY: Final = "make room, or choose another folder for features; the same command then goes on"
_FEATURES_REMEDY: Final = "choose another folder for features"


class FeatureStore:
    """The features of one identity. Several processes may write different groups of it.

    Attributes:
        folder: where they lie.
    """

    def __init__(self, root: Path, identity: Mapping[str, Any]) -> None:
        """Open the folder of an identity, or make it.

        Args:
            root: holds one folder an identity.
            identity: JSON-able, all that the features depend on: weights, data, protocol.

        Raises:
            InputError: the folder cannot be written, or holds features of something else.
        """
        text = json.dumps(identity, indent=1, sort_keys=True)
        self.folder = root / hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        path = self.folder / _IDENTITY
        if self.folder.is_symlink():
            raise InputError(f"{self.folder} is a link: {_FEATURES_REMEDY}")
        with writing(self.folder, _REMEDY):
            self.folder.mkdir(parents=True, exist_ok=True)
        try:
            stored = parse_json(read_regular_text(path))
        except FileNotFoundError:
            with writing(path, _REMEDY):
                write_whole(path, text + "\n")
            return
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}): remove {self.folder}") from None
        if stored != json.loads(text):
            raise InputError(f"{path} is of other features: remove {self.folder}, or {_FEATURES_REMEDY}")

    @staticmethod
    def check_space(root: Path, needed: int) -> None:
        """Refuse features that the disk has no room for, before the first is computed.

        Args:
            needed: bytes of all groups that are to be stored below `root`.

        Raises:
            InputError: fewer are free.
        """
        need_space(root, needed, _REMEDY)

    def has(self, name: str) -> bool:
        """Whether a group is stored."""
        return self._path(name).is_file()

    def save(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Store a group, whole or not at all; one that is there is replaced.

        Raises:
            InputError: it cannot be written.
        """
        save_arrays(self._path(name), arrays, _REMEDY)

    def load(self, name: str) -> dict[str, NDArray[Any]]:
        """A stored group.

        Raises:
            InputError: it is damaged, or not there.
        """
        return load_arrays(self._path(name))

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a group")
        return self.folder / f"{name}.npz"
