"""A small client for the system tests: forms over a kept connection, as a browser sends them."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

BOUNDARY = "----WebKitFormBoundaryAbC123"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    data: bytes


def form(*files: tuple[str, str, bytes]) -> bytes:
    """A form of files: field, filename, content."""
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
    """One request on a kept connection; redirects are not followed."""
    headers = {"Content-Type": CONTENT_TYPE} if body is not None else {}
    connection.request(method, path, body, headers, encode_chunked=not isinstance(body, (bytes, type(None))))
    answer = connection.getresponse()
    return Answer(answer.status, dict(answer.getheaders()), answer.read())


def once(url: str, method: str, path: str, body: bytes | Iterable[bytes] | None = None) -> Answer:
    """One request on a connection of its own."""
    connection = connect(url)
    try:
        return ask(connection, method, path, body)
    finally:
        connection.close()


def save(url: str, *files: tuple[str, str, bytes], path: str = "/save") -> list[dict[str, Any]]:
    answer = once(url, "POST", path, form(*files))
    assert answer.status == 200, answer.data
    saved: list[dict[str, Any]] = json.loads(answer.data)
    return saved


def fetch(url: str, *, method: str = "GET") -> Answer:
    """Follow redirects as a browser does, by the same method."""
    while True:
        parts = urlsplit(url)
        answer = once(url, method, f"{parts.path}?{parts.query}" if parts.query else parts.path)
        if answer.status != 302:
            return answer
        url = answer.headers["Location"]
