"""An S3 server on loopback that misbehaves on demand, by itself or as a proxy of the real server.

    with ScriptedS3(in_turn(answer(503, "SlowDown"), forward(s3_server.url))) as fake:
        backend = S3Backend(endpoint_url=fake.url, …)

A *behaviour* is a function that handles one request. :attr:`ScriptedS3.requests` is the log of the requests.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from urllib.parse import urlsplit

from .loopback import Handler, Loopback


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Exchange(Handler):
    """Handles one request and closes the connection."""

    def behave(self) -> None:
        self.close_connection = True
        with contextlib.suppress(ConnectionError, TimeoutError):
            self.server.owner.behaviour(self)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = behave  # noqa: N815 - the names are http.server's

    def receive(self, part: float = 1) -> Request:
        """Read the body of the request, or the first ``part`` of it, and log the request."""
        length = int(int(self.headers.get("Content-Length", 0)) * part)
        request = Request(self.command, self.path, dict(self.headers.items()), self.rfile.read(length))
        self.server.owner.requests.append(request)
        return request

    def reply(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {}), "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def hang_up(self) -> None:
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)


Behaviour = Callable[[Exchange], None]


class ScriptedS3(Loopback):
    """A context manager. :attr:`url` is the endpoint."""

    handler = Exchange

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__()
        self.behaviour = behaviour
        self.requests: list[Request] = []


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """Use one behaviour for each request, and the last one for all that follow."""
    number = count()
    return lambda exchange: behaviours[min(next(number), len(behaviours) - 1)](exchange)


def where(matches: Callable[[Exchange], bool], behaviour: Behaviour, otherwise: Behaviour) -> Behaviour:
    return lambda exchange: (behaviour if matches(exchange) else otherwise)(exchange)


def answer(status: int, code: str = "", *, body: bytes = b"", **headers: str) -> Behaviour:
    """Answer with S3's XML for the error ``code``. The header ``x-amz-id-2`` is passed as ``x_amz_id_2``."""
    xml = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>scripted</Message></Error>".encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def behave(exchange: Exchange) -> None:
        exchange.receive()
        exchange.reply(status, xml if code else body, named)

    return behave


def close(*, after: float = 1) -> Behaviour:
    """Close the connection without an answer when this part of the body has been read."""

    def behave(exchange: Exchange) -> None:
        exchange.receive(after)
        exchange.hang_up()

    return behave


def silent(exchange: Exchange) -> None:
    exchange.receive()
    exchange.server.owner.stopping.wait(30)


def drip(exchange: Exchange) -> None:
    """Send a 404 byte by byte for ten seconds, so that no single read is slow."""
    exchange.receive()
    for byte in b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n":
        exchange.wfile.write(bytes([byte]))
        if exchange.server.owner.stopping.wait(0.22):
            return


def half(body: bytes, *, then: Behaviour) -> Behaviour:
    """Promise the whole ``body`` and send half of it; then run ``then`` on the open connection."""

    def behave(exchange: Exchange) -> None:
        exchange.receive()
        exchange.reply(200, body[: len(body) // 2], {"Content-Length": str(len(body))})
        exchange.wfile.flush()
        then(exchange)

    return behave


def forward(url: str, *, flip: bool = False, lose_answer: bool = False) -> Behaviour:
    """Pass the request on to the real server, with one bit of its body flipped, or without returning the answer."""

    def behave(exchange: Exchange) -> None:
        request = exchange.receive()
        method, body = request.method, request.body
        if flip and body:
            body = body[:-1] + bytes([body[-1] ^ 1])
        kept = {name: value for name, value in request.headers.items() if name not in {"Expect", "Connection"}}
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, request.path, body, kept)
            response = connection.getresponse()
            content = response.read()
        if lose_answer:
            exchange.hang_up()
            return
        skipped = {"transfer-encoding", "connection", *(() if method == "HEAD" else ("content-length",))}
        passed = {name: value for name, value in response.getheaders() if name.lower() not in skipped}
        exchange.reply(response.status, content, passed)

    return behave
