"""The app that the system tests run under gunicorn.

``CLOCK_SHIFT`` moves its clock by so many seconds. With ``WARM_PARENT``, the parent process uses its connections to the
backend before it forks. ``POST /save?stop=1`` stops for ever when the backend has read half of a file.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from flask import Flask, Response, jsonify, request

from flask_persistent_uploads import Uploads, save_uploads
from flask_persistent_uploads.serving import redirects

SHIFT = float(os.environ.get("CLOCK_SHIFT", "0"))
redirects.now = lambda: time.time() + SHIFT

app = Flask(__name__, instance_path=os.path.abspath("instance"))  # noqa: PTH100 - the folder that gunicorn runs in
uploads = Uploads(app)

if os.environ.get("WARM_PARENT"):
    with app.app_context(), ThreadPoolExecutor(8) as pool:
        backend = uploads.backend
        list(pool.map(lambda number: backend.stat(f"warm/{number}"), range(64)))


class StoppingStream:
    """A stream that stops for ever when half of it has been read; the file ``stopped`` then appears in the folder."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._half = stream.seek(0, os.SEEK_END) // 2
        stream.seek(0)

    def read(self, size: int = -1) -> bytes:
        if self._stream.tell() >= self._half:
            Path("stopped").touch()
            threading.Event().wait()
        return self._stream.read(100_000 if size < 0 else min(size, 100_000))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def stop_half_way(save: Callable[..., str]) -> Callable[..., str]:
    """Return a ``save`` that never gets the second half of a file."""
    return lambda key, stream, **options: save(key, StoppingStream(stream), **options)


@app.after_request
def name_the_worker(response: Response) -> Response:
    response.headers["X-Worker"] = str(os.getpid())
    return response


@app.get("/")
def index() -> str:
    return "ready"


@app.post("/save")
def save() -> Response:
    if "stop" in request.args:
        uploads.backend.save = stop_half_way(uploads.backend.save)  # type: ignore[method-assign]
    paths = save_uploads(allow=request.args.getlist("allow") or None)
    return jsonify([{"path": path, "sha256": path.sha256, "size": path.size} for _, path in paths.items(multi=True)])


@app.post("/check")
def check() -> str:
    """Store the file, answer with its digest, and delete it again."""
    (path,) = save_uploads().values()
    uploads.delete(path)
    return path.sha256


@app.get("/read/<path:key>")
def read(key: str) -> bytes:
    with uploads.open(key) as stream:
        return stream.read()
