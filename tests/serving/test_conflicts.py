"""Conflicts with the rest of the app: each is logged once, with the variable that the user set."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest
from flask import Blueprint, Flask, abort
from werkzeug.routing import BaseConverter

from flask_persistent_uploads import Problem, Uploads, parsers
from flask_persistent_uploads.backends.description import Description
from flask_persistent_uploads.backends.memory import MemoryBackend
from flask_persistent_uploads.config import Setting
from flask_persistent_uploads.serving.conflicts import other_route, public_links, warn_about_conflicts
from flask_persistent_uploads.serving.state import State

from ..conftest import PNG, MakeApp, settings_of

MODULE = __name__
S3 = {"S3_BUCKET": "b", "S3_ACCESS_KEY_ID": "k", "S3_SECRET_ACCESS_KEY": "s"}


class AcmeBackend(MemoryBackend):
    """A backend of another package, with a setting for private links, which also has a native name."""

    name = "acme"
    description = Description(
        settings=(Setting("acme_private", parsers.boolean, native=("ACME_PRIVATE_FILES",)),),
        private_links="acme_private",
    )

    def __init__(self, *, private: bool = False) -> None:
        super().__init__()
        self.permanent_urls = not private


class AlwaysPublicBackend(MemoryBackend):
    """A backend of another package whose links are always public."""

    name = "always_public"
    description = Description()
    permanent_urls = True


class UnknownBackend(MemoryBackend):
    """A backend of another package that declares nothing about its links."""

    name = "unknown"
    description = Description()


def state_of(app: Flask, name: str = "uploads") -> State:
    return cast("State", app.extensions["flask_persistent_uploads"][name].state)


def forbid(action: str, key: str) -> bool:
    return False


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


# -- another route


def test_an_app_without_a_route_of_its_own_has_no_conflict(make_app: MakeApp, uploads: Uploads) -> None:
    app = make_app(uploads, UPLOADS_BACKEND="memory")
    app.add_url_rule("/<path:anything>", "catch_all", lambda anything: "page")
    app.add_url_rule("/uploads", "listing", lambda: "listing")
    app.add_url_rule("/uploads/<name>", "receive", lambda name: "received", methods=["POST"])
    assert other_route(app, state_of(app)) is None


def test_a_route_of_the_app_is_named_with_the_variable_that_moves_ours(make_app: MakeApp, uploads: Uploads) -> None:
    app = make_app(uploads, UPLOADS_BACKEND="memory")
    app.add_url_rule("/uploads/<filename>", "uploaded_file", lambda filename: "old")
    assert other_route(app, state_of(app)) == Problem(
        "The app's own route 'uploaded_file' answers /uploads/…, so uploads are not served.",
        "Remove that route, or set UPLOADS_URL_PREFIX to another path.",
        "UPLOADS_URL_PREFIX",
    )


def test_the_route_of_a_further_uploads_is_checked_with_its_own_variable(make_app: MakeApp, uploads: Uploads) -> None:
    app = make_app(uploads, UPLOADS_BACKEND="memory", DOCUMENTS_BACKEND="memory", DOCUMENTS_URL_PREFIX="/files")
    Uploads(app, name="documents")
    old = Blueprint("old", __name__)
    old.add_url_rule("/files/<filename>", "download", lambda filename: "old")
    app.register_blueprint(old)
    assert other_route(app, state_of(app)) is None
    problem = other_route(app, state_of(app, "documents"))
    assert problem is not None
    assert problem.message == "The app's own route 'old.download' answers /files/…, so uploads are not served."
    assert problem.setting == "DOCUMENTS_URL_PREFIX"
    assert "DOCUMENTS_URL_PREFIX" in problem.remedy


class AbortingConverter(BaseConverter):
    def to_python(self, value: str) -> str:
        abort(410)


@pytest.mark.parametrize(
    "options",
    [
        {"rule": "/uploads/<name>/"},
        {"rule": "/uploads/<name>", "redirect_to": "/static/x"},
        {"rule": "/uploads/<aborting:name>"},
    ],
    ids=["trailing slash", "redirect", "converter"],
)
def test_a_route_that_redirects_or_aborts_is_a_conflict_and_no_error(
    make_app: MakeApp, uploads: Uploads, options: dict[str, Any]
) -> None:
    app = make_app(uploads, UPLOADS_BACKEND="memory")
    app.url_map.converters["aborting"] = AbortingConverter
    app.add_url_rule(endpoint="old", view_func=lambda name: name, **options)
    problem = other_route(app, state_of(app))
    assert problem is not None
    assert problem.message == "A route of the app answers /uploads/…, so uploads are not served."
    with app.app_context():
        assert uploads.save(PNG, filename="a.png")


# -- links that bypass the hook


@pytest.mark.parametrize("name", ["uploads", "documents"])
@pytest.mark.parametrize(
    ("backend", "remedy"),
    [
        ("cloudinary", "Set {}_CLOUDINARY_PRIVATE=true."),
        ("imagekit", "Set {}_IMAGEKIT_PRIVATE=true."),
        ("s3", "Remove {}_PUBLIC_URL."),
    ],
)
def test_public_links_of_a_service_bypass_the_hook_of_an_uploads(
    request: pytest.FixtureRequest, make_app: MakeApp, backend: str, remedy: str, name: str
) -> None:
    start = name.upper()
    settings = {**settings_of(backend, request), "UPLOADS_PUBLIC_URL": "https://cdn.example"}
    if backend == "imagekit":
        del settings["UPLOADS_PUBLIC_URL"]
    own = {f"{start}{key.removeprefix('UPLOADS')}": value for key, value in settings.items()}
    uploads = Uploads(name=name)
    app = make_app(uploads, **own)
    assert public_links(state_of(app, name)) is None
    uploads.authorize(forbid)
    assert public_links(state_of(app, name)) == Problem(
        f"The authorize hook guards /{name}, but links to {backend} are public and permanent.",
        remedy.format(start),
        remedy.format(start).split()[1].removesuffix(".").removesuffix("=true"),
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"UPLOADS_BACKEND": "memory"},
        {"UPLOADS_BACKEND": "local"},
        {f"UPLOADS_{name}": value for name, value in S3.items()},
        {"UPLOADS_CLOUDINARY_URL": "cloudinary://key:secret@demo", "UPLOADS_CLOUDINARY_PRIVATE": "1"},
        {
            "UPLOADS_IMAGEKIT_PRIVATE_KEY": "private_x",
            "UPLOADS_IMAGEKIT_URL_ENDPOINT": "https://ik.imagekit.io/demo",
            "UPLOADS_IMAGEKIT_PRIVATE": "1",
        },
        {"UPLOADS_BACKEND": f"{MODULE}:AcmeBackend", "UPLOADS_ACME_PRIVATE": "true"},
        {"UPLOADS_BACKEND": f"{MODULE}:UnknownBackend"},
    ],
    ids=["memory", "local", "s3", "cloudinary", "imagekit", "other package", "other package, unknown"],
)
def test_private_links_are_no_conflict(make_app: MakeApp, uploads: Uploads, settings: dict[str, str]) -> None:
    app = make_app(uploads, **settings)
    uploads.authorize(forbid)
    assert public_links(state_of(app)) is None


@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        ({}, "UPLOADS_ACME_PRIVATE"),
        ({"UPLOADS_ACME_PRIVATE": "false"}, "UPLOADS_ACME_PRIVATE"),
        ({"ACME_PRIVATE_FILES": "no"}, "ACME_PRIVATE_FILES"),
    ],
    ids=["not set", "own name", "native name"],
)
def test_a_backend_of_another_package_gets_the_remedy_that_it_declares_under_the_name_that_was_set(
    make_app: MakeApp, uploads: Uploads, settings: dict[str, str], variable: str
) -> None:
    app = make_app(uploads, UPLOADS_BACKEND=f"{MODULE}:AcmeBackend", **settings)
    uploads.authorize(forbid)
    assert public_links(state_of(app)) == Problem(
        "The authorize hook guards /uploads, but links to acme are public and permanent.",
        f"Set {variable}=true.",
        variable,
    )


@pytest.mark.parametrize("name", ["uploads", "documents"])
def test_a_backend_without_private_links_is_to_be_replaced(make_app: MakeApp, name: str) -> None:
    uploads, variable = Uploads(name=name), f"{name.upper()}_BACKEND"
    app = make_app(uploads, **{variable: f"{MODULE}:AlwaysPublicBackend"})
    uploads.authorize(forbid)
    assert public_links(state_of(app, name)) == Problem(
        f"The authorize hook guards /{name}, but links to always_public are public and permanent.",
        f"Set {variable} to a backend with private links.",
        variable,
    )


# -- the log


def both_conflicts(make_app: MakeApp, uploads: Uploads) -> Flask:
    app = make_app(uploads, UPLOADS_BACKEND=f"{MODULE}:AlwaysPublicBackend")
    uploads.authorize(forbid)
    app.add_url_rule("/uploads/<filename>", "uploaded_file", lambda filename: "old")
    return app


def test_both_conflicts_are_logged_by_the_first_upload_and_only_once(
    make_app: MakeApp, uploads: Uploads, caplog: pytest.LogCaptureFixture
) -> None:
    app = both_conflicts(make_app, uploads)
    assert warnings(caplog) == []
    with app.app_context():
        for _ in range(2):
            uploads.save(PNG, filename="a.png")
    assert warnings(caplog) == [
        "uploads: The app's own route 'uploaded_file' answers /uploads/…, so uploads are not served. "
        "Remove that route, or set UPLOADS_URL_PREFIX to another path.",
        "uploads: The authorize hook guards /uploads, but links to always_public are public and permanent. "
        "Set UPLOADS_BACKEND to a backend with private links.",
    ]


def test_two_apps_are_warned_each_for_itself(
    make_app: MakeApp, uploads: Uploads, caplog: pytest.LogCaptureFixture
) -> None:
    for app in (both_conflicts(make_app, uploads), both_conflicts(make_app, uploads)):
        warn_about_conflicts(app, state_of(app))
    assert len(warnings(caplog)) == 4


def test_an_app_without_conflicts_is_not_warned(
    make_app: MakeApp, uploads: Uploads, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(uploads, UPLOADS_BACKEND="memory")
    uploads.authorize(forbid)
    warn_about_conflicts(app, state_of(app))
    assert warnings(caplog) == []


def test_the_checks_can_be_repeated_after_the_warning(make_app: MakeApp, uploads: Uploads) -> None:
    """Doctor asks for the problems of an app that has served files already."""
    app = both_conflicts(make_app, uploads)
    warn_about_conflicts(app, state_of(app))
    assert other_route(app, state_of(app)) is not None
    assert public_links(state_of(app)) is not None
