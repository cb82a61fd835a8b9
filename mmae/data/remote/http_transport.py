"""Files over http and https, by `requests`: proxies, certificates and netrc are those of the environment."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

import requests
import urllib3

from mmae.addresses import join, one_line, secrets_of, without_secrets
from mmae.data.remote.transport import Body, Interrupted, Patience, Refused, fast_enough

_CHUNK: Final = 1 << 18
_NETWORK: Final = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
_RANGE: Final = re.compile(r"bytes (\d+)-")
_TRANSIENT: Final = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)


class HttpRemote:
    """A folder of a web server; see `transport.Remote`. A query in its address is appended to each file's name."""

    def __init__(self, location: str, patience: Patience) -> None:
        self._location = location
        self._patience = patience

    def shown(self, name: str) -> str:
        return without_secrets(join(self._location, name))

    @contextmanager
    def open(self, name: str, offset: int) -> Iterator[Body]:
        with requests.Session() as session, self._get(session, name, offset) as response:
            yield Body(_offset(response), fast_enough(_chunks(response), self._patience))

    def _get(self, session: requests.Session, name: str, offset: int) -> requests.Response:
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
        times = (self._patience.connect_s, self._patience.stall_s)
        try:
            response = session.get(join(self._location, name), headers=headers, stream=True, timeout=times)
        except _NETWORK as error:
            raise _failure(error) from None
        if offset and response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            response.close()
            return self._get(session, name, 0)
        if response.status_code in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            return response
        response.close()
        # A server may repeat what it was asked.
        what = f"HTTP {response.status_code} {one_line(response.reason or '', secrets_of([self._location]))}".rstrip()
        if response.status_code in _TRANSIENT:
            raise Interrupted(what, _retry_after(response.headers.get("Retry-After")))
        raise Refused(what)


def _chunks(response: requests.Response) -> Iterator[bytes]:
    # `iter_content` would wait for whole chunks, without end if a server sends very slowly.
    try:
        while chunk := response.raw.read1(_CHUNK, decode_content=True):
            yield chunk
    except _NETWORK as error:
        raise _failure(error) from None


def _failure(error: Exception) -> Refused | Interrupted:
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return Interrupted("no answer in time")
    if isinstance(error, ValueError | requests.TooManyRedirects):  # of the address itself
        return Refused(type(error).__name__)
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return Refused("the server's certificate cannot be verified")
    return Interrupted(_reason(error))


def _offset(response: requests.Response) -> int:
    if response.status_code == HTTPStatus.OK:
        return 0
    match = _RANGE.match(response.headers.get("Content-Range", ""))
    if match is None:
        raise Interrupted("the server sent a part of the file and does not say which part")
    return int(match[1])


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or a date."""
    if value is None:
        return None
    try:
        return float(value) if value.isdigit() else max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except ValueError:
        return None


def _reason(error: BaseException) -> str:
    """The system's message behind an error. The library's own message would repeat the address with its token."""
    chain = [error]
    while (below := chain[-1].__cause__ or chain[-1].__context__ or getattr(chain[-1], "reason", None)) is not None:
        if not isinstance(below, BaseException) or below in chain:
            break
        chain.append(below)
    for each in reversed(chain):
        if isinstance(each, OSError) and each.strerror:
            return each.strerror
    return f"connection lost, {type(error).__name__}"
