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
class Answer:
    """An HTTP response. The body is cut off after 1 MiB."""

    status: int
    headers: Message
    body: bytes


class Unreachable(Exception):
    """No response was received. The message does not repeat the address, which may be a signed one."""


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


class _SameHost(HTTPRedirectHandler):
    """Follows redirects to https or another path, but to no other host: the response must not choose whom we ask."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        target = urlsplit(newurl)
        if target.scheme not in {"http", "https"} or target.hostname != urlsplit(req.full_url).hostname:
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def ask(
    url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, seconds: float = 5, follow: bool = False
) -> Answer:
    """Send one request on a new connection, and return the response, whatever its status.

    ``follow`` follows redirects within the same host. Raises :class:`Unreachable` if the whole response is not received
    within ``seconds``.
    """
    if not url.startswith(("http://", "https://")):
        raise Unreachable("it is not an http address")
    opener = build_opener(_SameHost if follow else _NoRedirects)

    def call() -> Answer:
        request = Request(url, method=method, headers=dict(headers or {}))  # noqa: S310 - checked above
        try:
            with opener.open(request, timeout=seconds) as answer:
                return Answer(answer.status, answer.headers, answer.read(_MAX_BODY))
        except HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read(_MAX_BODY))

    try:
        return remote.call_with_deadline(seconds, call)
    except BackendTimeout:
        raise Unreachable("it did not answer in time") from None
    except (OSError, HTTPException, ValueError) as error:
        raise Unreachable(_describe(getattr(error, "reason", error))) from None


def _describe(reason: object) -> str:
    descriptions = {
        socket.gaierror: "its host name does not exist",
        ConnectionRefusedError: "it refused the connection",
        ssl.SSLCertVerificationError: "its certificate is not trusted",
        ssl.SSLError: "it does not speak TLS (is it http instead of https?)",
        TimeoutError: "it did not answer in time",
    }
    return next((text for kind, text in descriptions.items() if isinstance(reason, kind)), "it cannot be reached")
