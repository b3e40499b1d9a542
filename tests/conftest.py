"""Fixtures that many rooms share: a clean environment, real servers, and apps on every backend."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from flask import Flask
from playwright.sync_api import Browser, sync_playwright

from flask_persistent_uploads import Uploads
from flask_persistent_uploads.backends.cloudinary import CloudinaryBackend
from flask_persistent_uploads.backends.imagekit import ImageKitBackend

from .fakes.cloudinary import FakeCloudinary
from .fakes.imagekit import FakeImageKit
from .servers import S3Server, clean_environment

PNG = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
    b"\x00\x00\x00\rIDATx\x9cc\xf8\xcf\xc0\xf0\x1f\x00\x05\x00\x01\xff\x89\x99=\x1d\x00\x00\x00\x00IEND\xaeB`\x82"
)

# How long an example takes says nothing on a machine that others use as well.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

MakeApp = Callable[..., Flask]

BACKENDS = ("memory", "local", "s3", "cloudinary", "imagekit")


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


@pytest.fixture(scope="session")
def cloudinary_server() -> Iterator[FakeCloudinary]:
    with FakeCloudinary() as server:
        account = server.add()
        account.admin_limit, account.max_bytes = 1 << 30, dict.fromkeys(account.max_bytes, 1 << 30)
        yield server


@pytest.fixture(scope="session")
def imagekit_server() -> Iterator[FakeImageKit]:
    with FakeImageKit() as server:
        account = server.add()
        account.max_bytes = dict.fromkeys(account.max_bytes, 1 << 30)
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium without a screen; ``CHROMIUM`` names another than the one on the PATH.

    It lives as long as one module: while it does, an asyncio loop runs in this thread, where no other can then run.
    """
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        pytest.fail("there is no Chromium: install Debian's package chromium, or set CHROMIUM=/path/to/it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=["--disable-gpu", "--disable-quic"],  # beside Playwright's own, which keep it off the network
            chromium_sandbox=os.geteuid() != 0,  # root cannot start it with one
            env={**os.environ, "HOME": str(tmp_path_factory.mktemp("browser"))},
        )
        yield browser
        browser.close()


@pytest.fixture
def make_app(tmp_path: Path) -> MakeApp:
    """``make_app(UPLOADS_X=…)``: an app with the extension, configured by ``app.config``."""

    def make(uploads: Uploads | None = None, **settings: Any) -> Flask:
        app = Flask("tests", instance_path=str(tmp_path / "instance"))
        app.config.update(TESTING=True, **settings)
        (uploads or Uploads()).init_app(app)
        return app

    return make


@pytest.fixture(params=BACKENDS)
def settings(request: pytest.FixtureRequest) -> dict[str, str]:
    """The settings that choose each backend in turn."""
    return settings_of(request.param, request)


def open_below(folder: Path) -> list[str]:
    """What this process holds open below ``folder``; what it holds elsewhere ends as the collector pleases."""
    held = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            held.append(str(descriptor.readlink()))
    return [name for name in held if name.startswith(str(folder))]


def settings_of(backend: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """What an operator sets to choose ``backend``, and nothing else."""
    if backend in {"memory", "local"}:
        return {"UPLOADS_BACKEND": backend}
    server = request.getfixturevalue(f"{backend}_server")
    if isinstance(server, FakeCloudinary):
        return {
            "UPLOADS_CLOUDINARY_URL": "cloudinary://key:secret@demo",
            "UPLOADS_CLOUDINARY_UPLOAD_PREFIX": server.url,
            "UPLOADS_PUBLIC_URL": f"{server.url}/demo",
        }
    if isinstance(server, FakeImageKit):
        return {
            "UPLOADS_IMAGEKIT_PRIVATE_KEY": "private_x",
            "UPLOADS_IMAGEKIT_PUBLIC_KEY": "public_x",
            "UPLOADS_IMAGEKIT_URL_ENDPOINT": f"{server.url}/ik/demo",
            "UPLOADS_IMAGEKIT_BASE_URL": server.url,
        }
    assert isinstance(server, S3Server)
    return server.environment()


@pytest.fixture
def uploads() -> Uploads:
    return Uploads()


@pytest.fixture
def app(make_app: MakeApp, uploads: Uploads, settings: dict[str, str]) -> Iterator[Flask]:
    """An app on each backend in turn, within its context."""
    app = make_app(uploads, **settings)
    with app.app_context():
        yield app


def cloudinary_backend(server: FakeCloudinary, cloud: str = "demo", **options: Any) -> CloudinaryBackend:
    """The backend on an account of the fake."""
    account = server.accounts[cloud]
    given = {"api_key": account.api_key, "api_secret": account.api_secret, "upload_prefix": server.url}
    return CloudinaryBackend(**{"cloud_name": cloud, "public_url": f"{server.url}/{cloud}", **given, **options})


def imagekit_backend(server: FakeImageKit, account_id: str = "demo", **options: Any) -> ImageKitBackend:
    """The backend on an account of the fake."""
    account = server.accounts[account_id]
    given = {"private_key": account.private_key, "public_key": account.public_key, "base_url": server.url}
    return ImageKitBackend(**{"url_endpoint": f"{server.url}/ik/{account_id}", **given, **options})
