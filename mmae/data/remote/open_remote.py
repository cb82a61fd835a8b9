"""The transport for an address, chosen by its scheme."""

from __future__ import annotations

from urllib.parse import urlsplit

from mmae.addresses import PIPE, one_line, secrets_of
from mmae.data.remote.transport import Patience, Remote
from mmae.errors import InputError


def open_remote(location: str, patience: Patience) -> Remote:
    """The folder at an address, by its scheme. Nothing is sent yet.

    Raises:
        InputError: no transport can read this address.
    """
    try:
        urlsplit(location)
    except ValueError as error:
        raise InputError(f"data.shards: not an address ({one_line(str(error), secrets_of([location]))})") from None
    if location.startswith(PIPE):
        from mmae.data.remote.pipe import PipeRemote

        return PipeRemote(location, patience)
    if location.startswith(("http://", "https://")):
        from mmae.data.remote.http_transport import HttpRemote

        return HttpRemote(location, patience)
    from mmae.data.remote.object_store import FsspecRemote

    return FsspecRemote(location, patience)
