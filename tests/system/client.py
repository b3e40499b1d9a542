"""A small HTTP client for the system tests. It sends forms over a kept connection, as a browser does."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

BOUNDARY = "----WebKitFormBoundaryAbC123"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    data: bytes


def form(*files: tuple[str, str, bytes]) -> bytes:
    """Return the body of a form with these files: field, filename, content."""
    parts = []
    for field, filename, content in files:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{filename}"\r\n\r\n'
        parts.append(head.encode() + content + b"\r\n")
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def connect(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    assert parts.hostname
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | Iterable[bytes] | None = None
) -> Answer:
    """Send one request on a kept connection. A redirect is not followed."""
    headers = {"Content-Type": CONTENT_TYPE} if body is not None else {}
    connection.request(method, path, body, headers, encode_chunked=not isinstance(body, (bytes, type(None))))
    answer = connection.getresponse()
    return Answer(answer.status, dict(answer.getheaders()), answer.read())


def once(url: str, method: str, path: str, body: bytes | Iterable[bytes] | None = None) -> Answer:
    """Send one request on a new connection."""
    connection = connect(url)
    try:
        return ask(connection, method, path, body)
    finally:
        connection.close()


def save(url: str, *files: tuple[str, str, bytes], path: str = "/save") -> list[dict[str, Any]]:
    """Upload files and return the app's JSON, which has ``path``, ``sha256`` and ``size`` of each."""
    answer = once(url, "POST", path, form(*files))
    assert answer.status == 200, answer.data
    saved: list[dict[str, Any]] = json.loads(answer.data)
    return saved


def fetch(url: str, *, method: str = "GET") -> Answer:
    """Return the final answer. Redirects are followed with the same method, as a browser does."""
    while True:
        parts = urlsplit(url)
        answer = once(url, method, f"{parts.path}?{parts.query}" if parts.query else parts.path)
        if answer.status != 302:
            return answer
        url = answer.headers["Location"]
