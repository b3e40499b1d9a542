"""Fixtures that many rooms share: a clean environment, real servers, and apps on every backend."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_persistent_uploads import Uploads

from .servers import S3Server, clean_environment

PNG = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
    b"\x00\x00\x00\rIDATx\x9cc\xf8\xcf\xc0\xf0\x1f\x00\x05\x00\x01\xff\x89\x99=\x1d\x00\x00\x00\x00IEND\xaeB`\x82"
)

MakeApp = Callable[..., Flask]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the machine's own settings, or a .env file of the folder it was started in."""
    kept = clean_environment(HOME=str(tmp_path))
    for name in set(os.environ) - set(kept):
        monkeypatch.delenv(name)
    for name, value in kept.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _quiet_log() -> Iterator[None]:
    """The start-up line sets up logging; put it back, so that each test sees its own."""
    logger = logging.getLogger("flask_persistent_uploads")
    yield
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def make_app(tmp_path: Path) -> MakeApp:
    """``make_app(UPLOADS_X=…)``: an app with the extension, configured by ``app.config``."""

    def make(uploads: Uploads | None = None, **settings: Any) -> Flask:
        app = Flask("tests", instance_path=str(tmp_path / "instance"))
        app.config.update(TESTING=True, **settings)
        (uploads or Uploads()).init_app(app)
        return app

    return make


@pytest.fixture(params=["memory", "local", "s3"])
def settings(request: pytest.FixtureRequest) -> dict[str, str]:
    """The settings that choose each backend in turn."""
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        return server.environment()
    return {"UPLOADS_BACKEND": request.param}


@pytest.fixture
def uploads() -> Uploads:
    return Uploads()


@pytest.fixture
def app(make_app: MakeApp, uploads: Uploads, settings: dict[str, str]) -> Iterator[Flask]:
    """An app on each backend in turn, within its context."""
    app = make_app(uploads, **settings)
    with app.app_context():
        yield app
