"""Files that a command writes: WebDataset's `pipe:` addresses, with `{}` where the file's name goes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Final

from mmae.addresses import PIPE, one_line, secrets_of, without_secrets
from mmae.data.remote.transport import Body, Interrupted, Patience, Refused, Wrong, fast_enough
from mmae.errors import InputError

if TYPE_CHECKING:
    from webdataset.gopen import Pipe

_CHUNK: Final = 1 << 18
_PLACE: Final = "{}"
_NOT_RUNNABLE: Final = (126, 127)


class PipeRemote:
    """The files that `pipe:COMMAND` writes to its standard output, run by the shell; see `transport.Remote`.

    Raises:
        InputError: the command has no `{}`.
    """

    def __init__(self, location: str, patience: Patience) -> None:
        self._command = location.removeprefix(PIPE).strip()
        self._patience = patience
        if _PLACE not in self._command:
            raise InputError(f"data.shards: {self.shown('')}: write {_PLACE} where the name of a file goes")

    def shown(self, name: str) -> str:
        return f"{without_secrets(f'{PIPE}{self._command}')} {name}".rstrip()

    @contextmanager
    def open(self, name: str, offset: int) -> Iterator[Body]:
        from webdataset.gopen import Pipe

        # Always from the start, because a command has no offset.
        command = self._command.replace(_PLACE, name)
        with tempfile.TemporaryFile() as said:
            # A process group of its own, so that everything that the shell has started can be ended with it.
            pipe = Pipe(
                command,
                mode="rb",
                ignore_errors=True,
                shell=True,
                bufsize=0,
                stdin=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )
            try:
                yield Body(0, fast_enough(self._chunks(pipe, said), self._patience))
            finally:
                if pipe.proc.poll() is None:
                    with suppress(ProcessLookupError):
                        os.killpg(pipe.proc.pid, signal.SIGKILL)
                pipe.close()

    def _chunks(self, pipe: Pipe, said: IO[bytes]) -> Iterator[bytes]:
        stall_s = self._patience.stall_s
        while True:
            if not select.select([pipe.stream], [], [], stall_s)[0]:
                raise Interrupted(f"the command wrote nothing for {stall_s:g} s")
            chunk = pipe.stream.read(_CHUNK)
            if not chunk:
                break
            yield chunk
        try:
            status = pipe.proc.wait(stall_s)
        except subprocess.TimeoutExpired:
            raise Interrupted("the command closed its output and did not end") from None
        if status:
            said.seek(0)
            words = one_line(said.read().decode(errors="replace"), secrets_of([f"{PIPE}{self._command}"]))
            what = ": ".join(filter(None, (f"exit status {status}", words)))
            raise Refused(what) if status in _NOT_RUNNABLE else Wrong(what)
