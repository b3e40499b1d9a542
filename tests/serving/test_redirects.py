"""Direct urls stay the same for a whole window, and a cached redirect ends before its link does."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
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


class ShowsArguments(MemoryBackend):
    """A backend whose direct urls show the arguments that they were made from."""

    def __init__(self, *, ends: float | None = None) -> None:
        super().__init__()
        self.ends = ends

    def url(
        self, key: str, *, signed_at: int, expires_in: int, method: str = "GET", download_as: str | None = None
    ) -> str:
        return f"https://there/{quote(key)}?at={signed_at}&for={expires_in}&{method}&as={download_as}"

    def valid_until(self) -> float | None:
        return self.ends


def link_at(
    moment: float, *, key: str = "x.png", expires: int = 3600, ends: float | None = None, **options: Any
) -> Link:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redirects, "now", lambda: moment)
        link = direct_link(ShowsArguments(ends=ends), key, expires, **options)
    assert link is not None
    return link


def end_of(link: Link) -> int:
    query = parse_qs(urlsplit(link.url).query)
    return int(query["at"][0]) + int(query["for"][0])


# -- the window


@given(any_key, any_expiry, any_moment)
def test_a_window_contains_the_moment_and_lasts_half_of_the_expiry(key: str, expires: int, moment: float) -> None:
    length = max(1, expires // 2)
    start = window_start(key, expires, moment)
    assert start <= moment < start + length


@given(any_key, any_expiry, any_moment, st.floats(0, 1, exclude_max=True))
def test_all_moments_of_a_window_have_the_same_start(key: str, expires: int, moment: float, part: float) -> None:
    length = max(1, expires // 2)
    start = window_start(key, expires, moment)
    assert window_start(key, expires, start + int(part * length)) == start
    assert window_start(key, expires, start + length - 0.01) == start
    assert window_start(key, expires, start + length) == start + length


def test_the_windows_of_different_keys_start_at_different_times() -> None:
    starts = {window_start(f"{number}.png", 3600, 1_700_000_000) for number in range(100)}
    assert len(starts) > 80


def test_a_window_is_the_same_on_every_host() -> None:
    assert window_start("reports/x.png", 3600, 1_700_000_000.9) == 1_699_999_162


# -- the direct url


@given(any_key, st.integers(2, 604800), any_moment)
def test_a_direct_url_works_for_at_least_half_of_its_expiry(key: str, expires: int, moment: float) -> None:
    link = link_at(moment, key=key, expires=expires)
    assert expires // 2 <= link.seconds_left <= expires
    assert end_of(link) - moment >= link.seconds_left - 1
    assert end_of(link) == link.seconds_left + int(moment)


def test_a_direct_url_is_the_same_bytes_for_a_whole_window() -> None:
    start = window_start("x.png", 3600, 1_700_000_000)
    assert len({link_at(start + second).url for second in (0, 0.5, 1, 900, 1799, 1799.9)}) == 1
    assert link_at(start + 1800).url != link_at(start + 1799).url


@given(st.integers(1, 604800), st.integers(10**9, 2 * 10**9), st.integers(-1000, 10**6))
def test_a_direct_url_ends_with_temporary_credentials(expires: int, moment: int, left: int) -> None:
    link = link_at(moment, expires=expires, ends=moment + left + 0.5)
    assert end_of(link) <= max(moment + left, window_start("x.png", expires, moment) + 1)
    assert link.seconds_left <= max(left, 1)
    assert end_of(link) == link.seconds_left + moment


def test_a_direct_url_asks_for_a_download_of_a_type_that_browsers_do_not_show() -> None:
    assert link_at(0).url.endswith("&GET&as=None")
    assert link_at(0, key="x.svg").url.endswith("&GET&as=x.svg")


def test_a_given_download_name_is_used_and_an_empty_one_is_not() -> None:
    assert link_at(0, download_name="My plan.png").url.endswith("&as=My plan.png")
    assert link_at(0, key="x.svg", download_name="").url.endswith("&as=x.svg")


@given(st.integers(2, 604800), st.integers(10**9, 2 * 10**9), st.integers(1, 10**6))
def test_a_direct_url_ends_no_later_than_it_is_told(expires: int, moment: int, left: int) -> None:
    link = link_at(moment, expires=expires, ends_at=moment + left)
    assert end_of(link) == min(moment + left, window_start("x.png", expires, moment) + expires)
    assert link_at(moment, expires=expires, ends_at=moment + left, ends=moment + 0.5).seconds_left <= 1


def test_there_is_no_direct_url_if_the_app_sends_the_file() -> None:
    assert direct_link(MemoryBackend(), "x.png", 3600) is None


# -- the redirect


@given(st.integers(-100, 604800))
def test_a_cached_redirect_ends_a_minute_before_its_signature(seconds_left: int) -> None:
    response = Redirect(Link("https://there/x", seconds_left), private=False)
    found = re.fullmatch(r"private, max-age=(\d+)", response.headers["Cache-Control"])
    assert found is not None
    assert int(found[1]) == max(0, seconds_left - 60)


SIGNED = "https://there/a%20b%2Cc/%F0%9F%98%80.png?X-Amz-Credential=k%2F2026&X-Amz-Signature=ab+c~d"


def test_a_redirect_is_a_302_with_the_link_unchanged() -> None:
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


def test_a_private_redirect_is_not_readable_by_other_sites() -> None:
    assert "Access-Control-Allow-Origin" not in Redirect(Link(SIGNED, 100), private=True).headers


def app_with(after: Callable[[Response], Response] | None = None) -> Flask:
    app = Flask("tests")
    app.add_url_rule("/", view_func=lambda: Redirect(Link(SIGNED, 100), private=False))
    if after is not None:
        app.after_request(after)
    return app


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_redirect_is_sent_unchanged(method: str) -> None:
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


def test_an_app_may_read_the_redirect_change_its_status_and_wait_for_its_end() -> None:
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
