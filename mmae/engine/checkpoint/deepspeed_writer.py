"""Writes DeepSpeed's state to the disk: hashed on the way, synced, and without raising on one rank alone.

DeepSpeed waits for every rank in the middle of a save. A rank that cannot write therefore keeps its error until the end
of the save, where the ranks tell one another.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mmae.engine.checkpoint.hashed_file import Entry, HashedFile, hash_file
from mmae.engine.deepspeed_internals.checkpoint_engine import WriterInterface


@dataclass
class Written:
    """What one rank wrote.

    Attributes:
        files: the written files by their path within the checkpoint.
        error: why it could not write everything; empty where it could.
    """

    files: dict[str, Entry] = field(default_factory=dict)
    error: str = ""


class _Memory:
    """A file in memory, in pieces."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, data: Any) -> int:
        self.pieces.append(bytes(data))
        return len(self.pieces[-1])

    def flush(self) -> None:
        """Nothing to do."""

    def copy_to(self, file: Any) -> None:
        for piece in self.pieces:
            file.write(piece)


class StateWriter(WriterInterface):
    """DeepSpeed's `checkpoint_engine`, for one rank. Call `begin` first and `finish` last.

    With `in_memory` the files' content is kept in memory until `finish` writes it, which any thread may call.
    """

    def __init__(self) -> None:
        super().__init__()
        self.begin(Path(), in_memory=False)

    def begin(self, folder: Path, in_memory: bool) -> None:
        """Begin a new checkpoint in `folder`."""
        self._folder = folder
        self._in_memory = in_memory
        self._held: dict[Path, _Memory] = {}
        self._written = Written()

    def save(self, state_dict: Any, path: str | Path) -> None:
        """Write what `torch.load` reads."""
        self.put(Path(path), lambda file: torch.save(state_dict, file))

    def put(self, path: Path, write: Callable[[Any], Any]) -> None:
        """Write a file by calling `write` with an open file. Raises nothing."""
        try:
            if self._in_memory:
                memory = _Memory()
                write(memory)
                self._held[path] = memory
            else:
                self._to_disk(path, write)
        except Exception as error:  # the ranks tell one another at the end of the save
            self.fail(error, path)

    def adopt(self, folder: Path) -> None:
        """Add files that DeepSpeed wrote into a folder of the checkpoint without this writer. Raises nothing."""
        try:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    self._written.files[self._name(path)] = hash_file(path)
                    with path.open("rb") as file:
                        os.fsync(file.fileno())
        except OSError as error:
            self.fail(error, folder)

    def fail(self, error: Exception, path: Path) -> None:
        """Keep an error, unless there is an earlier one."""
        reason = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
        self._written.error = self._written.error or f"{path.name}: {reason}"

    def finish(self) -> Written:
        """Write what is held in memory, and return what was written. Raises nothing."""
        self._in_memory = False
        for path in list(self._held):
            memory = self._held.pop(path)
            self.put(path, memory.copy_to)
        return self._written

    def _to_disk(self, path: Path, write: Callable[[Any], Any]) -> None:
        if self._written.error:
            return
        file = HashedFile(path)
        try:
            write(file)
        finally:
            entry = file.close()
        self._written.files[self._name(path)] = entry

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        try:
            os.makedirs(path, exist_ok=exist_ok)
        except OSError as error:
            self.fail(error, Path(path))
