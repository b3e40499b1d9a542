"""Setting up an app: several ``Uploads`` and several apps, hooks, and routes of the app that stand in the way."""

from __future__ import annotations

import io
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, jsonify, render_template_string

from flask_persistent_uploads import ConfigError, Uploads, UploadTooLarge, save_uploads
from flask_persistent_uploads.operations.startup import StartupRefused

from .conftest import PNG, MakeApp, settings_of, state_of

BUCKET = {
    "UPLOADS_S3_BUCKET": "photos",
    "UPLOADS_S3_ACCESS_KEY_ID": "AKIA1",
    "UPLOADS_S3_SECRET_ACCESS_KEY": "secret",
}


# -- several Uploads, and several apps


def test_two_uploads_of_an_app_have_settings_files_and_routes_of_their_own(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCUMENTS_BACKEND", "memory")
    monkeypatch.setenv("DOCUMENTS_MAX_SIZE", "10")
    uploads, documents = Uploads(), Uploads(name="documents")
    app = make_app(uploads, UPLOADS_BACKEND="memory")
    documents.init_app(app)
    with app.test_request_context():
        photo, cv = uploads.save(PNG, filename="a.png"), documents.save(b"cv", filename="cv.txt")
        assert (photo.split("/")[0], cv.split("/")[0]) == ("uploads", "documents")
        assert (photo.url, cv.url) == (f"/{photo}", f"/{cv}")
        assert render_template_string("{{ upload_url(cv, 'documents') }}", cv=cv) == cv.url
        with pytest.raises(UploadTooLarge):
            documents.save(PNG, filename="a.png")
    client = app.test_client()
    assert client.get(f"/{photo}", buffered=True).data == PNG
    assert client.get(f"/{cv}", buffered=True).data == b"cv"
    assert client.get(f"/uploads/{cv.key}", buffered=True).status_code == 404


def test_save_uploads_stores_in_the_uploads_of_a_name(make_app: MakeApp) -> None:
    app = make_app(Uploads(name="documents"), DOCUMENTS_BACKEND="memory")
    app.add_url_rule("/", view_func=lambda: jsonify(save_uploads(name="documents")), methods=["POST"])
    response = app.test_client().post("/", data={"a": (io.BytesIO(b"1"), "a.txt")})
    assert response.get_json()["a"].startswith("documents/")


def test_one_uploads_serves_two_apps_that_share_nothing(make_app: MakeApp) -> None:
    uploads = Uploads()
    one, two = make_app(uploads, UPLOADS_BACKEND="memory"), make_app(uploads, UPLOADS_BACKEND="memory")
    with one.app_context():
        path = uploads.save(PNG, filename="a.png")
    assert one.test_client().get(f"/{path}", buffered=True).status_code == 200
    assert two.test_client().get(f"/{path}", buffered=True).status_code == 404


def test_a_missing_uploads_is_named_with_those_that_the_app_has(make_app: MakeApp) -> None:
    nothing = r"no Uploads named 'uploads'\. Call Uploads\(app\) in its factory\."
    with Flask("bare").test_request_context(), pytest.raises(RuntimeError, match=nothing):
        save_uploads()
    app = make_app(UPLOADS_BACKEND="memory", DOCUMENTS_BACKEND="memory")
    Uploads(app, name="documents")
    others = r"no Uploads named 'other'\. It has 'uploads', 'documents'\."
    with app.test_request_context(), pytest.raises(RuntimeError, match=others):
        save_uploads(name="other")


def test_two_uploads_of_one_name_are_refused(make_app: MakeApp) -> None:
    app = make_app(UPLOADS_BACKEND="memory")
    with pytest.raises(ConfigError, match=r"has an Uploads named 'uploads' already\. Give the second one a name"):
        Uploads(app)


def test_two_uploads_cannot_serve_one_path(make_app: MakeApp) -> None:
    app = make_app(UPLOADS_BACKEND="memory", DOCUMENTS_BACKEND="memory", DOCUMENTS_URL_PREFIX="/uploads")
    with pytest.raises(ConfigError) as caught:
        Uploads(app, name="documents")
    (problem,) = caught.value.problems
    assert problem.message == "The Uploads named 'uploads' serves /uploads already."
    assert problem.remedy == "Set DOCUMENTS_URL_PREFIX to another path."
    assert problem.setting == "DOCUMENTS_URL_PREFIX"
    assert list(app.extensions["flask_persistent_uploads"]) == ["uploads"]


@pytest.mark.parametrize("name", ["my.documents", "my-documents", "", "2nd", "a b", "é"])
def test_a_name_is_an_identifier(name: str) -> None:
    with pytest.raises(ValueError, match=f"name is {name!r}. Use letters, digits and '_'"):
        Uploads(name=name)


def test_a_blueprint_of_the_app_may_be_named_uploads() -> None:
    app = Flask("tests")
    app.config["UPLOADS_BACKEND"] = "memory"
    app.register_blueprint(Blueprint("uploads", "tests"))
    Uploads(app)
    assert "persistent_uploads" in app.blueprints


def test_an_app_may_define_upload_url_and_the_uploads_command_itself() -> None:
    app = Flask("tests")
    app.config["UPLOADS_BACKEND"] = "memory"
    app.jinja_env.globals["upload_url"] = lambda path: "own"
    app.cli.command("uploads")(lambda: None)
    own = app.cli.commands["uploads"]
    Uploads(app)
    with app.app_context():
        assert render_template_string("{{ upload_url('a') }}") == "own"
    assert app.cli.commands["uploads"] is own


# -- which backend: names of their own, and native names that several Uploads share


def backend_name(app: Flask, uploads: str) -> str:
    return state_of(app, uploads).backend.name


@pytest.mark.parametrize("native", [{"S3_BUCKET_NAME": "b"}, {"USE_S3": "true", "S3_BUCKET_NAME": "b"}])
def test_a_folder_of_its_own_wins_over_a_bucket_that_the_first_uploads_has(
    native: dict[str, str], make_app: MakeApp, tmp_path: Path
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    app = make_app(**native, **keys, OLD_DIR=str(tmp_path / "old"))
    Uploads(app, name="old")
    assert (backend_name(app, "uploads"), backend_name(app, "old")) == ("s3", "local")
    assert str(state_of(app, "old").backend.filesystem_path("a.png")) == str(tmp_path / "old" / "a.png")


@pytest.mark.parametrize("native", ["environment", "app.config"])
def test_a_bucket_of_its_own_wins_over_a_native_account(
    native: str, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = {"CLOUDINARY_URL": "cloudinary://key:secret@cloud"}
    if native == "environment":
        monkeypatch.setenv(*account.popitem())
    own = {name.replace("UPLOADS_", "DOCUMENTS_"): value for name, value in BUCKET.items()}
    app = make_app(**own, **account)
    Uploads(app, name="documents")
    assert (backend_name(app, "uploads"), backend_name(app, "documents")) == ("cloudinary", "s3")


def test_a_bucket_of_its_own_wins_over_a_native_account_for_the_first_uploads_too(make_app: MakeApp) -> None:
    app = make_app(**BUCKET, CLOUDINARY_URL="cloudinary://key:secret@cloud")
    assert backend_name(app, "uploads") == "s3"


def test_two_backends_by_names_of_their_own_are_refused(make_app: MakeApp) -> None:
    own = {name.replace("UPLOADS_", "DOCUMENTS_"): value for name, value in BUCKET.items()}
    app = make_app(UPLOADS_BACKEND="memory", **own, DOCUMENTS_CLOUDINARY_URL="cloudinary://key:secret@cloud")
    with pytest.raises(ConfigError) as caught:
        Uploads(app, name="documents")
    (problem,) = caught.value.problems
    assert problem.message == (
        "Several backends are configured at once, by DOCUMENTS_CLOUDINARY_URL (for cloudinary) and DOCUMENTS_S3_BUCKET "
        "(for s3)."
    )
    assert problem.remedy == "Set DOCUMENTS_BACKEND to cloudinary or s3, or remove the variables of the others."


def test_for_the_first_uploads_a_bucket_wins_over_a_folder(make_app: MakeApp, tmp_path: Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    assert backend_name(make_app(S3_BUCKET_NAME="b", **keys, UPLOADS_DIR=str(tmp_path)), "uploads") == "s3"


# -- the authorize hook


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_hook_guards_every_app_of_its_uploads(when: str, make_app: MakeApp) -> None:
    uploads = Uploads()
    if when == "before":
        uploads.authorize(lambda action, key: key.startswith("public/"))
    apps = [make_app(uploads, UPLOADS_BACKEND="memory") for _ in range(2)]
    if when == "after":
        uploads.authorize(lambda action, key: key.startswith("public/"))
    for app in apps:
        with app.app_context():
            public = uploads.save(PNG, filename="a.png", folder="public")
            private = uploads.save(PNG, filename="a.png", folder="private")
        client = app.test_client()
        assert client.get(f"/{public}", buffered=True).status_code == 200
        assert client.get(f"/{private}").status_code == 404


def test_the_last_hook_counts_for_all_apps(make_app: MakeApp) -> None:
    uploads = Uploads()
    apps = []
    for allowed in (True, False):
        apps.append(make_app(uploads, UPLOADS_BACKEND="memory"))
        uploads.authorize(lambda action, key, allowed=allowed: allowed)
    for app in apps:
        with app.app_context():
            path = uploads.save(PNG, filename="a.png")
        assert app.test_client().get(f"/{path}").status_code == 404


def test_a_hook_guards_no_other_uploads(make_app: MakeApp) -> None:
    uploads, documents = Uploads(), Uploads(name="documents")
    app = make_app(uploads, UPLOADS_BACKEND="memory", DOCUMENTS_BACKEND="memory")
    documents.init_app(app)
    uploads.authorize(lambda action, key: False)
    with app.app_context():
        guarded, free = uploads.save(PNG, filename="a.png"), documents.save(PNG, filename="a.png")
    assert app.test_client().get(f"/{guarded}").status_code == 404
    assert app.test_client().get(f"/{free}", buffered=True).status_code == 200


def test_authorize_is_a_decorator_that_returns_its_function(make_app: MakeApp, uploads: Uploads) -> None:
    seen: list[tuple[str, str]] = []

    @uploads.authorize
    def may_read(action: str, key: str) -> bool:
        seen.append((action, key))
        return True

    app = make_app(uploads, UPLOADS_BACKEND="memory")
    with app.app_context():
        path = uploads.save(PNG, filename="a.png")
    assert app.test_client().get(f"/{path}", buffered=True).status_code == 200
    assert seen == [("read", path.key)]
    assert may_read("read", "x") is True


# -- the start


def test_the_first_line_of_the_log_tells_where_files_are_kept(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    make_app(**BUCKET)
    (line,) = (record.getMessage() for record in caplog.records)
    assert (
        line
        == "uploads: files are kept in s3, bucket photos at s3.us-east-1.amazonaws.com (us-east-1), below uploads/."
    )


def test_a_store_that_will_be_lost_is_a_warning(make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(UPLOADS_PLATFORM="render")
    (warning,) = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert warning.startswith("uploads: UPLOADS WILL BE LOST. ")
    assert warning.endswith(f" Files are kept in {state_of(app).backend}.")


def test_a_store_that_must_persist_and_will_not_is_refused(make_app: MakeApp) -> None:
    with pytest.raises(StartupRefused) as caught:
        make_app(UPLOADS_PLATFORM="render", UPLOADS_REQUIRE_PERSISTENT="1")
    (problem,) = caught.value.problems
    assert problem.message.startswith("UPLOADS_REQUIRE_PERSISTENT is set, but uploads will be lost. ")
    assert problem.remedy
    assert problem.setting == "UPLOADS_REQUIRE_PERSISTENT"
    assert caught.value.startup.backend is not None
    assert caught.value.startup.reading.settings.require_persistent is True


def test_an_app_that_was_refused_is_not_changed() -> None:
    app = Flask("tests")
    app.config.update(UPLOADS_BACKEND="memory", UPLOADS_MAX_FILES="many")
    before = (app.request_class, list(app.blueprints), list(app.url_map.iter_rules()), list(app.cli.commands))
    with pytest.raises(ConfigError):
        Uploads(app)
    assert before == (app.request_class, list(app.blueprints), list(app.url_map.iter_rules()), list(app.cli.commands))
    app.config["UPLOADS_MAX_FILES"] = 3
    Uploads(app)


def test_what_was_set_up_before_a_refusal_is_kept_for_doctor() -> None:
    app = Flask("tests")
    app.config.update(UPLOADS_BACKEND="memory", UPLOADS_MAX_FILES="many")
    with pytest.raises(StartupRefused) as caught:
        Uploads(app)
    startup = caught.value.startup
    assert startup.app is app
    assert startup.backend is not None
    assert startup.backend.name == "memory"
    assert startup.reading.settings.sources["max_files"] == "UPLOADS_MAX_FILES"


def test_a_folder_with_control_characters_does_not_break_the_log(
    make_app: MakeApp, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    make_app(UPLOADS_DIR=str(tmp_path / "a\u2028b\u202ec: d"))
    for record in caplog.records:
        assert record.getMessage().isprintable()
    assert "a\\u2028b\\u202ec: d" in caplog.text


# -- routes and links of the app that stand in the way


def test_a_route_of_the_app_that_answers_in_our_place_is_reported_once(
    make_app: MakeApp, uploads: Uploads, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(uploads, UPLOADS_BACKEND="memory")
    app.add_url_rule("/uploads/<filename>", "uploaded_file", lambda filename: "old")
    with app.app_context():
        for _ in range(2):
            uploads.save(PNG, filename="a.png")
    assert caplog.text.count("The app's own route 'uploaded_file' answers /uploads/") == 1


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize(
    ("backend", "more", "remedy"),
    [
        ("cloudinary", {}, "Set UPLOADS_CLOUDINARY_PRIVATE=true."),
        ("imagekit", {}, "Set UPLOADS_IMAGEKIT_PRIVATE=true."),
        ("s3", {"UPLOADS_PUBLIC_URL": "https://cdn.example"}, "Remove UPLOADS_PUBLIC_URL."),
        ("cloudinary", {"UPLOADS_CLOUDINARY_PRIVATE": "1"}, None),
        ("imagekit", {"UPLOADS_IMAGEKIT_PRIVATE": "1"}, None),
        ("s3", {}, None),
    ],
)
def test_permanent_links_that_bypass_the_hook_are_reported_once(
    request: pytest.FixtureRequest,
    make_app: MakeApp,
    uploads: Uploads,
    caplog: pytest.LogCaptureFixture,
    backend: str,
    more: dict[str, str],
    remedy: str | None,
    guarded: bool,
) -> None:
    app = make_app(uploads, **settings_of(backend, request), **more)
    if guarded:
        uploads.authorize(lambda action, key: True)
    with app.app_context():
        for _ in range(2):
            uploads.save(PNG, filename="a.png")
    assert caplog.text.count("are public and permanent") == (1 if guarded and remedy else 0)
    assert not guarded or (remedy or "") in caplog.text


@pytest.mark.parametrize(
    "options", [{"rule": "/uploads/<name>/"}, {"rule": "/uploads/<name>", "redirect_to": "/static/x"}]
)
def test_a_conflicting_route_does_not_stop_an_upload(
    make_app: MakeApp, uploads: Uploads, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(uploads, UPLOADS_BACKEND="memory")
    app.add_url_rule(endpoint="old", view_func=lambda name: name, **options)
    app.add_url_rule("/", view_func=lambda: jsonify(save_uploads()), methods=["POST"])
    assert app.test_client().post("/", data={"f": (io.BytesIO(b"x"), "a.txt")}).status_code == 200
    assert re.search(r"route .*answers /uploads/", caplog.text)
