"""A server on loopback that runs in a thread until the ``with`` block ends."""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, TypeVar

L = TypeVar("L", bound="Loopback")


class Handler(BaseHTTPRequestHandler):
    """Handles the requests of one connection. ``self.server.owner`` is the :class:`Loopback`."""

    protocol_version = "HTTP/1.1"
    timeout = 30
    disable_nagle_algorithm = True  # headers and body are written separately
    server: _Server

    def log_message(self, *_: Any) -> None:
        pass


class Loopback:
    """A context manager. :attr:`url` is its address."""

    handler: ClassVar[type[Handler]]

    def __init__(self) -> None:
        self.stopping = threading.Event()

    def __enter__(self: L) -> L:
        self._server = _Server(("127.0.0.1", 0), self.handler)
        self._server.owner = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    owner: Any

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # the client went away
            super().handle_error(request, client_address)
