"""Request an address as a browser does, but without a cache."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, HTTPMessage
from typing import IO
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from ..backends import remote
from ..errors import BackendTimeout

_MAX_BODY = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response. The body is cut off after 1 MiB."""

    status: int
    headers: Message
    body: bytes


class Unreachable(Exception):
    """No response was received. The message is a clause, and does not repeat the address, which may be signed."""


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


class _SameHost(HTTPRedirectHandler):
    """Follows redirects to another scheme or path, but not to another host, which no server may choose for us."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        target = urlsplit(newurl)
        if target.scheme not in {"http", "https"} or target.hostname != urlsplit(req.full_url).hostname:
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def request(
    url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, seconds: float = 5, follow: bool = False
) -> Response:
    """Send one request on a new connection, and return the response, whatever its status.

    If ``follow`` is set, redirects within the same host are followed. Raises :class:`Unreachable` if the whole response
    is not received within ``seconds``.
    """
    if not url.startswith(("http://", "https://")):
        raise Unreachable("the address does not begin with http:// or https://")
    opener = build_opener(_SameHost if follow else _NoRedirects)

    def send() -> Response:
        prepared = Request(url, method=method, headers=dict(headers or {}))  # noqa: S310 - checked above
        try:
            with opener.open(prepared, timeout=seconds) as found:
                return Response(found.status, found.headers, found.read(_MAX_BODY))
        except HTTPError as error:
            with error:
                return Response(error.code, error.headers, error.read(_MAX_BODY))

    try:
        return remote.call_with_deadline(seconds, send)
    except BackendTimeout:
        raise Unreachable("the server did not answer in time") from None
    except (OSError, HTTPException, ValueError) as error:
        raise Unreachable(_describe(getattr(error, "reason", error))) from None


def _describe(reason: object) -> str:
    """Return why no response was received, as a clause."""
    descriptions = {
        socket.gaierror: "the host name does not exist",
        ConnectionRefusedError: "the server refused the connection",
        ssl.SSLCertVerificationError: "the server's certificate is not trusted",
        ssl.SSLError: "the server does not speak TLS (should the address begin with http://?)",
        TimeoutError: "the server did not answer in time",
    }
    found = (text for kind, text in descriptions.items() if isinstance(reason, kind))
    return next(found, "the server cannot be reached")
