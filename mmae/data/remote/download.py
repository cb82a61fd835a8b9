"""Downloads to a local file: repeated until the file is complete, and checked."""

from __future__ import annotations

from typing import IO, Final

import xxhash

from mmae.data.remote.transport import Attempts, Interrupted, Patience, Refused, Remote, Wrong, refused
from mmae.errors import InputError

_HASH_CHUNK: Final = 1 << 20
_LONGEST_TEXT: Final = 1 << 28


def download(remote: Remote, name: str, size: int, digest: str, file: IO[bytes], patience: Patience) -> None:
    """Fetch a file whose content is known by its size and hash.

    Args:
        size: its bytes.
        digest: its xxh3-128, hexadecimal.
        file: unbuffered, open for reading and writing. Its content is taken as the beginning of the download; if the
            hash then differs, the download starts again.

    Raises:
        InputError: the file cannot be fetched, or has another content.
        OSError: `file` cannot be written.
    """
    attempts = Attempts(remote.shown(name), patience)
    hasher = _hash_of(file, size)
    while True:
        try:
            if file.tell() < size:
                _receive(remote, name, size, file, hasher)
            if file.tell() < size:
                raise Interrupted(f"it ended after {file.tell()} of {size} bytes")
            if hasher.hexdigest() != digest:
                raise Wrong("its content is not what the index says")
        except Refused as error:
            raise refused(remote.shown(name), str(error)) from None
        except Interrupted as error:
            if isinstance(error, Wrong):
                _restart(file, hasher)
            attempts.again(error, file.tell())
        else:
            return


def _hash_of(file: IO[bytes], size: int) -> xxhash.xxh3_128:
    """The hash of a file's content, with the position moved to its end. A file that is too long is emptied."""
    hasher = xxhash.xxh3_128()
    if file.seek(0, 2) > size:
        _restart(file, hasher)
    file.seek(0)
    while chunk := file.read(_HASH_CHUNK):
        hasher.update(chunk)
    return hasher


def _restart(file: IO[bytes], hasher: xxhash.xxh3_128) -> None:
    file.seek(0)
    file.truncate()
    hasher.reset()


def _receive(remote: Remote, name: str, size: int, file: IO[bytes], hasher: xxhash.xxh3_128) -> None:
    with remote.open(name, file.tell()) as body:
        if body.offset != file.tell():
            if body.offset:
                raise Wrong(f"asked for byte {file.tell()}, it sent byte {body.offset}")
            _restart(file, hasher)
        for chunk in body.chunks:
            if file.tell() + len(chunk) > size:
                raise Wrong(f"it is longer than the {size} bytes that the index says")
            _write_all(file, chunk)
            hasher.update(chunk)


def _write_all(file: IO[bytes], chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[file.write(view) :]


def fetch_text(remote: Remote, name: str, patience: Patience) -> bytes:
    """The content of a small file with unknown size and hash.

    Raises:
        InputError: the file cannot be fetched, or is not small.
    """
    attempts = Attempts(remote.shown(name), patience)
    while True:
        try:
            return _text(remote, name)
        except Refused as error:
            raise refused(remote.shown(name), str(error)) from None
        except Interrupted as error:
            attempts.again(error, 0)


def _text(remote: Remote, name: str) -> bytes:
    content = bytearray()
    with remote.open(name, 0) as body:
        for chunk in body.chunks:
            content += chunk
            if len(content) > _LONGEST_TEXT:
                raise InputError(f"{remote.shown(name)}: longer than any index: check data.shards")
    return bytes(content)
