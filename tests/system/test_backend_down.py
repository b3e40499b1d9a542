"""The store is down, silent, refusing or elsewhere: the stated status in time, and the app goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ..fakes.scripted import Behaviour, ScriptedS3, answer, silent
from ..servers import Gunicorn, S3Server, free_ports
from .client import form, once
from .test_redeploy import APP

TIMEOUT = 4


@contextmanager
def down(behaviour: Behaviour | None, tmp_path: Path, s3_server: S3Server) -> Iterator[Gunicorn]:
    """The app over a store that behaves so; ``None``: nobody listens there."""
    with ScriptedS3(behaviour or silent) as fake:
        endpoint = fake.url if behaviour else f"http://127.0.0.1:{free_ports(1)[0]}"
        environment = s3_server.environment(UPLOADS_S3_ENDPOINT_URL=endpoint, UPLOADS_TIMEOUT=str(TIMEOUT))
        with Gunicorn(APP, "-k", "gthread", "--threads", "4", environment=environment, folder=tmp_path) as server:
            yield server


@pytest.mark.parametrize(
    ("behaviour", "status", "says"),
    [
        (None, 503, b"cannot be reached"),
        (silent, 504, b"did not answer in time"),
        (answer(503, "SlowDown"), 503, b"is not available now (SlowDown)"),
        (answer(403, "AccessDenied"), 502, b"s3:PutObject"),
        (
            answer(301, "PermanentRedirect", x_amz_bucket_region="eu-west-3"),
            502,
            b"in the region eu-west-3, not us-east-1",
        ),
    ],
    ids=["connection refused", "silent", "503", "403", "wrong region"],
)
def test_an_upload_fails_in_time_with_its_status_and_views_go_on(
    s3_server: S3Server, tmp_path: Path, behaviour: Behaviour | None, status: int, says: bytes
) -> None:
    with down(behaviour, tmp_path, s3_server) as server:
        begun = time.monotonic()
        failed = once(server.url, "POST", "/save", form(*(("f", f"{number}.txt", b"x") for number in range(3))))
        took = time.monotonic() - begun
        view = once(server.url, "GET", "/uploads/a.png")
    assert (failed.status, says in failed.data) == (status, True), failed.data
    assert took < TIMEOUT + 2
    assert ("Retry-After" in failed.headers) == (status == 503)
    assert b"test-secret" not in failed.data
    assert b"127.0.0.1" not in failed.data
    assert view.status == 302


def test_failures_leave_no_thread_and_no_file_open(s3_server: S3Server, tmp_path: Path) -> None:
    with down(answer(503, "SlowDown"), tmp_path, s3_server) as server:
        (worker,) = server.workers()

        def held(what: str) -> int:
            return len(list(Path(f"/proc/{worker}/{what}").iterdir()))

        sent = form(*(("f", f"{number}.txt", b"x" * 200_000) for number in range(8)))
        once(server.url, "POST", "/save", sent)
        files, threads = held("fd"), held("task")
        for _ in range(5):
            assert once(server.url, "POST", "/save", sent).status == 503
        assert held("fd") <= files + 2
        assert held("task") <= threads + 4  # gthread starts its own as requests come
