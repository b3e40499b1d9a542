"""A complete backend as another package would write it, in one file, and how the extension treats it: like its own."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint
from threading import Lock
from typing import IO, Any
from urllib.parse import urlsplit

import pytest
from flask import Flask

from flask_persistent_uploads import (
    Backend,
    BackendUnavailable,
    ConfigError,
    FileExists,
    FileMissing,
    Problem,
    Stat,
    Uploads,
    WrongLength,
    keys,
)
from flask_persistent_uploads.backends import registry
from flask_persistent_uploads.backends.description import Description
from flask_persistent_uploads.config import Setting
from flask_persistent_uploads.parsers import secret
from flask_persistent_uploads.testing import BackendContract

from ..conftest import BUILTIN, PNG, MakeApp, state_of


def folder_url(raw: object) -> str:
    url = str(raw).strip().rstrip("/")
    if not urlsplit(url).scheme or not urlsplit(url).netloc:
        raise ValueError("the URL of a folder, such as memory://photos")
    return url


class ShelfBackend(Backend):
    """Keeps files in a folder that fsspec reaches: ``UPLOADS_SHELF_URL=memory://photos``."""

    name = "shelf"
    description = Description(
        settings=(
            Setting("shelf_url", folder_url, native=("SHELF_URL",), help="The folder, as a URL that fsspec reads."),
            Setting("shelf_token", secret, native=("SHELF_TOKEN",), help="The token of the account."),
            Setting("shelf_label", help="What the start-up line calls the shelf."),
        ),
        implied_by=("shelf_url",),
        suggested_by=("shelf_token", "SHELF_TOKEN"),
        needs=("shelf_url", "shelf_token"),
        sdk="fsspec",
        install="shelf-uploads[fsspec]",
        persists=True,
    )

    _lock = Lock()  # fsspec's memory:// is one for the whole process, and has no conditional writes

    def __init__(self, *, url: str, token: str, label: str = "unnamed") -> None:
        self.label = label
        self._url = url
        self._token = token

    def __str__(self) -> str:
        return f"shelf {self.label}, {self._url}"

    def save(
        self, key: str, stream: IO[bytes], *, content_type: str, size: int, filename: str, overwrite: bool = False
    ) -> str:
        path, data = self._path(key), stream.read()
        if len(data) != size:
            raise WrongLength(key, expected=size, found=len(data))
        with self._errors(key) as files, self._lock:
            if not overwrite and files.isfile(path):
                raise FileExists(key)
            files.pipe_file(path, data)
        return hashlib.sha256(data).hexdigest()

    def open(self, key: str) -> IO[bytes]:
        with self._errors(key) as files:
            return io.BytesIO(files.cat_file(self._path(key)))

    def stat(self, key: str) -> Stat | None:
        try:
            with self._errors(key) as files:
                found = files.info(self._path(key))
                return self._stat(files, key, found) if found["type"] == "file" else None
        except FileMissing:
            return None

    def delete(self, key: str) -> None:
        with self._errors(key) as files:
            if files.isfile(self._path(key)):
                files.rm_file(self._path(key))

    def entries(self, prefix: str = "") -> Iterator[Stat]:
        with self._errors("") as files:
            root = files._strip_protocol(self._url)
            for path, found in files.find(root, detail=True).items():
                key = path.removeprefix(f"{root}/")
                if key.startswith(prefix) and not key.startswith(keys.RESERVED):
                    yield self._stat(files, key, found)

    def _path(self, key: str) -> str:
        return f"{self._url}/{keys.check(key)}"

    @staticmethod
    def _stat(files: Any, key: str, found: Any) -> Stat:
        return Stat(key, found["size"], files.modified(found["name"]))

    @contextmanager
    def _errors(self, key: str) -> Iterator[Any]:
        """Yield fsspec's file system, and translate its errors."""
        from fsspec.core import url_to_fs

        try:
            yield url_to_fs(self._url)[0]
        except (FileNotFoundError, IsADirectoryError):
            raise FileMissing(key) from None
        except OSError as error:
            raise BackendUnavailable("The shelf does not work.", remedy="Repair it.", key=key) from error


class TestContract(BackendContract):
    @pytest.fixture
    def backend(self) -> ShelfBackend:
        return ShelfBackend(url=f"memory://{secrets.token_hex(8)}", token="t")


# -- how the extension treats it

TOKEN = "hunter2-t0ken"
BY_CLASS = {"UPLOADS_BACKEND": f"{__name__}:ShelfBackend"}
SHELF = {"UPLOADS_SHELF_URL": "memory://photos", "UPLOADS_SHELF_TOKEN": TOKEN}


class TemporaryShelf(ShelfBackend):
    description = replace(ShelfBackend.description, persists=False)


class UnknownShelf(ShelfBackend):
    description = replace(ShelfBackend.description, persists=None)


@pytest.fixture
def _installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the package of the backend, which registers an entry point."""
    point = EntryPoint("shelf", f"{__name__}:ShelfBackend", registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == registry.ENTRY_POINTS else [])
    registry.registered.cache_clear()
    yield
    registry.registered.cache_clear()


def problems_of(make_app: MakeApp, **settings: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        make_app(**settings)
    assert TOKEN not in str(caught.value)
    return caught.value.problems


def doctor(app: Flask) -> dict[str, Any]:
    printed = app.test_cli_runner().invoke(args=["uploads", "doctor", "--offline", "--json"])
    report: dict[str, Any] = json.loads(printed.stdout)
    assert TOKEN not in printed.output
    return report


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_a_backend_that_is_named_by_its_class_keeps_files(make_app: MakeApp) -> None:
    uploads = Uploads()
    app = make_app(uploads, **BY_CLASS, **SHELF)
    with app.app_context():
        path = uploads.save(PNG, filename="a.png")
    assert app.test_client().get(f"/{path}").data == PNG


@pytest.mark.usefixtures("_installed")
def test_a_registered_backend_is_named_by_its_name(make_app: MakeApp) -> None:
    assert isinstance(state_of(make_app(UPLOADS_BACKEND="Shelf", **SHELF)).backend, ShelfBackend)


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize("native", [False, True], ids=["own names", "native names"])
def test_a_registered_backend_is_implied_by_its_setting(
    native: bool, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in SHELF.items():
        monkeypatch.setenv(name.removeprefix("UPLOADS_") if native else name, value)
    backend = state_of(make_app()).backend
    assert isinstance(backend, ShelfBackend)
    assert (str(backend), backend._token) == ("shelf unnamed, memory://photos", TOKEN)
    assert warnings_in(caplog) == []


@pytest.mark.usefixtures("_installed")
def test_another_uploads_reads_the_settings_under_its_own_name(make_app: MakeApp) -> None:
    app = make_app(UPLOADS_BACKEND="memory", DOCUMENTS_SHELF_URL="memory://documents", SHELF_TOKEN=TOKEN)
    Uploads(app, name="documents")
    assert str(state_of(app, "documents").backend) == "shelf unnamed, memory://documents"


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize("source", ["UPLOADS_SHELF_TOKEN", "SHELF_TOKEN"])
def test_half_an_account_is_refused(source: str, make_app: MakeApp) -> None:
    assert problems_of(make_app, **{source: TOKEN}) == (
        Problem(
            f"{source} is set, but UPLOADS_SHELF_URL is not.",
            "Set UPLOADS_SHELF_URL too, or set UPLOADS_BACKEND=local.",
            "UPLOADS_SHELF_URL",
        ),
    )


@pytest.mark.usefixtures("_installed")
def test_a_missing_setting_is_reported_with_its_native_name(make_app: MakeApp) -> None:
    assert problems_of(make_app, SHELF_URL="memory://photos") == (
        Problem(
            "UPLOADS_SHELF_TOKEN (or SHELF_TOKEN) is not set.",
            "Set it, or set UPLOADS_BACKEND=local.",
            "UPLOADS_SHELF_TOKEN",
        ),
    )


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize("variable", ["UPLOADS_SHELF_URL", "SHELF_URL"])
@pytest.mark.parametrize("value", ["photos", "a: b", "it's {0}\n-> x"])
def test_a_wrong_value_is_reported_under_the_variable_that_the_user_set(
    variable: str, value: str, make_app: MakeApp
) -> None:
    assert problems_of(make_app, **{variable: value, "UPLOADS_SHELF_TOKEN": TOKEN}) == (
        Problem(
            f"{variable} is {value!r}.", f"Set {variable} to the URL of a folder, such as memory://photos.", variable
        ),
    )


@pytest.mark.usefixtures("_installed")
def test_an_unknown_variable_is_warned_about_with_the_nearest_setting(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    make_app(**SHELF, UPLOADS_SHELF_LABLE="left")
    (warning,) = warnings_in(caplog)
    assert warning == "UPLOADS_SHELF_LABLE is not a setting of this extension. Did you mean UPLOADS_SHELF_LABEL?"


@pytest.mark.usefixtures("_installed")
def test_two_implied_backends_are_refused_by_name(make_app: MakeApp) -> None:
    (problem,) = problems_of(make_app, S3_BUCKET_NAME="photos", SHELF_URL="memory://x")
    assert problem.message == (
        "Several backends are configured at once, by S3_BUCKET_NAME (for s3) and SHELF_URL (for shelf)."
    )
    assert problem.remedy == "Set UPLOADS_BACKEND to s3 or shelf, or remove the variables of the others."


@pytest.mark.usefixtures("_installed")
def test_the_remedy_for_an_unknown_backend_lists_it(make_app: MakeApp) -> None:
    (problem,) = problems_of(make_app, UPLOADS_BACKEND="shelves")
    assert problem.message == "UPLOADS_BACKEND is 'shelves'. There is no such backend."
    assert problem.remedy == f"Set it to {BUILTIN}, shelf or module:Class."


@pytest.mark.usefixtures("_installed")
def test_a_strict_setting_of_another_backend_is_refused(make_app: MakeApp) -> None:
    (problem,) = problems_of(make_app, **SHELF, UPLOADS_PUBLIC_URL="https://cdn.example.com")
    assert str(problem) == "UPLOADS_PUBLIC_URL does not go with the backend shelf. Remove it."


def test_a_missing_sdk_is_reported_with_the_pip_command(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec: Callable[..., ModuleSpec | None] = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "fsspec" else find_spec(name, *rest)
    )
    (problem,) = problems_of(make_app, **BY_CLASS, **SHELF)
    assert problem.message == "The backend shelf needs the package fsspec, which is not installed."
    assert problem.remedy == "pip install 'shelf-uploads[fsspec]'"


@pytest.mark.parametrize(("backend", "survives"), [("ShelfBackend", True), ("TemporaryShelf", False)])
def test_doctor_names_it_and_says_whether_uploads_survive(backend: str, survives: bool, make_app: MakeApp) -> None:
    report = doctor(make_app(UPLOADS_BACKEND=f"{__name__}:{backend}", **SHELF, UPLOADS_SHELF_LABEL="left"))
    assert report["survives"] is survives
    assert "shelf left, memory://photos" in str(report["checks"])
    assert {"variable": "UPLOADS_SHELF_LABEL", "origin": "app.config", "value": "left"} in report["settings"]
    assert "UPLOADS_SHELF_TOKEN" in {setting["variable"] for setting in report["settings"]}


@pytest.mark.parametrize("backend", ["ShelfBackend", "UnknownShelf"])
def test_a_start_that_requires_persistence_accepts_it(backend: str, make_app: MakeApp) -> None:
    app = make_app(UPLOADS_BACKEND=f"{__name__}:{backend}", **SHELF, UPLOADS_REQUIRE_PERSISTENT="true")
    assert type(state_of(app).backend).__name__ == backend


def test_a_start_that_requires_persistence_refuses_it_if_it_does_not_persist(make_app: MakeApp) -> None:
    (problem,) = problems_of(
        make_app, UPLOADS_BACKEND=f"{__name__}:TemporaryShelf", **SHELF, UPLOADS_REQUIRE_PERSISTENT="true"
    )
    assert problem.setting == "UPLOADS_REQUIRE_PERSISTENT"
    assert "shelf" in problem.message
