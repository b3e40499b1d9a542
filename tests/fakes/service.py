"""The base of the fakes of services: a real HTTP server on loopback, a log of requests, and faults on demand.

    with FakeCloudinary() as fake:
        fake.fail(lost, on="POST")          # the next POST is executed, but its answer is lost
        fake.fail(status(503), on="/upload", times=2)

A subclass implements :meth:`FakeService.handle`, with all checks of the service.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from multipart import MultipartParser, parse_options_header

from .loopback import Handler, Loopback


@dataclass(frozen=True, slots=True)
class Upload:
    """A file in a form."""

    filename: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: str  # as it was received
    headers: Mapping[str, str]  # with names in lower case
    body: bytes

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    def form(self) -> tuple[dict[str, str], dict[str, Upload]]:
        """Return the fields and files of a form or a JSON object. The values of ``a[]`` are joined by commas."""
        kind, options = parse_options_header(self.headers.get("content-type", ""))
        pairs: list[tuple[str, str]] = []
        files: dict[str, Upload] = {}
        if kind == "multipart/form-data":
            limits = {"memory_limit": 1 << 29, "spool_limit": 1 << 29}  # no temporary files: nothing would close them
            for part in MultipartParser(io.BytesIO(self.body), options["boundary"], **limits):
                if part.filename is None:
                    pairs.append((part.name, part.value))
                else:
                    files[part.name] = Upload(part.filename, part.raw)
        elif kind == "application/json":
            for name, value in json.loads(self.body).items():
                items = value if isinstance(value, list) else [value]
                pairs += [(name, str(item)) for item in items]
        else:
            pairs = parse_qsl(self.body.decode(), keep_blank_values=True)
        fields: dict[str, str] = {}
        for name, value in pairs:
            plain = name.removesuffix("[]")
            fields[plain] = f"{fields[plain]},{value}" if plain in fields else value
        return fields, files


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, status: int, value: Any, headers: Mapping[str, str] | None = None) -> Answer:
        kind = {"Content-Type": "application/json; charset=utf-8"}
        return cls(status, json.dumps(value).encode(), {**kind, **(headers or {})})


Fault = Callable[["FakeService", Request], "Answer | None"]  # None: the connection is closed without an answer


class _Exchange(Handler):
    """Handles the requests of one connection, which stays open between them."""

    def behave(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        with contextlib.suppress(ConnectionError, TimeoutError):
            body = self._chunks() if self.headers.get("Transfer-Encoding") == "chunked" else self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = self.server.owner.respond(Request(self.command, self.path, headers, body))
            if answer is None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            else:
                self._send(answer)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = behave  # noqa: N815 - the names are http.server's

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if "X-Cut" in answer.headers:
            self.wfile.write(answer.body[: len(answer.body) // 2])
            self.close_connection = True
        elif "X-Drip" in answer.headers:
            for byte in answer.body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                if self.server.owner.stopping.wait(float(answer.headers["X-Drip"])):
                    return
        else:
            self.wfile.write(answer.body)

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(time.time() if timestamp is None else timestamp, usegmt=True)


class FakeService(Loopback, ABC):
    """A context manager. :attr:`url` is its address; :attr:`requests` is the log of the requests."""

    handler = _Exchange

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self.lock = threading.RLock()
        self._faults: list[tuple[str, Fault, int]] = []

    @abstractmethod
    def handle(self, request: Request) -> Answer:
        """Execute a request and answer it as the service does."""

    def fail(self, fault: Fault, *, on: str = "", times: int = 1) -> None:
        """Make the next ``times`` requests fail whose ``METHOD target`` contains ``on``."""
        with self.lock:
            self._faults.append((on, fault, times))

    def respond(self, request: Request) -> Answer | None:
        with self.lock:
            self.requests.append(request)
            fault = self._next_fault(request)
        return fault(self, request) if fault else self.handle(request)

    def _next_fault(self, request: Request) -> Fault | None:
        for at, (on, fault, times) in enumerate(self._faults):
            if on in f"{request.method} {request.target}":
                self._faults[at : at + 1] = [(on, fault, times - 1)] if times > 1 else []
                return fault
        return None


# -- faults


def status(code: int, message: str = "scripted", headers: Mapping[str, str] | None = None) -> Fault:
    """Answer with an error of this status; execute nothing."""
    body = {"error": {"message": message}, "message": message}  # as Cloudinary and as ImageKit write it
    return lambda service, request: Answer.json(code, body, headers)


def done_but(code: int, message: str = "scripted") -> Fault:
    """Execute the request, and answer with an error."""

    def fault(service: FakeService, request: Request) -> Answer | None:
        service.handle(request)
        return status(code, message)(service, request)

    return fault


def lost(service: FakeService, request: Request) -> None:
    """Execute the request, and lose the answer."""
    service.handle(request)


def hang_up(service: FakeService, request: Request) -> None:
    """Execute nothing, and close the connection."""


def silent(service: FakeService, request: Request) -> None:
    """Never answer."""
    service.stopping.wait(30)


def not_json(service: FakeService, request: Request) -> Answer:
    """Answer as a proxy does that asks for a login."""
    return Answer(200, b"<html><body>Please log in to this network</body></html>", {"Content-Type": "text/html"})


def drip(service: FakeService, request: Request) -> Answer:
    """Send an answer byte by byte for about ten seconds, so that no single read is slow."""
    return Answer(200, b"{}".ljust(45), {"X-Drip": "0.22"})


def cut(service: FakeService, request: Request) -> Answer:
    """Promise the whole body and send half of it."""
    answer = service.handle(request)
    return replace(answer, headers={**answer.headers, "X-Cut": "1"})


# -- files


def content(request: Request, data: bytes, content_type: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with a file, or with the range of it that was asked for (RFC 9110)."""
    base = {"Content-Type": content_type, "Accept-Ranges": "bytes", **(headers or {})}
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    if not found or not (found[1] or found[2]):
        return Answer(200, data, base)
    first = int(found[1]) if found[1] else max(0, len(data) - int(found[2]))
    last = min(int(found[2]), len(data) - 1) if found[1] and found[2] else len(data) - 1
    if first > last:
        return Answer(416, b"", {**base, "Content-Range": f"bytes */{len(data)}"})
    return Answer(206, data[first : last + 1], {**base, "Content-Range": f"bytes {first}-{last}/{len(data)}"})
