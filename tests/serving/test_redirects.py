"""Direct urls that stay the same for a whole window, and redirects that end before them."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from flask import Flask, Response
from hypothesis import given
from hypothesis import strategies as st

from flask_persistent_uploads import Uploads
from flask_persistent_uploads.backends.memory import MemoryBackend
from flask_persistent_uploads.serving import redirects
from flask_persistent_uploads.serving.redirects import Link, Redirect, direct_link, window_start

from ..conftest import MakeApp

any_key = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
any_expiry = st.integers(1, 604800)
any_moment = st.floats(0, 2**33)


class Elsewhere(MemoryBackend):
    """A backend whose direct urls say what they were made of."""

    def __init__(self, *, ends: float | None = None) -> None:
        super().__init__()
        self.ends = ends

    def url(
        self, key: str, *, signed_at: int, expires_in: int, method: str = "GET", download_as: str | None = None
    ) -> str:
        return f"https://there/{quote(key)}?at={signed_at}&for={expires_in}&{method}&as={download_as}"

    def valid_until(self) -> float | None:
        return self.ends


def link_at(moment: float, *, key: str = "x.png", expires: int = 3600, ends: float | None = None) -> Link:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redirects, "now", lambda: moment)
        link = direct_link(Elsewhere(ends=ends), key, expires)
    assert link is not None
    return link


def end_of(link: Link) -> int:
    query = parse_qs(urlsplit(link.url).query)
    return int(query["at"][0]) + int(query["for"][0])


# -- the window


@given(any_key, any_expiry, any_moment)
def test_a_window_holds_the_moment_and_lasts_half_the_expiry(key: str, expires: int, moment: float) -> None:
    length = max(1, expires // 2)
    start = window_start(key, expires, moment)
    assert start <= moment < start + length


@given(any_key, any_expiry, any_moment, st.floats(0, 1, exclude_max=True))
def test_a_window_begins_at_the_same_second_all_along(key: str, expires: int, moment: float, part: float) -> None:
    length = max(1, expires // 2)
    start = window_start(key, expires, moment)
    assert window_start(key, expires, start + int(part * length)) == start
    assert window_start(key, expires, start + length - 0.01) == start
    assert window_start(key, expires, start + length) == start + length


def test_pictures_do_not_turn_over_all_at_once() -> None:
    starts = {window_start(f"{number}.png", 3600, 1_700_000_000) for number in range(100)}
    assert len(starts) > 80


def test_a_window_is_the_same_on_every_host() -> None:
    assert window_start("reports/x.png", 3600, 1_700_000_000.9) == 1_699_999_162


# -- the direct url


@given(any_key, st.integers(2, 604800), any_moment)
def test_a_direct_url_works_for_at_least_half_its_expiry(key: str, expires: int, moment: float) -> None:
    link = link_at(moment, key=key, expires=expires)
    assert expires // 2 <= link.seconds_left <= expires
    assert end_of(link) - moment >= link.seconds_left - 1
    assert end_of(link) == link.seconds_left + int(moment)


def test_a_direct_url_is_the_same_bytes_for_a_whole_window() -> None:
    start = window_start("x.png", 3600, 1_700_000_000)
    assert len({link_at(start + second).url for second in (0, 0.5, 1, 900, 1799, 1799.9)}) == 1
    assert link_at(start + 1800).url != link_at(start + 1799).url


@given(st.integers(1, 604800), st.integers(10**9, 2 * 10**9), st.integers(-1000, 10**6))
def test_a_direct_url_claims_no_more_than_the_credentials_live(expires: int, moment: int, left: int) -> None:
    link = link_at(moment, expires=expires, ends=moment + left + 0.5)
    assert end_of(link) <= max(moment + left, window_start("x.png", expires, moment) + 1)
    assert link.seconds_left <= max(left, 1)
    assert end_of(link) == link.seconds_left + moment


def test_a_direct_url_asks_for_a_download_where_the_type_is_not_shown() -> None:
    assert link_at(0).url.endswith("&GET&as=None")
    assert link_at(0, key="x.svg").url.endswith("&GET&as=x.svg")


def test_there_is_no_direct_url_where_the_app_serves_the_file() -> None:
    assert direct_link(MemoryBackend(), "x.png", 3600) is None


# -- the redirect


@given(st.integers(-100, 604800))
def test_a_kept_redirect_ends_a_minute_before_its_signature(seconds_left: int) -> None:
    response = Redirect(Link("https://there/x", seconds_left), private=False)
    found = re.fullmatch(r"private, max-age=(\d+)", response.headers["Cache-Control"])
    assert found is not None
    assert int(found[1]) == max(0, seconds_left - 60)


SIGNED = "https://there/a%20b%2Cc/%F0%9F%98%80.png?X-Amz-Credential=k%2F2026&X-Amz-Signature=ab+c~d"


def test_a_redirect_is_found_not_moved_for_ever_and_carries_its_link_unchanged() -> None:
    response = Redirect(Link(SIGNED, 100), private=False)
    assert isinstance(response, Response)
    assert (response.status_code, response.status) == (302, "302 FOUND")
    assert dict(response.headers) == {
        "Location": SIGNED,
        "Cache-Control": "private, max-age=40",
        "Referrer-Policy": "no-referrer",
        "Content-Type": "text/plain",
        "Content-Length": "0",
        "Access-Control-Allow-Origin": "*",
    }


def test_what_is_private_is_not_opened_to_other_pages() -> None:
    assert "Access-Control-Allow-Origin" not in Redirect(Link(SIGNED, 100), private=True).headers


def app_with(after: Callable[[Response], Response] | None = None) -> Flask:
    app = Flask("tests")
    app.add_url_rule("/", view_func=lambda: Redirect(Link(SIGNED, 100), private=False))
    if after is not None:
        app.after_request(after)
    return app


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_redirect_goes_out_as_it_is(method: str) -> None:
    response = app_with().test_client().open("/", method=method)
    assert (response.status_code, response.headers["Location"], response.data) == (302, SIGNED, b"")
    assert response.headers["Content-Length"] == "0"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_app_may_add_headers_cookies_and_a_body(method: str) -> None:
    def after(response: Response) -> Response:
        response.headers["X-App"] = "a"
        response.headers.add("Vary", "Cookie")
        response.set_cookie("seen", "yes")
        response.data = b"moved"
        response.mimetype = "text/plain"
        return response

    response = app_with(after).test_client().open("/", method=method)
    assert (response.status_code, response.headers["Location"]) == (302, SIGNED)
    assert (response.headers["X-App"], response.headers["Vary"]) == ("a", "Cookie")
    assert response.headers["Set-Cookie"].startswith("seen=yes")
    assert response.headers["Content-Length"] == "5"
    assert response.data == (b"moved" if method == "GET" else b"")


def test_an_app_may_look_at_it_change_its_status_and_wait_for_its_end() -> None:
    ended = []

    def after(response: Response) -> Response:
        assert (response.status_code, response.data, response.location) == (302, b"", SIGNED)
        assert response.cache_control.max_age == 40
        response.status_code = 307
        response.cache_control.no_store = True
        response.call_on_close(lambda: ended.append(True))
        return response

    with app_with(after).test_client().get("/") as response:
        assert response.status == "307 TEMPORARY REDIRECT"
        assert "no-store" in response.headers["Cache-Control"]
    assert ended == [True]


# -- through an app


def test_a_view_of_a_file_is_a_redirect_that_differs_for_head(make_app: MakeApp) -> None:
    keys = {"UPLOADS_S3_ACCESS_KEY_ID": "k", "UPLOADS_S3_SECRET_ACCESS_KEY": "s"}
    client = make_app(Uploads(), UPLOADS_S3_BUCKET="b", UPLOADS_URL_EXPIRES=3600, **keys).test_client()
    get, again, head = client.get("/uploads/x.png"), client.get("/uploads/x.png?t=1"), client.head("/uploads/x.png")
    assert [get.status_code, again.status_code, head.status_code] == [302, 302, 302]
    assert get.location == again.location
    assert get.location is not None
    assert urlsplit(get.location).hostname == "b.s3.us-east-1.amazonaws.com"
    assert head.location != get.location
    assert 1740 <= int(get.headers["Cache-Control"].rpartition("=")[2]) <= 3540
