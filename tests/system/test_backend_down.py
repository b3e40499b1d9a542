"""The store is down, silent, refusing or elsewhere: the stated status in time, and the app goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ..conftest import settings_of
from ..fakes import service
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


def check_the_failure(server: Gunicorn, status: int, says: bytes) -> None:
    """An upload of three files fails in time and in words, without a secret, and a view goes on."""
    begun = time.monotonic()
    failed = once(server.url, "POST", "/save", form(*(("f", f"{number}.txt", b"x") for number in range(3))))
    assert time.monotonic() - begun < TIMEOUT + 2
    assert (failed.status, says in failed.data) == (status, True), failed.data
    assert ("Retry-After" in failed.headers) == (status == 503)
    assert not any(hidden in failed.data for hidden in (b"test-secret", b"hidden-half", b"private_x", b"127.0.0.1"))
    assert once(server.url, "GET", "/uploads/a.png").status == 302


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
        check_the_failure(server, status, says)


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


@pytest.mark.parametrize("backend", ["cloudinary", "imagekit"])
@pytest.mark.parametrize(
    ("fault", "status", "says"),
    [
        (None, 503, b"cannot be reached"),
        (service.silent, 504, b"did not answer in time"),
        (service.status(503), 503, b"store for uploads"),
        (service.status(429), 503, b"limit of calls is reached"),
        (service.status(401), 502, b"did not take the credentials"),
    ],
    ids=["connection refused", "silent", "503", "429", "401"],
)
def test_the_same_holds_for_the_other_services(
    request: pytest.FixtureRequest, tmp_path: Path, backend: str, fault: service.Fault | None, status: int, says: bytes
) -> None:
    environment = {**settings_of(backend, request), "UPLOADS_TIMEOUT": str(TIMEOUT)}
    with FakeDown(fault or service.silent) as fake:
        api = fake.url if fault else f"http://127.0.0.1:{free_ports(1)[0]}"
        environment |= {"UPLOADS_CLOUDINARY_UPLOAD_PREFIX": api, "UPLOADS_IMAGEKIT_BASE_URL": api}
        if backend == "cloudinary":
            environment["UPLOADS_CLOUDINARY_URL"] = "cloudinary://key:hidden-half@demo"
        with Gunicorn(APP, "-k", "gthread", "--threads", "4", environment=environment, folder=tmp_path) as server:
            check_the_failure(server, status, says)


class FakeDown(service.FakeService):
    """A service that answers every request with the same fault."""

    def __init__(self, fault: service.Fault) -> None:
        super().__init__()
        self._fault = fault

    def handle(self, request: service.Request) -> service.Answer:
        raise NotImplementedError

    def respond(self, request: service.Request) -> service.Answer | None:
        return self._fault(self, request)
