"""``GET`` and ``HEAD /uploads/<path>`` answer alike on every backend."""

from __future__ import annotations

import io
import logging
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest
from flask import Flask, abort, redirect
from werkzeug.test import TestResponse

from flask_persistent_uploads import BackendUnavailable, StoredFile, TypeNotAllowed, Uploads
from flask_persistent_uploads.backends.memory import MemoryBackend
from flask_persistent_uploads.stored import Stat
from flask_persistent_uploads.testing import sample

from ..conftest import PNG, MakeApp, open_below

SCRIPT = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
LEGACY = {
    "3b53b755-9895-4761-a52c-a521a9d7ec7aEVENT 3.webp": "3b53b755-9895-4761-a52c-a521a9d7ec7aEVENT 3.webp",
    "3b53b755-9895-4761-a52c-a521a9d7ec7a🧩 CHAPTER 01_ (1).pdf": (
        "3b53b755-9895-4761-a52c-a521a9d7ec7a🧩 CHAPTER 01_ (1).pdf"
    ),
    "uploads\\old.png": "old.png",
    "uploads/uploads/x.png": "x.png",
    "x.png?t=1700000000": "x.png",
    "100% of + #1, it's.png": "100% of + #1, it's.png",
}


# Cloudinary and ImageKit choose the content type of what they deliver. The app only decides that it is downloaded.
OWN_CONTENT_TYPES = {"cloudinary", "imagekit"}

# How the paths of each backend's urls begin. Cloudinary's download API has the rest in its query.
URL_STARTS = ("/test-bucket/uploads/", "/v1_1/demo/raw/download", "/demo/raw/upload/v1/uploads/", "/ik/demo/uploads/")


class Answer:
    """The final answer to a request, from the app or from the backend that it redirects to."""

    def __init__(self, status: int, headers: Any, data: bytes) -> None:
        self.status, self.headers, self.data = status, headers, data


def ask(app: Flask, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> TestResponse:
    """Return the app's own answer, read to its end and closed as a server does."""
    return app.test_client().open(path, method=method, headers=headers, buffered=True)


def fetch(app: Flask, path: str, *, method: str = "GET", **headers: str) -> Answer:
    """Return the final answer. A redirect is followed over the network."""
    answer = ask(app, path, method=method, headers=headers)
    if answer.status_code != 302:
        return Answer(answer.status_code, answer.headers, answer.data)
    asked = urllib.request.Request(answer.headers["Location"], method=method, headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=10) as final:
            return Answer(final.status, final.headers, final.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


def put(uploads: Uploads, key: str, content: bytes) -> None:
    """Store a file as an older app did, under a key of its own."""
    uploads.backend.save(
        key, io.BytesIO(content), content_type="text/html", size=len(content), filename="x", overwrite=True
    )


def test_a_stored_file_is_served_byte_for_byte(app: Flask, uploads: Uploads) -> None:
    path = uploads.save(PNG, filename="photo.png", folder="reports")
    answer = fetch(app, f"/{path}")
    assert (answer.status, answer.data, answer.headers["Content-Type"]) == (200, PNG, "image/png")
    assert path.url == f"/{path}"


@pytest.mark.parametrize(("asked", "key"), LEGACY.items())
def test_the_paths_of_older_apps_are_served_in_the_spelling_of_a_browser(
    app: Flask, uploads: Uploads, asked: str, key: str
) -> None:
    put(uploads, key, sample(key))
    assert fetch(app, f"/uploads/{quote(asked)}").data == sample(key)
    assert fetch(app, f"/uploads/{quote(asked)}?t=1700000000").data == sample(key)
    assert fetch(app, uploads.url(asked)).data == sample(key)


def test_a_path_written_on_windows_is_served_directly_after_the_host(app: Flask, uploads: Uploads) -> None:
    put(uploads, "old (1).png", PNG)
    assert fetch(app, "/" + quote("uploads\\old (1).png")).data == PNG


def test_head_answers_with_size_and_type_and_without_a_body(app: Flask, uploads: Uploads) -> None:
    path = uploads.save(PNG, filename="photo.png")
    answer = fetch(app, f"/{path}", method="HEAD")
    assert (answer.status, answer.data) == (200, b"")
    assert (answer.headers["Content-Length"], answer.headers["Content-Type"]) == (str(len(PNG)), "image/png")


def test_ranges_are_served(app: Flask, uploads: Uploads) -> None:
    path = uploads.save(PNG, filename="photo.png")
    for header, expected in {"bytes=0-0": PNG[:1], "bytes=5-9": PNG[5:10], "bytes=-4": PNG[-4:]}.items():
        answer = fetch(app, f"/{path}", Range=header)
        assert (answer.status, answer.data) == (206, expected)
    assert fetch(app, f"/{path}", Range="bytes=99999-").status == 416


@pytest.mark.parametrize("name", ["evil.svg", "evil.html", "evil.xhtml", "evil.xml", "evil.js", "evil", "evil.png.svg"])
def test_a_file_that_may_hold_a_script_is_downloaded_and_never_shown(app: Flask, uploads: Uploads, name: str) -> None:
    path = uploads.save(SCRIPT, filename=name)
    put(uploads, f"legacy/{name}", SCRIPT)
    for asked in (f"/{path}", f"/uploads/legacy/{name}"):
        answer = fetch(app, asked)
        assert (answer.status, answer.data) == (200, SCRIPT)
        assert answer.headers["Content-Disposition"].startswith("attachment; filename=")
        if uploads.backend.name not in OWN_CONTENT_TYPES:
            assert answer.headers["Content-Type"] == "application/octet-stream"


def test_a_script_with_the_name_of_a_picture_is_never_served_as_a_script(app: Flask, uploads: Uploads) -> None:
    if uploads.backend.name == "cloudinary":  # the service inspects pictures
        with pytest.raises(TypeNotAllowed, match=r"'evil\.png'"):
            uploads.save(SCRIPT, filename="evil.png")
        return
    path = uploads.save(SCRIPT, filename="evil.png")
    assert path.content_type == "application/octet-stream"
    assert fetch(app, f"/{path}").headers["Content-Type"] == "image/png"


def test_text_is_served_as_utf8(app: Flask, uploads: Uploads) -> None:
    path = uploads.save("Zoë".encode(), filename="note.txt")
    answer = fetch(app, f"/{path}")
    assert (answer.status, answer.data.decode()) == (200, "Zoë")
    assert "Content-Disposition" not in answer.headers or answer.headers["Content-Disposition"] == "inline"
    if uploads.backend.name not in OWN_CONTENT_TYPES:
        assert answer.headers["Content-Type"].replace(" ", "").lower() == "text/plain;charset=utf-8"


NOT_SERVED = [
    "/uploads/",
    "/uploads/../secret", "/uploads/%2e%2e/secret", "/uploads/..%5csecret", "/uploads/%252e%252e%252fsecret",
    "/uploads/..%2fsecret", "/uploads/a%00.png", "/uploads/%00", "/uploads/./a.txt", "/uploads/x/../a.txt",
    "/uploads/a.txt/", "/uploads//a.txt",
    "/uploads/%09//evil.example", "/uploads/%20//evil.example", "/uploads/%1f//evil",
    "/uploads/%5c%5cevil.example", "/uploads/https:%5c%5cevil.example", "/uploads///etc/passwd",
    "/uploads/" + "a" * 6000,
    "/uploads/.uploads-0011", "/uploads/a%0d%0aX-Evil:%201", "/uploads/%c0%ae%c0%ae/secret",
]  # fmt: skip


@pytest.mark.parametrize("path", NOT_SERVED)
def test_traversals_and_open_redirects_are_a_404(app: Flask, path: str) -> None:
    answer = ask(app, path, headers={"Host": "evil.example"})
    if answer.status_code == 302:  # to a file that does not exist: the backend answers 404
        location = urlsplit(answer.headers["Location"])
        assert location.hostname == "127.0.0.1"
        assert location.path.startswith(URL_STARTS)
        assert ".." not in unquote(f"{location.path}?{location.query}").split("/")
        assert fetch(app, path).status == 404
    else:
        assert answer.status_code == 404
    assert "evil" not in answer.headers.get("Location", "")
    assert "X-Evil" not in answer.headers


def test_every_refusal_looks_the_same(app: Flask, uploads: Uploads) -> None:
    uploads.authorize(lambda action, key: action == "read" and not key.startswith("forbidden/"))
    put(uploads, "forbidden/a.png", PNG)
    answers = [ask(app, path) for path in ("/uploads/forbidden/a.png", "/uploads/forbidden/b.png", "/uploads/..")]
    assert {(answer.status_code, answer.data) for answer in answers} == {(404, answers[0].data)}


def test_every_answer_is_private_if_there_is_a_hook(app: Flask, uploads: Uploads) -> None:
    path = uploads.save(PNG, filename="a.png")
    open_answer = ask(app, f"/{path}")
    assert open_answer.headers["Access-Control-Allow-Origin"] == "*"
    uploads.authorize(lambda action, key: True)
    private = ask(app, f"/{path}")
    assert private.headers["Cache-Control"].startswith("private")
    assert "Access-Control-Allow-Origin" not in private.headers


def test_a_hook_may_abort_with_a_status_of_its_own(app: Flask, uploads: Uploads) -> None:
    @uploads.authorize
    def check(action: str, key: str) -> bool:
        abort(401)

    assert ask(app, "/uploads/a.png").status_code == 401


@pytest.mark.parametrize("answer", [redirect("/login"), "yes", 1, None])
def test_a_hook_that_returns_no_bool_opens_nothing(app: Flask, uploads: Uploads, answer: Any) -> None:
    path = uploads.save(PNG, filename="a.png")
    uploads.authorize(lambda action, key: answer)
    with pytest.raises(TypeError, match="must return True or False"):
        ask(app, f"/{path}")


def test_a_hook_guards_every_app_of_its_uploads_whenever_it_is_registered(make_app: MakeApp, uploads: Uploads) -> None:
    apps = [make_app(uploads, UPLOADS_BACKEND="memory") for _ in range(2)]
    uploads.authorize(lambda action, key: False)
    apps.append(make_app(uploads, UPLOADS_BACKEND="memory"))
    for app in apps:
        with app.app_context():
            assert ask(app, f"/{uploads.save(PNG, filename='a.png')}").status_code == 404


def test_a_hook_replaces_an_earlier_one_in_every_app(make_app: MakeApp, uploads: Uploads) -> None:
    apps = []
    for allowed in (False, True):
        apps.append(make_app(uploads, UPLOADS_BACKEND="memory"))
        uploads.authorize(lambda action, key, allowed=allowed: allowed)
    for app in apps:
        with app.app_context():
            assert ask(app, f"/{uploads.save(PNG, filename='a.png')}").status_code == 200


def test_a_hook_does_not_guard_another_uploads_of_the_app(make_app: MakeApp, uploads: Uploads) -> None:
    app = make_app(uploads, UPLOADS_BACKEND="memory", DOCUMENTS_BACKEND="memory")
    documents = Uploads(app, name="documents")
    documents.authorize(lambda action, key: False)
    with app.app_context():
        assert ask(app, f"/{uploads.save(PNG, filename='a.png')}").status_code == 200
        assert ask(app, f"/{documents.save(PNG, filename='a.png')}").status_code == 404


def test_no_session_cookie_is_set_or_read(app: Flask, uploads: Uploads) -> None:
    app.secret_key = "x"
    path = uploads.save(PNG, filename="a.png")
    answer = ask(app, f"/{path}")
    assert "Set-Cookie" not in answer.headers
    assert "Cookie" not in answer.headers.get("Vary", "")


def test_only_get_and_head_are_served(app: Flask) -> None:
    assert {ask(app, "/uploads/a.png", method=method).status_code for method in ("POST", "PUT", "DELETE")} == {405}


# -- files that the app sends itself


@pytest.fixture
def local(make_app: MakeApp, uploads: Uploads) -> Iterator[Flask]:
    app = make_app(uploads)
    with app.app_context():
        yield app


def test_a_file_that_the_app_sends_has_security_headers_and_stays_cached(local: Flask, uploads: Uploads) -> None:
    answer = ask(local, f"/{uploads.save(PNG, filename='a.png')}")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"


def test_a_browser_that_has_the_file_gets_a_304(local: Flask, uploads: Uploads) -> None:
    path = uploads.save(PNG, filename="a.png")
    first = ask(local, f"/{path}")
    by_etag = ask(local, f"/{path}", headers={"If-None-Match": first.headers["ETag"]})
    by_time = ask(local, f"/{path}", headers={"If-Modified-Since": first.headers["Last-Modified"]})
    assert [(answer.status_code, answer.data) for answer in (by_etag, by_time)] == [(304, b"")] * 2


def test_thousands_of_ranges_are_refused(local: Flask, uploads: Uploads) -> None:
    path = uploads.save(PNG, filename="a.png")
    ranges = "bytes=" + ",".join("0-0" for _ in range(5000))
    assert ask(local, f"/{path}", headers={"Range": ranges}).status_code == 416


def test_no_file_stays_open_after_any_kind_of_answer(local: Flask, uploads: Uploads) -> None:
    path = uploads.save(PNG, filename="a.png")
    for headers in (
        {},
        {"Range": "bytes=0-1"},
        {"Range": "bytes=9999-"},
        {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
    ):
        for method in ("GET", "HEAD"):
            ask(local, f"/{path}", method=method, headers=headers)
    assert open_below(Path(local.instance_path)) == []
    with uploads.open(path):
        assert len(open_below(Path(local.instance_path))) == 1


def test_a_missing_file_is_logged_once_without_a_path_of_the_server(
    local: Flask, uploads: Uploads, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        assert ask(local, "/uploads/gone%1b.png").status_code == 404
        assert ask(local, "/uploads/lost.png").status_code == 404
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(lines) == 1
    assert "lost.png" in lines[0]
    assert local.instance_path not in lines[0]


def test_a_flood_of_missing_files_does_not_silence_the_log(local: Flask, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(1100):
        ask(local, f"/uploads/{number}.png")
    caplog.clear()
    ask(local, "/uploads/really-lost.png")
    assert "'really-lost.png' is not in the store (local)" in caplog.text


def test_nginx_and_apache_are_told_which_file_to_send(make_app: MakeApp, uploads: Uploads) -> None:
    app = make_app(uploads, UPLOADS_ACCEL_REDIRECT="/protected")
    with app.app_context():
        put(uploads, "a b.svg", SCRIPT)
        answer = ask(app, "/uploads/a%20b.svg")
        assert (answer.headers["X-Accel-Redirect"], answer.data) == ("/protected/a%20b.svg", b"")
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert ask(app, "/uploads/gone.png").status_code == 404
    apache = Uploads()
    app = make_app(apache, USE_X_SENDFILE=True)
    with app.app_context():
        put(apache, "c.png", PNG)
        answer = ask(app, "/uploads/c.png")
        assert answer.headers["X-Sendfile"] == str(apache.backend.filesystem_path("c.png"))
        assert answer.data == b""


def test_an_outage_is_a_503_with_retry_after_and_never_a_404(make_app: MakeApp, uploads: Uploads) -> None:
    class Broken(MemoryBackend):
        def stat(self, key: str) -> Stat | None:
            raise BackendUnavailable("The store for uploads cannot be reached.")

    app = make_app(uploads, UPLOADS_BACKEND="memory")
    app.extensions["flask_persistent_uploads"]["uploads"].state.backend = Broken()
    answer = ask(app, "/uploads/a.png")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


# -- redirects to a backend


def test_files_that_browsers_show_use_the_public_url_and_others_are_signed(make_app: MakeApp, uploads: Uploads) -> None:
    app = make_app(
        uploads, UPLOADS_S3_BUCKET="b", UPLOADS_S3_ACCESS_KEY_ID="a", UPLOADS_S3_SECRET_ACCESS_KEY="s",
        UPLOADS_PUBLIC_URL="https://cdn.example.com/media/",
    )  # fmt: skip
    picture = ask(app, "/uploads/a%20b.png")
    assert picture.headers["Location"] == "https://cdn.example.com/media/uploads/a%20b.png"
    page = ask(app, "/uploads/a.html")
    assert page.headers["Location"].startswith("https://b.s3.us-east-1.amazonaws.com/uploads/a.html?")
    assert "response-content-disposition=attachment" in page.headers["Location"]


def test_a_path_cannot_change_where_a_redirect_leads(make_app: MakeApp) -> None:
    app = make_app(
        UPLOADS_S3_BUCKET="b", UPLOADS_S3_ACCESS_KEY_ID="a", UPLOADS_S3_SECRET_ACCESS_KEY="s",
        UPLOADS_PUBLIC_URL="https://cdn.example.com",
    )  # fmt: skip
    for path in (
        "@evil.example/a.png",
        ".evil.example/a.png",
        ":1@evil.example/x.png",
        "https%3a%2f%2fevil.example/a.png",
    ):
        answer = ask(app, f"/uploads/{path}")
        assert answer.status_code == 404 or urlsplit(answer.headers["Location"]).netloc == "cdn.example.com"


def test_a_redirect_is_never_permanent_and_never_in_a_shared_cache(make_app: MakeApp) -> None:
    app = make_app(UPLOADS_S3_BUCKET="b", UPLOADS_S3_ACCESS_KEY_ID="a", UPLOADS_S3_SECRET_ACCESS_KEY="s")
    answer = ask(app, "/uploads/a.png")
    assert answer.status_code == 302
    found = re.fullmatch(r"private, max-age=(\d+)", answer.headers["Cache-Control"])
    assert found
    assert 1740 <= int(found[1]) <= 3540
    assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_a_url_begins_with_the_root_that_the_app_is_mounted_at(make_app: MakeApp, uploads: Uploads) -> None:
    app = make_app(uploads, UPLOADS_BACKEND="memory")
    with app.test_request_context("/", environ_overrides={"SCRIPT_NAME": "/shop"}):
        path: StoredFile = uploads.save(PNG, filename="a.png")
        assert path.url == f"/shop/{path}"
