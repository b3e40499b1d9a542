"""Downloads files from the address at which a service delivers them.

No error and no log line repeats the URL. It is signed, and opens the file for everybody who reads it.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING
from urllib.parse import urljoin

from ..errors import BackendRefused, FileMissing
from ..stored import Stat
from . import remote

if TYPE_CHECKING:
    import urllib3

_MAX_REDIRECTS = 3


def _connections() -> urllib3.PoolManager:
    import urllib3

    return urllib3.PoolManager(maxsize=16)


_pool: remote.PerProcess[urllib3.PoolManager] = remote.PerProcess(_connections)


def download(
    key: str,
    url: str,
    *,
    timeout: float,
    stat: Callable[[str], Stat | None],
    refused: Callable[[int], BackendRefused],
) -> IO[bytes]:
    """Return the file at a signed URL as a stream at its start.

    ``timeout`` is in seconds, for the headers of the response and then for each read. Raises ``FileMissing`` if the
    status is 404 and ``stat`` does not find the file either. ``refused`` makes the error for any other refusal from its
    HTTP status; for it, 404 means that the file is stored, but not delivered at this address.
    """
    with _translated(key):
        response = remote.call_with_deadline(timeout, lambda: _follow(url, timeout), key)
    if response.status == 200:
        return io.BufferedReader(remote.Download(response, lambda: _translated(key)), remote.PIECE)
    response.close()
    if response.status >= 500 or response.status in {420, 429}:
        wait = response.headers.get("Retry-After", "")
        raise remote.unavailable(key, status=response.status, retry_after=int(wait) if wait.isdecimal() else 5)
    if response.status == 404 and stat(key) is None:
        raise FileMissing(key)
    raise refused(response.status)


def _follow(url: str, timeout: float) -> urllib3.BaseHTTPResponse:
    """Return the response at the end of a few redirects."""
    from urllib3.exceptions import HTTPError, ProtocolError

    for _ in range(_MAX_REDIRECTS + 1):
        try:
            response = _get(url, timeout)
        except ProtocolError:  # the service had closed a connection that urllib3 kept open
            response = _get(url, timeout)
        location = response.get_redirect_location()
        if not location:
            return response
        response.close()
        try:
            url = urljoin(url, location)
        except ValueError:
            raise HTTPError("a redirect to an invalid address") from None
    raise HTTPError("too many redirects")


def _get(url: str, timeout: float) -> urllib3.BaseHTTPResponse:
    return _pool.get().request(
        "GET",
        url,
        headers={"Accept-Encoding": "identity"},
        preload_content=False,
        # urllib3 would log the URLs of retries and redirects.
        retries=False,
        redirect=False,
        timeout=remote.urllib3_timeout(timeout),
    )


@contextlib.contextmanager
def _translated(key: str) -> Iterator[None]:
    from urllib3 import exceptions

    try:
        yield
    except exceptions.HTTPError as error:
        raise remote.connection_error(error, key) from None
