"""Redirects to direct urls that stay the same for a whole window.

Within a window, every worker and host makes the same URL, byte for byte, so that browsers keep the picture in their
cache. A redirect may be cached as long as its signature is valid, less a margin.
"""

from __future__ import annotations

import time
from binascii import crc32
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flask import Response
from werkzeug.datastructures import Headers

from ..backends.base import Backend
from . import policy

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: The clock, in Unix seconds.
now = time.time

MARGIN = 60  # seconds: a cached redirect ends this long before its signature


@dataclass(frozen=True, slots=True)
class Link:
    """A direct url and the number of seconds for which it still works."""

    url: str
    seconds_left: int


def direct_link(
    backend: Backend,
    key: str,
    expires: int,
    *,
    method: str = "GET",
    download_name: str | None = None,
    ends_at: float | None = None,
) -> Link | None:
    """Return the current direct url of a key; ``None`` if the app sends the file itself.

    It works for at least half of ``expires`` seconds, but not beyond the end of temporary credentials, nor beyond
    ``ends_at`` (Unix seconds).
    """
    moment = now()
    signed_at = window_start(key, expires, moment)
    end = backend.valid_until()
    if ends_at is not None:
        end = ends_at if end is None else min(end, ends_at)
    if end is not None:
        expires = max(1, min(expires, int(end) - signed_at))
    name = download_name or policy.download_name(key)
    url = backend.url(key, signed_at=signed_at, expires_in=expires, method=method, download_as=name)
    return Link(url, signed_at + expires - int(moment)) if url is not None else None


def window_start(key: str, expires: int, moment: float) -> int:
    """Return the start of the window that contains ``moment``. A window lasts half of ``expires`` seconds.

    Windows are shifted by a hash of the key, so that the pictures of a page do not all change at once.
    """
    length = max(1, expires // 2)
    shift = crc32(key.encode()) % length
    return (int(moment) + shift) // length * length - shift


class Redirect(Response):
    """A 302 that caches keep no longer than its link works. It is never a 301, because the link changes.

    It has no body and an absolute Location. It skips what a ``Response`` does for bodies and for relative URLs. That
    halves the cost of a view.
    """

    _status = "302 FOUND"
    _status_code = 302
    direct_passthrough = False

    def __init__(self, link: Link, *, private: bool) -> None:
        self.response = ()
        self._on_close = []
        # A script on another site follows the redirect with "Origin: null", which only * matches.
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
        if self.response or self._on_close:  # set by an after_request function of the app
            return super().__call__(environ, start_response)
        start_response(self.status, self.headers.to_wsgi_list())
        return ()


class _Headers(Headers):
    """Headers whose names and values are known to be valid, so they are not checked."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._list = pairs
