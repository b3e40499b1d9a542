"""A TCP relay on loopback that records what clients send on each connection.

with Relay(server.url) as relay:
    backend = S3Backend(endpoint_url=relay.url, …)
    …
    assert len(relay.sent) == 1     # the backend opened one connection
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterable
from socketserver import BaseRequestHandler, ThreadingTCPServer
from urllib.parse import urlsplit


class _Connection(BaseRequestHandler):
    """Passes the bytes of one connection to the server and its answers back."""

    server: _Server

    def handle(self) -> None:
        sent = bytearray()
        self.server.sent.append(sent)
        with socket.create_connection(self.server.target) as target:
            answers = threading.Thread(target=_copy, args=(target, self.request))
            answers.start()
            _copy(self.request, target, record=sent)
            answers.join()


def _copy(source: socket.socket, target: socket.socket, *, record: bytearray | None = None) -> None:
    """Copy bytes until one side ends the connection."""
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            if record is not None:
                record += data
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128
    target: tuple[str, int]
    sent: list[bytearray]


class Relay:
    """A context manager; :attr:`url` is its address, and :attr:`sent` holds the bytes of each connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self._target = (parts.hostname, parts.port)
        self.sent: list[bytearray] = []

    def __enter__(self) -> Relay:
        self._server = _Server(("127.0.0.1", 0), _Connection)
        self._server.target, self._server.sent = self._target, self.sent
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def senders(self, names: Iterable[str]) -> list[set[str]]:
        """Return, for each connection, which of these names occur in what was sent on it."""
        names = list(names)
        return [{name for name in names if name.encode() in sent} for sent in self.sent]
