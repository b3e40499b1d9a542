"""The app that the system tests run under gunicorn. The environment can shift its clock and warm up its connections."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

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


@app.after_request
def name_the_worker(response: Response) -> Response:
    response.headers["X-Worker"] = str(os.getpid())
    return response


@app.get("/")
def index() -> str:
    return "ready"


@app.post("/save")
def save() -> Response:
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
