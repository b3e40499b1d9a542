"""Asking an address as a browser would, without its cache."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from email.message import Message
from http.client import HTTPException, HTTPMessage
from typing import IO, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from ..backends import remote
from ..errors import BackendTimeout

_LARGEST = 1 << 20  # bytes of an answer that are read


class Answer(NamedTuple):
    status: int
    headers: Message
    body: bytes


class Unreachable(Exception):
    """No answer came. The address is not in it, as it may be a signed one."""


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


class _SameHost(HTTPRedirectHandler):
    """Follows to https or another path, and to no other host: an answer must not choose whom we ask."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        there = urlsplit(newurl)
        if there.scheme not in {"http", "https"} or there.hostname != urlsplit(req.full_url).hostname:
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def ask(
    url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, seconds: float = 5, follow: bool = False
) -> Answer:
    """One request on a connection of its own, answered within ``seconds`` in all. Raises :class:`Unreachable`."""
    if not url.startswith(("http://", "https://")):
        raise Unreachable("it is no http address")
    opener = build_opener(_SameHost if follow else _NoRedirects)

    def call() -> Answer:
        request = Request(url, method=method, headers=dict(headers or {}))  # noqa: S310 - checked above
        try:
            with opener.open(request, timeout=seconds) as answer:
                return Answer(answer.status, answer.headers, answer.read(_LARGEST))
        except HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read(_LARGEST))

    try:
        return remote.within(seconds, call)
    except BackendTimeout:
        raise Unreachable("it did not answer in time") from None
    except (OSError, HTTPException, ValueError) as error:
        raise Unreachable(_in_words(getattr(error, "reason", error))) from None


def _in_words(reason: object) -> str:
    words = {
        socket.gaierror: "there is no host of this name",
        ConnectionRefusedError: "nothing listens there",
        ssl.SSLCertVerificationError: "its certificate is not trusted",
        ssl.SSLError: "it does not speak TLS (is it http in place of https?)",
        TimeoutError: "it did not answer in time",
    }
    return next((text for kind, text in words.items() if isinstance(reason, kind)), "it cannot be reached")
