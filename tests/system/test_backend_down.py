"""If the store is down, silent, refuses or is elsewhere, the documented status comes in time and the app goes on."""

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
FOR_VISITORS = b"<p>The file store is not available at the moment. Please try again later.</p>"
NOT_REACHED = "The service cannot be reached."
HIDDEN = (b"test-secret", b"hidden-half", b"private_x", b"127.0.0.1", b"UPLOADS_", b".txt")


@contextmanager
def down(behaviour: Behaviour | None, tmp_path: Path, s3_server: S3Server) -> Iterator[Gunicorn]:
    """Start the app with a store that behaves like this. With ``None``, nobody listens at its address."""
    with ScriptedS3(behaviour or silent) as fake:
        endpoint = fake.url if behaviour else f"http://127.0.0.1:{free_ports(1)[0]}"
        environment = s3_server.environment(UPLOADS_S3_ENDPOINT_URL=endpoint, UPLOADS_TIMEOUT=str(TIMEOUT))
        with threaded(environment, tmp_path) as server:
            yield server


def threaded(environment: dict[str, str], folder: Path) -> Gunicorn:
    arguments = ["-k", "gthread", "--threads", "4"]
    return Gunicorn(APP, *arguments, environment=environment, folder=folder, log=folder / "log")


def check_the_failure(server: Gunicorn, status: int, reason: str) -> None:
    """Upload three files: the visitor reads a plain sentence in time, the operator finds the reason in the log.

    Views go on. The log names files that may be left in the store only if something was sent.
    """
    begun = time.monotonic()
    failed = once(server.url, "POST", "/save", form(*(("f", f"{number}.txt", b"x") for number in range(3))))
    assert time.monotonic() - begun < TIMEOUT + 2
    assert (failed.status, FOR_VISITORS in failed.data) == (status, True), failed.data
    assert ("Retry-After" in failed.headers) == (status == 503)
    assert not [hidden for hidden in HIDDEN if hidden in failed.data]
    assert once(server.url, "GET", "/uploads/a.png").status == 302
    assert server.log is not None
    log = server.log.read_text()
    assert reason in log
    assert not [hidden for hidden in HIDDEN[:3] if hidden.decode() in log]
    if reason == NOT_REACHED:
        assert "may be left" not in log
    if status == 504:
        assert "These files may be left in the store: " in log


@pytest.mark.parametrize(
    ("behaviour", "status", "reason"),
    [
        (None, 503, NOT_REACHED),
        (silent, 504, "The service did not answer in time."),
        (answer(503, "SlowDown"), 503, "The service is not available at the moment (SlowDown)."),
        (answer(403, "AccessDenied"), 502, "Allow s3:GetObject, s3:PutObject"),
        (
            answer(301, "PermanentRedirect", x_amz_bucket_region="eu-west-3"),
            502,
            "The bucket is in the region eu-west-3, not us-east-1. Set UPLOADS_S3_REGION to eu-west-3.",
        ),
    ],
    ids=["connection refused", "silent", "503", "403", "wrong region"],
)
def test_an_upload_fails_in_time_with_the_documented_status_and_views_go_on(
    s3_server: S3Server, tmp_path: Path, behaviour: Behaviour | None, status: int, reason: str
) -> None:
    with down(behaviour, tmp_path, s3_server) as server:
        check_the_failure(server, status, reason)


def test_failures_leave_no_thread_and_no_open_file_behind(s3_server: S3Server, tmp_path: Path) -> None:
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
        assert held("task") <= threads + 4  # gthread starts threads for requests


@pytest.mark.parametrize("backend", ["cloudinary", "imagekit"])
@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        (None, 503, NOT_REACHED),
        (service.silent, 504, "The service did not answer in time."),
        (service.status(503), 503, "The service is not available at the moment"),
        (service.status(429), 503, "limit of API calls is reached."),
        (service.status(401), 502, "did not accept the "),
    ],
    ids=["connection refused", "silent", "503", "429", "401"],
)
def test_uploads_to_the_other_services_fail_in_the_same_way(
    request: pytest.FixtureRequest, tmp_path: Path, backend: str, fault: service.Fault | None, status: int, reason: str
) -> None:
    environment = {**settings_of(backend, request), "UPLOADS_TIMEOUT": str(TIMEOUT)}
    with FakeDown(fault or service.silent) as fake:
        api = fake.url if fault else f"http://127.0.0.1:{free_ports(1)[0]}"
        environment |= {"UPLOADS_CLOUDINARY_UPLOAD_PREFIX": api, "UPLOADS_IMAGEKIT_BASE_URL": api}
        if backend == "cloudinary":
            environment["UPLOADS_CLOUDINARY_URL"] = "cloudinary://key:hidden-half@demo"
        with threaded(environment, tmp_path) as server:
            check_the_failure(server, status, reason)


class FakeDown(service.FakeService):
    """A service that answers every request with the same fault."""

    def __init__(self, fault: service.Fault) -> None:
        super().__init__()
        self._fault = fault

    def handle(self, request: service.Request) -> service.Answer:
        raise NotImplementedError

    def respond(self, request: service.Request) -> service.Answer | None:
        return self._fault(self, request)
