"""Promise 3 with real processes: a link is the same bytes on every worker, and a redirect ends before its link."""

from __future__ import annotations

import itertools
import re
import time
from pathlib import Path

import pytest

from flask_persistent_uploads.serving.redirects import window_start

from ..conftest import PNG, settings_of
from ..servers import BUCKET, Gunicorn, S3Server
from .client import Answer, fetch, once, save
from .test_redeploy import APP, REMOTE

EXPIRES = 3600


def max_age(answer: Answer) -> int:
    found = re.fullmatch(r"private, max-age=(\d+)", answer.headers["Cache-Control"])
    assert found
    return int(found[1])


def seconds_into_window(path: str) -> float:
    key = path.partition("/")[2]
    return time.time() - window_start(key, EXPIRES, time.time())


@pytest.mark.parametrize("backend", REMOTE)
def test_workers_servers_and_restarted_servers_answer_with_the_same_link(
    request: pytest.FixtureRequest, tmp_path: Path, backend: str
) -> None:
    private = {"UPLOADS_CLOUDINARY_PRIVATE": "1", "UPLOADS_IMAGEKIT_PRIVATE": "1"}  # links that expire
    environment = {**settings_of(backend, request), **private}
    with Gunicorn(APP, "-w", "2", environment=environment, folder=tmp_path) as one:
        # The window must still be the same one in ten minutes.
        while seconds_into_window(path := save(one.url, ("f", "a.png", PNG))[0]["path"]) > 1000:
            pass
        by_worker: dict[str, str] = {}
        deadline = time.monotonic() + 20
        while len(by_worker) < 2 and time.monotonic() < deadline:
            answer = once(one.url, "GET", f"/{path}?t={time.time()}")
            by_worker[answer.headers["X-Worker"]] = answer.headers["Location"]
        assert len(by_worker) == 2
        with (
            Gunicorn(APP, environment=environment, folder=tmp_path) as two,
            Gunicorn(APP, environment={**environment, "CLOCK_SHIFT": "600"}, folder=tmp_path) as later,
        ):
            soon, late = once(two.url, "GET", f"/{path}"), once(later.url, "GET", f"/{path}")
    assert {*by_worker.values(), soon.headers["Location"], late.headers["Location"]} == {soon.headers["Location"]}
    assert 599 <= max_age(soon) - max_age(late) <= 605


def key_with_window_start(ago: int, expires: int, moment: int) -> str:
    """Return a key whose window started ``ago`` seconds before ``moment``."""
    keys = (f"window/{number}.png" for number in itertools.count())
    return next(key for key in keys if window_start(key, expires, moment - ago) == moment - ago)


@pytest.mark.parametrize("expires", [120, 3600, 604_800])
def test_a_redirect_works_until_its_last_cached_second_and_not_beyond_its_signature(
    s3_server: S3Server, tmp_path: Path, expires: int
) -> None:
    """The app's clock is set back to the start of a window, so that its redirect ends now."""
    for ago, expected in ((expires - 60 - 2, 200), (expires + 2, 403)):
        moment = int(time.time())
        key = key_with_window_start(ago, expires, moment)
        s3_server.client().put_object(Bucket=BUCKET, Key=f"uploads/{key}", Body=PNG)
        environment = s3_server.environment(
            UPLOADS_URL_EXPIRES=str(expires), CLOCK_SHIFT=str(moment - ago - time.time())
        )
        with Gunicorn(APP, environment=environment, folder=tmp_path) as earlier:
            answer = once(earlier.url, "GET", f"/uploads/{key}")
        assert expires - 60 - 20 <= max_age(answer) <= expires - 60  # gunicorn takes a while to start
        while expected == 200 and time.time() < moment - ago + expires - 60:
            time.sleep(0.1)
        assert fetch(answer.headers["Location"]).status == expected


def test_head_works_through_the_redirect_and_a_changed_link_is_a_403(s3_server: S3Server, tmp_path: Path) -> None:
    with Gunicorn(APP, environment=s3_server.environment(), folder=tmp_path) as server:
        path = save(server.url, ("f", "a.png", PNG))[0]["path"]
        head = fetch(f"{server.url}/{path}", method="HEAD")
        location = once(server.url, "GET", f"/{path}").headers["Location"]
    assert (head.status, head.headers["Content-Length"], head.data) == (200, str(len(PNG)), b"")
    assert fetch(location).data == PNG
    for old, new in (
        ("X-Amz-Expires=3600", "X-Amz-Expires=3601"),
        ("response-content-type=image%2Fpng", "response-content-type=text%2Fhtml"),
        ("/uploads/", "/uploads/x"),
        ("X-Amz-Signature=", "X-Amz-Signature=0"),
    ):
        assert old in location
        assert fetch(location.replace(old, new)).status == 403
