"""Files in any store that fsspec knows: s3, gs and others. Credentials are found as by the store's tools."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from mmae.addresses import join, one_line, secrets_of, without_secrets
from mmae.data.remote.transport import Body, Interrupted, Patience, Refused, fast_enough
from mmae.errors import InputError

_READ: Final = 1 << 23
_PERMANENT: Final = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


class FsspecRemote:
    """A folder at an fsspec address; see `transport.Remote`.

    Raises:
        InputError: the kind of store is unknown, or its package is not installed.
    """

    def __init__(self, location: str, patience: Patience) -> None:
        import fsspec  # type: ignore[import-untyped]

        self._location = location
        self._patience = patience
        try:
            fsspec.get_filesystem_class(location.partition("://")[0])
        except (ImportError, ValueError) as error:
            why = one_line(str(error), secrets_of([location]))
            raise InputError(f"data.shards: {without_secrets(location)}: {why}") from None

    def shown(self, name: str) -> str:
        return without_secrets(join(self._location, name))

    @contextmanager
    def open(self, name: str, offset: int) -> Iterator[Body]:
        file = self._called(lambda: _open(join(self._location, name)))
        try:
            yield Body(offset, fast_enough(self._chunks(file, offset), self._patience))
        finally:
            with suppress(Refused, Interrupted):
                self._called(file.close)

    def _chunks(self, file: Any, offset: int) -> Iterator[bytes]:
        self._called(lambda: file.seek(offset))
        while chunk := self._called(lambda: file.read(_READ)):
            yield chunk

    def _called(self, function: Callable[[], Any]) -> Any:
        """The function's result, within `stall_s`: stores have their own time limits, or no limit.

        Raises:
            Refused, Interrupted: instead of what the store raises.
        """
        done: list[Any] = []

        def call() -> None:
            try:
                done.append((function(), None))
            except Exception as error:  # Each store has its own errors.
                done.append((None, error))

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        thread.join(self._patience.stall_s)
        if not done:
            raise Interrupted(f"no answer in {self._patience.stall_s:g} s")
        result, error = done[0]
        if error is None:
            return result
        what = f"{type(error).__name__}: {one_line(str(error), secrets_of([self._location]))}"
        lasting = isinstance(error, _PERMANENT) or "Credentials" in type(error).__name__
        raise Refused(what) if lasting else Interrupted(what)


def _open(address: str) -> Any:
    import fsspec

    # Each process looks it up again, because fsspec's threads do not survive a fork.
    store, path = fsspec.url_to_fs(address)
    return store.open(path, "rb", block_size=_READ, cache_type="none")
