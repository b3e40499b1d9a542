"""Direct urls into the app itself: a signed query replaces the hook, for one file, until it expires."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Callable
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlencode, urlsplit

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import Signer
from werkzeug.datastructures import MultiDict
from werkzeug.http import parse_options_header
from werkzeug.test import TestResponse

from flask_persistent_uploads import StoredFile, Uploads
from flask_persistent_uploads.serving import redirects, signed_query
from flask_persistent_uploads.serving.redirects import window_start
from flask_persistent_uploads.serving.signed_query import SignedQuery
from flask_persistent_uploads.testing import ODD_KEYS, sample

from ..conftest import PNG, MakeApp

START = 1_700_000_000.0
EXPIRES = 3600
SECRET = "a secret of the tests"


class Clock:
    """The time that links are signed and verified at."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(redirects, "now", clock)
    return clock


@pytest.fixture(params=["memory", "local"])
def settings(request: pytest.FixtureRequest) -> dict[str, str]:
    """The backends whose files the app sends itself."""
    return {"UPLOADS_BACKEND": request.param, "SECRET_KEY": SECRET}


@pytest.fixture
def guarded(app: Flask, uploads: Uploads) -> Flask:
    """An app whose hook forbids every file."""
    uploads.authorize(lambda action, key: False)
    return app


@pytest.fixture
def path(app: Flask, uploads: Uploads) -> StoredFile:
    return uploads.save(PNG, filename="a.png")


def get(app: Flask, url: str, *, method: str = "GET", **headers: str) -> TestResponse:
    return app.test_client().open(url, method=method, headers=headers, buffered=True)


def altered(url: str, **parameters: str) -> str:
    """Return the url with other values in its query."""
    parts = urlsplit(url)
    return f"{parts.path}?{urlencode({**dict(parse_qsl(parts.query)), **parameters})}"


def end_of(url: str) -> int:
    return int(parse_qs(urlsplit(url).query)["expires"][0])


def assert_ignored(app: Flask, uploads: Uploads, url: str) -> None:
    """The query changes nothing: the hook forbids the file, and without a hook it is served plainly."""
    assert get(app, url).status_code == 404
    uploads.authorize(lambda action, key: True)
    allowed = get(app, url)
    assert (allowed.status_code, allowed.headers["Cache-Control"]) == (200, "private, no-cache")
    app.extensions["flask_persistent_uploads"][uploads.name].state.hooks.authorize = None
    plain = get(app, url)
    assert (plain.status_code, plain.headers["Cache-Control"]) == (200, "public, max-age=31536000, immutable")
    for answer in (allowed, plain):
        assert (answer.data, answer.headers["Content-Type"]) == (PNG, "image/png")
        assert "Content-Disposition" not in answer.headers


# -- what a signed link opens


def test_a_signed_link_replaces_the_hook(guarded: Flask, uploads: Uploads, path: StoredFile) -> None:
    assert get(guarded, f"/{path}").status_code == 404
    answer = get(guarded, uploads.direct_url(path))
    assert (answer.status_code, answer.data, answer.headers["Content-Type"]) == (200, PNG, "image/png")
    assert "Content-Disposition" not in answer.headers


def test_a_signed_link_does_not_call_the_hook(app: Flask, uploads: Uploads, path: StoredFile) -> None:
    calls = []

    @uploads.authorize
    def forbid(action: str, key: str) -> bool:
        calls.append((action, key))
        return False

    assert get(app, uploads.direct_url(path)).status_code == 200
    assert calls == []
    assert get(app, f"/{path}").status_code == 404
    assert calls == [("read", path.key)]


def test_a_signed_link_does_not_open_a_second_file(guarded: Flask, uploads: Uploads, path: StoredFile) -> None:
    other = uploads.save(PNG, filename="a.png")
    query = urlsplit(uploads.direct_url(path)).query
    assert get(guarded, f"/{path}?{query}").status_code == 200
    assert_ignored(guarded, uploads, f"/{other}?{query}")


def test_a_signed_link_works_in_every_spelling_of_the_path(guarded: Flask, uploads: Uploads, path: StoredFile) -> None:
    query = urlsplit(uploads.direct_url(path)).query
    for spelling in (f"/uploads/{path}", f"/uploads%5C{path.key}", f"/uploads/uploads%5C{path.key}"):
        assert get(guarded, f"{spelling}?{query}").status_code == 200


@pytest.mark.parametrize(
    "name", ["My plan.png", "Ärger & Glück 🧩.svg", 'a"; filename="evil.html', "100% #1 ?x=y&z.pdf"]
)
def test_a_signed_download_name_is_the_name_of_an_attachment(
    guarded: Flask, uploads: Uploads, path: StoredFile, name: str
) -> None:
    answer = get(guarded, uploads.direct_url(path, download_name=name))
    assert (answer.status_code, answer.data) == (200, PNG)
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert parse_options_header(answer.headers["Content-Disposition"]) == ("attachment", {"filename": name})
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_an_empty_download_name_is_like_none(app: Flask, uploads: Uploads, path: StoredFile) -> None:
    assert uploads.direct_url(path, download_name="") == uploads.direct_url(path)


def test_a_signed_link_to_a_missing_file_is_a_404(guarded: Flask, uploads: Uploads, path: StoredFile) -> None:
    link = uploads.direct_url(path)
    uploads.delete(path)
    assert get(guarded, link).status_code == 404


@pytest.mark.parametrize("key", [*ODD_KEYS, "a?b=c&signature=x.png", "a%23#b.png", "😀 %20 + ,;.png"], ids=ascii)
def test_a_key_with_unusual_characters_is_signed_and_found(guarded: Flask, uploads: Uploads, key: str) -> None:
    content = sample(key)
    uploads.backend.save(key, io.BytesIO(content), content_type="text/plain", size=len(content), filename="x")
    for name in (None, "x.bin"):
        link = uploads.direct_url(f"uploads/{key}", download_name=name)
        assert urlsplit(link).path == f"/uploads/{quote(key)}"
        answer = get(guarded, link)
        assert (answer.status_code, answer.data) == (200, content)


# -- what the signature binds


def test_an_altered_end_is_ignored(guarded: Flask, uploads: Uploads, path: StoredFile) -> None:
    link = uploads.direct_url(path)
    assert_ignored(guarded, uploads, altered(link, expires=str(end_of(link) + 1)))


@pytest.mark.parametrize("name", ["evil.html", "", "my plan.png"])
def test_an_altered_download_name_is_ignored(guarded: Flask, uploads: Uploads, path: StoredFile, name: str) -> None:
    assert_ignored(guarded, uploads, altered(uploads.direct_url(path, download_name="My plan.png"), download=name))


def test_an_added_or_removed_download_name_is_ignored(guarded: Flask, uploads: Uploads, path: StoredFile) -> None:
    plain, named = uploads.direct_url(path), uploads.direct_url(path, download_name="x.png")
    assert get(guarded, f"{plain}&download=x.png").status_code == 404
    assert get(guarded, named.replace("download=x.png&", "")).status_code == 404
    assert get(guarded, named.replace("download=x.png&", "download=&")).status_code == 404
    assert_ignored(guarded, uploads, f"{plain}&download=x.png")


def test_a_signature_of_one_uploads_does_not_open_a_file_of_another(
    make_app: MakeApp, uploads: Uploads, settings: dict[str, str]
) -> None:
    app = make_app(uploads, **settings, DOCUMENTS_BACKEND=settings["UPLOADS_BACKEND"])
    documents = Uploads(app, name="documents")
    documents.authorize(lambda action, key: False)
    with app.app_context():
        for one in (uploads, documents):
            one.backend.save("same.png", io.BytesIO(PNG), content_type="image/png", size=len(PNG), filename="same.png")
        link, own = uploads.direct_url("uploads/same.png"), documents.direct_url("documents/same.png")
    assert urlsplit(link).query != urlsplit(own).query
    assert get(app, link).status_code == 200
    assert get(app, own).status_code == 200
    assert get(app, f"/documents/same.png?{urlsplit(link).query}").status_code == 404


def test_the_name_of_the_uploads_and_the_key_cannot_be_mixed_up() -> None:
    app = Flask("tests")
    app.secret_key = SECRET
    queries = {
        signed_query.sign(app, uploads, key, ends_at=9, download_name=name)
        for uploads, key, name in [
            ("a", "b", None), ("a", "b", "c"), ("ab", "", None), ("", "ab", None), ('a", "b', "", None),
            ("a", 'b", {"expires": "9"}]', None), ("a", "b", 'c", "x": "'),
        ]
    }  # fmt: skip
    assert len({parse_qs(query or "")["signature"][0] for query in queries}) == 7


@given(st.text(), st.text(st.characters(codec="utf-8")), st.integers(1, 2**40), st.text(st.characters(codec="utf-8")))
def test_any_signed_query_is_verified_until_its_end(uploads: str, key: str, ends_at: int, name: str) -> None:
    app = Flask("tests")
    app.secret_key = SECRET
    query = signed_query.sign(app, uploads, key, ends_at=ends_at, download_name=name)
    assert query is not None
    assert query.isascii()
    received = MultiDict(parse_qsl(query, keep_blank_values=True))
    expected = SignedQuery(ends_at, name or None)
    assert signed_query.verify(app, uploads, key, received, moment=ends_at - 0.001) == expected
    assert signed_query.verify(app, uploads, key, received, moment=ends_at) is None
    assert signed_query.verify(app, uploads, f"{key}x", received, moment=0) is None
    assert signed_query.verify(app, f"{uploads}x", key, received, moment=0) is None


# -- the end


def test_an_expired_link_is_ignored(guarded: Flask, uploads: Uploads, path: StoredFile, clock: Clock) -> None:
    link = uploads.direct_url(path)
    clock.now = end_of(link) - 0.5
    assert get(guarded, link).status_code == 200
    clock.now = end_of(link)
    assert_ignored(guarded, uploads, link)


@pytest.mark.parametrize("expires", [1, 2, 60, EXPIRES, 604_800])
def test_a_link_works_for_at_least_half_of_its_expiry_and_not_longer_than_all_of_it(
    app: Flask, uploads: Uploads, path: StoredFile, clock: Clock, expires: int
) -> None:
    for moment in (START, START + 0.9, START + 12_345.6):
        clock.now = moment
        assert moment + expires // 2 <= end_of(uploads.direct_url(path, expires=expires)) <= moment + expires


def test_a_link_is_the_same_bytes_for_a_whole_window(
    app: Flask, uploads: Uploads, path: StoredFile, clock: Clock
) -> None:
    start = window_start(path.key, EXPIRES, START)
    links = set()
    for second in (0, 0.5, 900, 1799.9):
        clock.now = start + second
        links.add(uploads.direct_url(path, download_name="x.png"))
    assert len(links) == 1
    clock.now = start + 1800
    assert uploads.direct_url(path, download_name="x.png") not in links


def test_a_signed_answer_is_cached_privately_and_not_beyond_its_end(
    app: Flask, uploads: Uploads, path: StoredFile, clock: Clock
) -> None:
    link = uploads.direct_url(path)
    for left in (1500, 60.5, 1, 0.3):
        clock.now = end_of(link) - left
        answer = get(app, link)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, f"private, max-age={int(left)}")


# -- secrets


def test_two_apps_with_one_secret_make_and_accept_the_same_links(make_app: MakeApp) -> None:
    links, apps = [], []
    for _ in range(2):
        uploads = Uploads()
        app = make_app(uploads, UPLOADS_BACKEND="local", SECRET_KEY=SECRET)
        uploads.authorize(lambda action, key: False)
        apps.append(app)
        with app.app_context():
            links.append(uploads.direct_url("uploads/x.png", download_name="y.png"))
    with apps[0].app_context():
        apps[0].extensions["flask_persistent_uploads"]["uploads"].uploads.backend.save(
            "x.png", io.BytesIO(PNG), content_type="image/png", size=len(PNG), filename="x.png"
        )
    assert links[0] == links[1]
    assert [get(app, links[0]).status_code for app in apps] == [200, 200]


def test_another_secret_makes_the_link_invalid(guarded: Flask, uploads: Uploads, path: StoredFile) -> None:
    link = uploads.direct_url(path)
    guarded.secret_key = "another secret"
    assert_ignored(guarded, uploads, link)


def test_links_signed_with_a_fallback_secret_stay_valid(guarded: Flask, uploads: Uploads, path: StoredFile) -> None:
    old = uploads.direct_url(path)
    guarded.config.update(SECRET_KEY="a new secret", SECRET_KEY_FALLBACKS=["an older secret", SECRET])
    new = uploads.direct_url(path)
    assert new != old
    assert [get(guarded, link).status_code for link in (old, new)] == [200, 200]
    guarded.config.update(SECRET_KEY_FALLBACKS=None)
    assert [get(guarded, link).status_code for link in (old, new)] == [404, 200]


@pytest.mark.parametrize("secret", [None, "", b""])
def test_without_a_secret_the_link_is_the_plain_one_and_this_is_logged_once(
    app: Flask, uploads: Uploads, path: StoredFile, caplog: pytest.LogCaptureFixture, secret: str | bytes | None
) -> None:
    signed = uploads.direct_url(path)
    app.secret_key = secret
    assert [uploads.direct_url(path, download_name="x.png") for _ in range(3)] == [path.url] * 3
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "SECRET_KEY is not set" in warnings[0]
    uploads.authorize(lambda action, key: False)
    assert get(app, signed).status_code == 404


def test_a_secret_of_bytes_works(guarded: Flask, uploads: Uploads, path: StoredFile) -> None:
    guarded.secret_key = b"\xff\x00 binary"
    assert get(guarded, uploads.direct_url(path)).status_code == 200


def test_no_link_contains_the_secret(app: Flask, uploads: Uploads, path: StoredFile) -> None:
    assert SECRET not in unquote(uploads.direct_url(path, download_name="x.png"))


def test_a_value_that_flask_signs_elsewhere_is_not_a_signature(
    guarded: Flask, uploads: Uploads, path: StoredFile
) -> None:
    text = json.dumps(["uploads", path.key, {"expires": "9999999999"}])
    statuses = {}
    for salt in ("itsdangerous.Signer", "cookie-session", signed_query._SALT):
        signer = Signer(SECRET, salt=salt, key_derivation="hmac", digest_method=hashlib.sha256)
        query = urlencode({"expires": "9999999999", "signature": signer.get_signature(text)})
        statuses[salt] = get(guarded, f"/{path}?{query}").status_code
    assert list(statuses.values()) == [404, 404, 200]


# -- queries that are not signed by the app


@pytest.mark.parametrize(
    "query",
    [
        "signature=",
        "signature",
        "signature=&expires=",
        "expires=9999999999",
        "expires=9999999999&signature=",
        "expires=9999999999&signature=x",
        "expires=9999999999&signature=%C3%A9%F0%9F%98%80",
        "expires=9999999999&signature=%FF%FE",
        "expires=9999999999&signature=%00",
        "expires=9999999999&signature=" + "A" * 43,
        "expires=9999999999&signature=" + "A" * 5000,
        "expires=&signature=x",
        "expires=-1&signature=x",
        "expires=1e9&signature=x",
        "expires=%D9%A1%D9%A2&signature=x",
        "expires=" + "9" * 5000 + "&signature=x",
        "expires=1&expires=2&signature=x&signature=y&signature=",
        "download=evil.html",
        "download=evil.html&signature=x",
        "download=%ED%A0%80&signature=%ED%A0%80&expires=%ED%A0%80",
        "download[]=x&signature[]=x",
        "&&&=&signature=%",
        "t=123",
        "",
    ],
    ids=lambda query: query[:40] or "empty",
)
def test_a_query_that_the_app_did_not_sign_is_ignored(
    guarded: Flask, uploads: Uploads, path: StoredFile, query: str
) -> None:
    assert_ignored(guarded, uploads, f"/{path}?{query}")


@given(st.text(st.characters(codec="utf-8"), max_size=80), st.text(st.characters(codec="utf-8"), max_size=40))
def test_no_signature_or_end_from_outside_is_valid_or_an_error(signature: str, expires: str) -> None:
    app = Flask("tests")
    app.secret_key = SECRET
    query = {"signature": signature, "expires": expires}
    assert signed_query.verify(app, "uploads", "x.png", query, moment=0) is None


@pytest.mark.parametrize("change", [lambda text: text[1:], lambda text: "A" + text, lambda text: text.swapcase()])
def test_a_changed_signature_is_ignored(
    guarded: Flask, uploads: Uploads, path: StoredFile, change: Callable[[str], str]
) -> None:
    link = uploads.direct_url(path)
    assert_ignored(guarded, uploads, altered(link, signature=change(parse_qs(link)["signature"][0])))


def test_the_first_of_repeated_parameters_counts(guarded: Flask, uploads: Uploads, path: StoredFile) -> None:
    link = uploads.direct_url(path, download_name="mine.png")
    more = "expires=9999999999&download=evil.html&signature=x"
    answer = get(guarded, f"{link}&{more}")
    assert answer.status_code == 200
    assert "mine.png" in answer.headers["Content-Disposition"]
    assert answer.headers["Cache-Control"] == f"private, max-age={int(end_of(link) - START)}"
    assert get(guarded, f"/{path}?{more}&{urlsplit(link).query}").status_code == 404


def test_further_parameters_do_not_matter(guarded: Flask, uploads: Uploads, path: StoredFile) -> None:
    assert get(guarded, f"{uploads.direct_url(path)}&t=123&utm_source=mail").status_code == 200


# -- HTTP


@pytest.mark.parametrize("name", [None, "x.png"])
def test_ranges_work_with_a_signed_link(guarded: Flask, uploads: Uploads, path: StoredFile, name: str | None) -> None:
    link = uploads.direct_url(path, download_name=name)
    for header, expected in {"bytes=0-0": PNG[:1], "bytes=5-9": PNG[5:10], "bytes=-4": PNG[-4:]}.items():
        answer = get(guarded, link, Range=header)
        assert (answer.status_code, answer.data) == (206, expected)
    assert get(guarded, link, Range="bytes=99999-").status_code == 416


def test_a_browser_that_has_the_file_gets_a_304_for_a_signed_link(
    guarded: Flask, uploads: Uploads, path: StoredFile
) -> None:
    link = uploads.direct_url(path)
    first = get(guarded, link)
    by_etag = get(guarded, link, **{"If-None-Match": first.headers["ETag"]})
    by_time = get(guarded, link, **{"If-Modified-Since": first.headers["Last-Modified"]})
    assert [(answer.status_code, answer.data) for answer in (by_etag, by_time)] == [(304, b"")] * 2
    assert by_etag.headers["Cache-Control"] == first.headers["Cache-Control"]
    assert get(guarded, f"/{path}", **{"If-None-Match": first.headers["ETag"]}).status_code == 404


def test_head_works_with_a_signed_link(guarded: Flask, uploads: Uploads, path: StoredFile) -> None:
    link = uploads.direct_url(path, download_name="x.png")
    answer = get(guarded, link, method="HEAD")
    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(PNG))
    assert answer.headers["Content-Disposition"] == 'attachment; filename="x.png"'
    assert get(guarded, f"/{path}", method="HEAD").status_code == 404


def test_a_signed_answer_is_readable_by_other_sites_like_a_signed_link_to_a_bucket(
    guarded: Flask, uploads: Uploads, path: StoredFile
) -> None:
    assert get(guarded, uploads.direct_url(path)).headers["Access-Control-Allow-Origin"] == "*"


def test_nginx_gets_the_headers_of_a_signed_link(make_app: MakeApp, uploads: Uploads) -> None:
    app = make_app(uploads, UPLOADS_ACCEL_REDIRECT="/protected", SECRET_KEY=SECRET)
    uploads.authorize(lambda action, key: False)
    with app.app_context():
        link = uploads.direct_url(uploads.save(PNG, filename="a.png"), download_name="b.png")
    answer = get(app, link)
    assert answer.headers["X-Accel-Redirect"].startswith("/protected/")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="b.png"'
    assert answer.headers["Cache-Control"].startswith("private, max-age=")


def test_the_link_honours_the_root_of_the_app_and_may_be_absolute(
    app: Flask, uploads: Uploads, path: StoredFile
) -> None:
    query = urlsplit(uploads.direct_url(path)).query
    with app.test_request_context("/", base_url="https://example.com/shop"):
        assert uploads.direct_url(path, external=True) == f"https://example.com/shop/{path}?{query}"
        assert uploads.direct_url(path) == f"/shop/{path}?{query}"


# -- after a move to a backend with links of its own


@pytest.fixture
def moved(make_app: MakeApp, guarded: Flask, uploads: Uploads, path: StoredFile) -> tuple[Flask, str]:
    """The same app on S3, and a link that was signed before."""
    link = uploads.direct_url(path, download_name="x.png")
    keys = {"UPLOADS_S3_BUCKET": "b", "UPLOADS_S3_ACCESS_KEY_ID": "k", "UPLOADS_S3_SECRET_ACCESS_KEY": "s"}
    return make_app(uploads, SECRET_KEY=SECRET, **keys), link


def test_a_signed_link_still_replaces_the_hook_after_a_move_to_s3(moved: tuple[Flask, str]) -> None:
    app, link = moved
    answer = get(app, link)
    assert answer.status_code == 302
    assert "x.png" in unquote(answer.headers["Location"])
    assert get(app, urlsplit(link).path).status_code == 404


def test_the_redirect_of_a_signed_link_ends_no_later_than_the_link(moved: tuple[Flask, str], clock: Clock) -> None:
    app, link = moved
    for left in (1500, 100, 10):
        clock.now = end_of(link) - left
        answer = get(app, link)
        target = parse_qs(urlsplit(answer.headers["Location"]).query)
        signed_at = window_start(urlsplit(link).path.removeprefix("/uploads/"), EXPIRES, clock.now)
        assert signed_at + int(target["X-Amz-Expires"][0]) == end_of(link)
        assert answer.headers["Cache-Control"] == f"private, max-age={max(0, left - 60)}"


def test_an_unsigned_download_name_is_ignored_after_a_move_to_s3(moved: tuple[Flask, str], uploads: Uploads) -> None:
    app, link = moved
    uploads.authorize(lambda action, key: True)
    plain = get(app, urlsplit(link).path)
    for query in ("download=evil.html", "download=evil.html&expires=9999999999&signature=x", "t=123"):
        assert get(app, f"{urlsplit(link).path}?{query}").headers["Location"] == plain.headers["Location"]
