"""`manifest.json`: every file of a checkpoint with its size and hash. It is written last, after all other files."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Final

import xxhash

from mmae.disk.json_text import parse_json
from mmae.disk.regular_file import read_regular_text
from mmae.engine.checkpoint.hashed_file import Entry, hash_file

MANIFEST: Final = "manifest.json"
_VERSION: Final = 1
_THREADS: Final = 4
_NOT_OURS: Final = ".nfs"
"""NFS renames a deleted file that is still open to a name with this prefix."""

Files = Mapping[str, Entry]
"""Content of each file, by its path within the checkpoint, with `/`."""


def render(files: Files) -> str:
    """The manifest's text, the same for the same files. It contains a hash of itself."""
    listed = {name: [files[name].size, files[name].hash] for name in sorted(files)}
    body = {"version": _VERSION, "files": listed}
    return json.dumps({**body, "hash": xxhash.xxh3_128_hexdigest(json.dumps(body).encode())}, indent=1) + "\n"


def parse(text: str) -> dict[str, Entry]:
    """The files that a manifest lists.

    Raises:
        ValueError: the text is not, to the last byte, what `render` wrote.
    """
    try:
        listed = parse_json(text)["files"]
        files = {str(name): Entry(int(size), str(digest)) for name, (size, digest) in listed.items()}
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"not a manifest: {error!r}") from error
    if render(files) != text:
        raise ValueError("its content does not match its own hash, or it has another version")
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"names a file elsewhere: {name!r}")
    return files


def read_manifest(checkpoint: Path) -> dict[str, Entry] | None:
    """The files that a checkpoint's manifest lists; None where there is no manifest.

    Raises:
        ValueError: the manifest is damaged.
        OSError: the manifest cannot be read.
    """
    try:
        return parse(read_regular_text(checkpoint / MANIFEST))
    except FileNotFoundError:
        return None


_LOADED: Final = (".pt", ".safetensors", ".swp")
"""Files of these kinds are read from a checkpoint. Other files that somebody adds do no harm."""


def listing_problem(checkpoint: Path, files: Files) -> str | None:
    """The first file that is missing, not listed, or of another size, as text; None where there is none.

    Raises:
        OSError: the folder cannot be read.
    """
    there = dict(_walk(checkpoint))
    there.pop(MANIFEST, None)
    for name in sorted({*files, *there}):
        if name not in there:
            return f"{name} is missing"
        if name not in files:
            if name.endswith(_LOADED):
                return f"{name} is not in {MANIFEST}"
            continue
        if there[name] != files[name].size:
            return f"{name} has {there[name]} bytes, but {files[name].size} were written"
    return None


def content_problem(checkpoint: Path, files: Files) -> str | None:
    """The first file that does not hold what was written, as text; None where there is none. Reads every byte.

    Raises:
        OSError: a file cannot be read.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        for name, found in zip(files, pool.map(lambda name: hash_file(checkpoint / name), files), strict=True):
            if found != files[name]:
                return f"{name} does not hold what was written (its hash differs)"
    return None


def share(files: Files, rank: int, world: int) -> dict[str, Entry]:
    """This rank's share of the files to read. The largest come first, each goes to the rank with the fewest bytes."""
    load = [0] * world
    own: dict[str, Entry] = {}
    for name in sorted(files, key=lambda name: (-files[name].size, name)):
        least = load.index(min(load))
        load[least] += files[name].size
        if least == rank:
            own[name] = files[name]
    return own


def _walk(folder: Path, under: str = "") -> Iterator[tuple[str, int]]:
    """Every file in a folder and below it, with its size; -1 for what is neither a file nor a folder."""
    with os.scandir(folder) as found:
        for each in found:
            if each.name.startswith(_NOT_OURS):
                continue
            if each.is_dir(follow_symlinks=False):
                yield from _walk(Path(each.path), f"{under}{each.name}/")
            else:
                about = each.stat(follow_symlinks=False)
                yield f"{under}{each.name}", about.st_size if stat.S_ISREG(about.st_mode) else -1
