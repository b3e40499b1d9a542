"""Direct urls that stay the same for a whole window, and the redirect to one.

Within a window every worker and host answers with the same bytes of URL, so that a browser keeps the picture; a
redirect may be kept as long as its signature holds, less a margin.
"""

from __future__ import annotations

import time
from binascii import crc32
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from flask import Response
from werkzeug.datastructures import Headers

from ..backends.base import Backend
from . import policy

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: The clock, in Unix seconds.
now = time.time

MARGIN = 60  # seconds that a kept redirect ends before its signature does


class Link(NamedTuple):
    url: str
    seconds_left: int


def direct_link(backend: Backend, key: str, expires: int, *, method: str = "GET") -> Link | None:
    """Today's direct url of a key and how long it works; ``None`` where the app serves the file itself."""
    moment = now()
    signed_at = window_start(key, expires, moment)
    end = backend.valid_until()
    if end is not None:
        expires = max(1, min(expires, int(end) - signed_at))
    url = backend.url(
        key, signed_at=signed_at, expires_in=expires, method=method, download_as=policy.download_name(key)
    )
    return Link(url, signed_at + expires - int(moment)) if url is not None else None


def window_start(key: str, expires: int, moment: float) -> int:
    """When the window began in which ``moment`` lies: windows last half of ``expires`` seconds.

    They are shifted by a hash of the key, so that not all pictures of a page turn over at once.
    """
    length = max(1, expires // 2)
    shift = crc32(key.encode()) % length
    return (int(moment) + shift) // length * length - shift


class Redirect(Response):
    """A 302 that is kept no longer than its link works. Never 301: the link changes, the path does not.

    It has no body and an absolute Location, so it leaves out what a Response does for bodies and relative ones, which
    would be half of what a view of a file costs.
    """

    _status = "302 FOUND"
    _status_code = 302
    direct_passthrough = False

    def __init__(self, link: Link, *, private: bool) -> None:
        self.response = ()
        self._on_close = []
        # A page that fetches the file follows the redirect with "Origin: null", which only * matches.
        shared = () if private else (("Access-Control-Allow-Origin", "*"),)
        self.headers = _Headers(
            [
                ("Location", link.url),
                ("Cache-Control", f"private, max-age={max(0, link.seconds_left - MARGIN)}"),
                ("Referrer-Policy", "no-referrer"),
                ("Content-Type", "text/plain"),
                ("Content-Length", "0"),
                *shared,
            ]
        )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self.response or self._on_close:  # of the app's own after_request
            return super().__call__(environ, start_response)
        start_response(self.status, self.headers.to_wsgi_list())
        return ()


class _Headers(Headers):
    """Headers of names and values that are known to need no check."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._list = pairs
