"""The S3 backend when something goes wrong: on a real server, and on servers that misbehave in one stated way."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import secrets
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.exceptions import ConnectTimeoutError

from flask_persistent_uploads import Uploads, backends
from flask_persistent_uploads.backends.s3 import S3Backend
from flask_persistent_uploads.errors import (
    BackendError,
    BackendFull,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
    FileExists,
    FileMissing,
)

from ..conftest import PNG, MakeApp
from ..fakes.scripted import Behaviour, Exchange, ScriptedS3, answer, close, drip, forward, half, in_turn, silent, where
from ..servers import ACCESS_KEY_ID, BUCKET, SECRET_ACCESS_KEY, S3Server, free_ports

SMALL = b"content"
LARGE = bytes(range(251)) * (17 * 1024 * 1024 // 251)  # above ONE_REQUEST: sent in parts
BOTH = pytest.mark.parametrize("content", [SMALL, LARGE], ids=["in one request", "in parts"])


def backend_at(url: str | None, **options: Any) -> S3Backend:
    keys = {"access_key_id": ACCESS_KEY_ID, "secret_access_key": SECRET_ACCESS_KEY}
    return S3Backend(**{"bucket": BUCKET, "endpoint_url": url, **keys, **options})


def save(backend: S3Backend, key: str, content: bytes = SMALL) -> str:
    return backend.save(
        key, io.BytesIO(content), content_type="image/png", size=len(content), filename="a.png", overwrite=False
    )


def read(backend: S3Backend, key: str) -> bytes:
    with backend.open(key) as stream:
        return stream.read()


Operation = Callable[[S3Backend], object]
OPERATIONS: dict[str, Operation] = {
    "save": lambda backend: save(backend, "a.png"),
    "save in parts": lambda backend: save(backend, "a.png", LARGE),
    "open": lambda backend: backend.open("a.png"),
    "stat": lambda backend: backend.stat("a.png"),
    "delete": lambda backend: backend.delete("a.png"),
    "entries": lambda backend: list(backend.entries()),
}
EVERY_OPERATION = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
OBJECT_OPERATIONS = pytest.mark.parametrize(
    "operation", [OPERATIONS[name] for name in ("save", "open")], ids=["save", "open"]
)


@pytest.fixture
def key() -> str:
    return f"s3/{secrets.token_hex(8)}.png"


@pytest.fixture
def backend(s3_server: S3Server) -> S3Backend:
    """The backend on the real server, without anything in between."""
    return backend_at(s3_server.url)


def unfinished(server: S3Server, key: str) -> list[str]:
    """Return the multipart uploads of the key that were neither completed nor aborted."""
    answer = server.client().list_multipart_uploads(Bucket=BUCKET, Prefix=f"uploads/{key}")
    return [upload["Key"] for upload in answer.get("Uploads", ())]


def ends_a_save(exchange: Exchange) -> bool:
    return _ends_a_save(exchange.command, exchange.path)


def _ends_a_save(method: str, path: str) -> bool:
    return (method == "PUT" and "partNumber" not in path) or (method == "POST" and "uploadId" in path)


def carries_content(exchange: Exchange) -> bool:
    return exchange.command == "PUT"


class TestLostAnswers:
    """If an answer is lost, boto3 repeats the request. The stored object shows whether the first attempt succeeded."""

    @BOTH
    def test_a_save_whose_answer_was_lost_succeeds_with_one_object(
        self, s3_server: S3Server, backend: S3Backend, key: str, content: bytes
    ) -> None:
        real = forward(s3_server.url)
        script = where(ends_a_save, in_turn(forward(s3_server.url, lose_answer=True), real), real)
        with ScriptedS3(script) as fake:
            assert save(backend_at(fake.url), key, content) == hashlib.sha256(content).hexdigest()
        assert [entry.key for entry in backend.entries(key)] == [key]
        assert read(backend, key) == content
        assert unfinished(s3_server, key) == []

    @pytest.mark.parametrize("second", [answer(404, "NoSuchUpload"), answer(412, "PreconditionFailed")])
    def test_a_repeated_completion_that_is_refused_succeeds_if_the_first_one_did(
        self, s3_server: S3Server, backend: S3Backend, key: str, second: Behaviour
    ) -> None:
        lost = in_turn(forward(s3_server.url, lose_answer=True), second)
        with ScriptedS3(where(ends_a_save, lost, forward(s3_server.url))) as fake:
            save(backend_at(fake.url), key, LARGE)
        assert read(backend, key) == LARGE

    @BOTH
    @pytest.mark.parametrize("retried", [False, True], ids=["at once", "after a retry"])
    def test_a_key_that_exists_is_refused_even_after_a_retry(
        self, s3_server: S3Server, backend: S3Backend, key: str, content: bytes, retried: bool
    ) -> None:
        save(backend, key, other := content[::-1])
        real = forward(s3_server.url)
        with (
            ScriptedS3(where(ends_a_save, in_turn(close(), real) if retried else real, real)) as fake,
            pytest.raises(FileExists),
        ):
            save(backend_at(fake.url), key, content)
        assert sum(_ends_a_save(request.method, request.path) for request in fake.requests) == 1 + retried
        assert read(backend, key) == other
        assert unfinished(s3_server, key) == []

    def test_a_completion_of_an_unknown_upload_is_an_error(
        self, s3_server: S3Server, backend: S3Backend, key: str
    ) -> None:
        gone = in_turn(close(), answer(404, "NoSuchUpload"))
        with ScriptedS3(where(ends_a_save, gone, forward(s3_server.url))) as fake, pytest.raises(BackendRefused):
            save(backend_at(fake.url), key, LARGE)
        assert backend.stat(key) is None


@BOTH
def test_content_that_is_altered_on_its_way_is_refused_and_not_stored(
    s3_server: S3Server, backend: S3Backend, key: str, content: bytes
) -> None:
    script = where(carries_content, forward(s3_server.url, flip=True), forward(s3_server.url))
    with ScriptedS3(script) as fake, pytest.raises(BackendRefused, match="altered on its way"):
        save(backend_at(fake.url), key, content)
    assert backend.stat(key) is None
    assert unfinished(s3_server, key) == []


@BOTH
def test_a_service_without_conditional_writes_is_checked_before_each_write(
    s3_server: S3Server, backend: S3Backend, key: str, content: bytes
) -> None:
    def is_conditional(exchange: Exchange) -> bool:
        return "If-None-Match" in exchange.headers

    with ScriptedS3(where(is_conditional, answer(501, "NotImplemented"), forward(s3_server.url))) as fake:
        save(backend_at(fake.url), key, content)
        with pytest.raises(FileExists):
            save(backend_at(fake.url), key, content[::-1])
    assert read(backend, key) == content
    assert unfinished(s3_server, key) == []


@pytest.mark.parametrize("failure", [answer(500, "InternalError"), answer(403, "AccessDenied"), close(after=0.5)])
def test_a_part_that_fails_aborts_the_whole_upload(s3_server: S3Server, key: str, failure: Behaviour) -> None:
    def is_second_part(exchange: Exchange) -> bool:
        return "partNumber=2" in exchange.path

    with ScriptedS3(where(is_second_part, failure, forward(s3_server.url))) as fake, pytest.raises(BackendError):
        save(backend_at(fake.url), key, LARGE)
    assert any("uploads" in request.path and request.method == "POST" for request in fake.requests)
    assert unfinished(s3_server, key) == []


@BOTH
@pytest.mark.parametrize("part", [0, 0.5, 1])
def test_a_retry_sends_the_stream_again_from_its_original_position(
    s3_server: S3Server, backend: S3Backend, key: str, content: bytes, part: float
) -> None:
    stream = io.BytesIO(b"skipped" + content)
    stream.seek(7)
    real = forward(s3_server.url)
    with ScriptedS3(where(carries_content, in_turn(close(after=part), real), real)) as fake:
        backend_at(fake.url).save(key, stream, content_type="image/png", size=len(content), filename="a.png")
    assert read(backend, key) == content
    assert len(fake.requests) > len(content) // (5 << 20) + 1  # there was a retry
    assert not stream.closed


def wait(exchange: Exchange) -> None:
    exchange.server.owner.stopping.wait(30)


@contextmanager
def unanswered() -> Iterator[str]:
    """An address at which connections are neither accepted nor refused, because the queue of the listener is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as stack:
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


class TestOutages:
    @EVERY_OPERATION
    def test_a_refused_connection_is_503_at_once_and_nothing_was_stored(self, operation: Operation) -> None:
        begun = time.monotonic()
        with pytest.raises(BackendUnavailable) as caught:
            operation(backend_at(f"http://127.0.0.1:{free_ports(1)[0]}", timeout=3))
        assert time.monotonic() - begun < 3
        assert caught.value.code == 503
        assert caught.value.retry_after
        assert caught.value.nothing_stored

    @pytest.mark.parametrize("name", ["save", "save in parts"])
    def test_nothing_was_stored_if_the_host_is_unknown(self, name: str) -> None:
        with pytest.raises(BackendUnavailable) as caught:
            OPERATIONS[name](backend_at("http://no-such-host.invalid", timeout=2))
        assert caught.value.nothing_stored

    @pytest.mark.parametrize("name", ["save", "save in parts"])
    def test_nothing_was_stored_if_the_connection_timed_out(self, name: str) -> None:
        with unanswered() as url, pytest.raises(BackendUnavailable) as caught:
            OPERATIONS[name](backend_at(url, timeout=2))
        assert isinstance(caught.value.__cause__, ConnectTimeoutError)
        assert caught.value.nothing_stored

    @pytest.mark.parametrize("name", ["save", "save in parts"])
    def test_nothing_was_stored_if_the_proxy_was_not_reached(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_ports(1)[0]}")
        with pytest.raises(BackendUnavailable) as caught:
            OPERATIONS[name](backend_at("http://s3.example.com", timeout=2))
        assert caught.value.nothing_stored

    @pytest.mark.parametrize("failure", [close(), close(after=1.0), answer(500, "InternalError")])
    def test_a_request_that_was_sent_may_have_stored_the_file(self, failure: Behaviour) -> None:
        with ScriptedS3(failure) as fake, pytest.raises(BackendUnavailable) as caught:
            save(backend_at(fake.url), "a.png")
        assert not caught.value.nothing_stored

    def test_a_lost_answer_before_a_refused_connection_may_have_stored_the_file(
        self, s3_server: S3Server, backend: S3Backend, key: str
    ) -> None:
        def answer_once(exchange: Exchange) -> None:
            forward(s3_server.url, lose_answer=True)(exchange)
            exchange.server.socket.shutdown(socket.SHUT_RDWR)  # boto3's second attempt is refused

        with ScriptedS3(answer_once) as fake, pytest.raises(BackendUnavailable) as caught:
            save(backend_at(fake.url, timeout=5), key)
        assert not caught.value.nothing_stored
        assert read(backend, key) == SMALL

    @pytest.mark.parametrize("refusal", [answer(403, "AccessDenied"), answer(503, "SlowDown"), close()])
    def test_a_lost_answer_before_a_refusal_may_have_stored_the_file(
        self, s3_server: S3Server, backend: S3Backend, key: str, refusal: Behaviour
    ) -> None:
        lost = forward(s3_server.url, lose_answer=True)
        with ScriptedS3(in_turn(lost, refusal)) as fake, pytest.raises(BackendError) as caught:
            save(backend_at(fake.url), key)
        assert not caught.value.nothing_stored
        assert read(backend, key) == SMALL

    @pytest.mark.parametrize("refusal", [answer(403, "AccessDenied"), answer(503, "SlowDown"), close()])
    def test_a_lost_answer_whose_object_cannot_be_checked_may_have_stored_the_file(
        self, s3_server: S3Server, backend: S3Backend, key: str, refusal: Behaviour
    ) -> None:
        real = forward(s3_server.url)
        script = where(ends_a_save, in_turn(forward(s3_server.url, lose_answer=True), real), refusal)
        with ScriptedS3(script) as fake, pytest.raises(BackendUnavailable) as caught:
            save(backend_at(fake.url), key)
        assert not caught.value.nothing_stored
        assert read(backend, key) == SMALL

    @EVERY_OPERATION
    def test_a_silent_server_is_504_within_the_timeout(self, operation: Operation) -> None:
        begun = time.monotonic()
        with ScriptedS3(silent) as fake, pytest.raises(BackendTimeout) as caught:
            operation(backend_at(fake.url, timeout=3))
        assert time.monotonic() - begun < 5
        assert caught.value.code == 504

    def test_a_server_that_sends_single_bytes_is_504_within_the_timeout(self) -> None:
        begun = time.monotonic()
        with ScriptedS3(drip) as fake, pytest.raises(BackendTimeout):
            backend_at(fake.url, timeout=3).open("a.png")
        assert time.monotonic() - begun < 5

    def test_a_download_that_stalls_is_504(self) -> None:
        begun = time.monotonic()
        with (
            ScriptedS3(half(b"x" * 200_000, then=wait)) as fake,
            backend_at(fake.url, timeout=3).open("a.png") as stream,
            pytest.raises(BackendTimeout),
        ):
            stream.read()
        assert time.monotonic() - begun < 5

    @pytest.mark.parametrize("pieces", [-1, 1000, 65_536])
    def test_a_truncated_download_raises_an_error(self, pieces: int) -> None:
        with (
            ScriptedS3(half(b"x" * 200_000, then=Exchange.hang_up)) as fake,
            backend_at(fake.url).open("a.png") as stream,
            pytest.raises(BackendUnavailable),
        ):
            list(iter(lambda: stream.read(pieces), b""))

    @EVERY_OPERATION
    def test_a_request_to_slow_down_is_503(self, operation: Operation) -> None:
        with ScriptedS3(answer(503, "SlowDown")) as fake, pytest.raises(BackendUnavailable) as caught:
            operation(backend_at(fake.url))
        assert caught.value.code == 503

    @pytest.mark.parametrize("name", ["save", "save in parts"])
    @pytest.mark.parametrize(
        ("status", "code"), [(403, "QuotaExceeded"), (507, "XMinioStorageFull"), (507, "InsufficientStorage")]
    )
    def test_an_exhausted_quota_is_507(self, name: str, status: int, code: str) -> None:
        with ScriptedS3(answer(status, code)) as fake, pytest.raises(BackendFull) as caught:
            OPERATIONS[name](backend_at(fake.url))
        assert caught.value.code == 507


class TestRefusals:
    """A refusal is never reported as a missing file, and its remedy says what to do."""

    @EVERY_OPERATION
    def test_a_403_is_502_and_names_the_permissions(self, operation: Operation) -> None:
        with ScriptedS3(answer(403, "AccessDenied")) as fake, pytest.raises(BackendRefused) as caught:
            operation(backend_at(fake.url))
        assert caught.value.code == 502
        for permission in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"):
            assert permission in str(caught.value)
        # A refused request is not repeated, except that an answer to HEAD cannot give the reason.
        assert [request.method for request in fake.requests] in (["HEAD", "GET"], [fake.requests[0].method])

    @EVERY_OPERATION
    def test_a_missing_bucket_is_not_an_empty_one(self, s3_server: S3Server, operation: Operation) -> None:
        with pytest.raises(BackendRefused, match=r"Create the bucket, or correct bucket\.") as caught:
            operation(backend_at(s3_server.url, bucket="no-such-bucket"))
        assert not isinstance(caught.value, FileMissing)

    def test_a_bucket_that_vanishes_is_not_an_empty_one(self, s3_server: S3Server) -> None:
        client, bucket = s3_server.client(), f"vanishing-{secrets.token_hex(4)}"
        client.create_bucket(Bucket=bucket)
        backend = backend_at(s3_server.url, bucket=bucket)
        assert backend.stat("a.png") is None
        client.delete_bucket(Bucket=bucket)
        with pytest.raises(BackendRefused):
            backend.stat("a.png")

    @EVERY_OPERATION
    @pytest.mark.parametrize(("status", "code"), [(301, "PermanentRedirect"), (400, "AuthorizationHeaderMalformed")])
    def test_a_wrong_region_is_refused_with_the_right_one(self, operation: Operation, status: int, code: str) -> None:
        elsewhere = answer(status, code, x_amz_bucket_region="eu-west-3")
        with ScriptedS3(elsewhere) as fake, pytest.raises(BackendRefused) as caught:
            operation(backend_at(fake.url, region="us-west-2"))
        problem = caught.value.problem
        assert problem.message == "The bucket is in the region eu-west-3, not us-west-2."
        assert (problem.remedy, problem.setting) == ("Set region to eu-west-3.", "region")
        assert len(fake.requests) == 1

    @OBJECT_OPERATIONS
    def test_an_unknown_access_key_is_reported(self, s3_server: S3Server, operation: Operation) -> None:
        with pytest.raises(BackendRefused, match=r"InvalidAccessKeyId.*Correct access_key_id\."):
            operation(backend_at(s3_server.url, access_key_id="nobody"))

    @OBJECT_OPERATIONS
    def test_a_wrong_secret_is_reported(self, s3_server: S3Server, operation: Operation) -> None:
        with pytest.raises(BackendRefused, match=r"SignatureDoesNotMatch.*Correct secret_access_key\."):
            operation(backend_at(s3_server.url, secret_access_key="wrong"))

    def test_a_wrong_secret_is_not_a_missing_file_for_stat(self, s3_server: S3Server) -> None:
        with pytest.raises(BackendRefused):
            backend_at(s3_server.url, secret_access_key="wrong").stat("a.png")

    @OBJECT_OPERATIONS
    def test_a_wrong_clock_is_reported(self, operation: Operation) -> None:
        with (
            ScriptedS3(answer(403, "RequestTimeTooSkewed")) as fake,
            pytest.raises(BackendRefused, match="clock of this machine"),
        ):
            operation(backend_at(fake.url))

    def test_missing_credentials_are_502_and_name_the_settings(self, s3_server: S3Server) -> None:
        nobody = backend_at(s3_server.url, access_key_id=None, secret_access_key=None)
        with pytest.raises(
            BackendRefused, match="Set access_key_id and secret_access_key, or give this machine a role"
        ):
            nobody.url("a.png", signed_at=0, expires_in=60)
        for operation in OPERATIONS.values():
            with pytest.raises(
                BackendRefused, match="Set access_key_id and secret_access_key, or give this machine a role"
            ):
                operation(nobody)

    @pytest.mark.parametrize(
        ("uploads", "config", "variables"),
        [
            ("uploads", {"UPLOADS_S3_BUCKET": "no-such-bucket"}, ("UPLOADS_S3_BUCKET", "UPLOADS_S3_REGION")),
            ("uploads", {"S3_BUCKET_NAME": "no-such-bucket", "AWS_REGION": "x"}, ("S3_BUCKET_NAME", "AWS_REGION")),
            ("documents", {"DOCUMENTS_S3_BUCKET": "no-such-bucket"}, ("DOCUMENTS_S3_BUCKET", "DOCUMENTS_S3_REGION")),
            ("documents", {"BUCKET_NAME": "no-such-bucket"}, ("BUCKET_NAME", "DOCUMENTS_S3_REGION")),
        ],
    )
    def test_the_remedy_names_the_variable_as_the_user_set_it(
        self, s3_server: S3Server, tmp_path: Path, uploads: str, config: dict[str, str], variables: tuple[str, str]
    ) -> None:
        bucket, region = variables
        elsewhere = answer(301, "PermanentRedirect", x_amz_bucket_region="eu-west-3")
        with ScriptedS3(in_turn(forward(s3_server.url), elsewhere)) as fake:
            given = {"AWS_ENDPOINT_URL": fake.url, "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID}
            environ = {**given, "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY}
            reading = backends.read_settings(config, environ, uploads=uploads)
            backend = backends.build(backends.choose(reading), reading.settings, environ={}, instance_path=tmp_path)
            with pytest.raises(BackendRefused) as missing:
                backend.open("a.png")
            with pytest.raises(BackendRefused) as misplaced:
                backend.open("a.png")
        assert missing.value.problem.remedy == f"Create the bucket, or correct {bucket}."
        assert (missing.value.setting, missing.value.service_code) == (bucket, "NoSuchBucket")
        assert misplaced.value.problem.remedy == f"Set {region} to eu-west-3."
        assert (misplaced.value.setting, misplaced.value.service_code) == (region, "PermanentRedirect")


class TestSecrets:
    SECRETS = (SECRET_ACCESS_KEY, "the-session-token", "X-Amz-Signature", "Signature=")
    FAILURES: tuple[Behaviour, ...] = (
        answer(403, "AccessDenied"),
        answer(400, "ExpiredToken"),
        answer(301, "PermanentRedirect", x_amz_bucket_region="eu-west-3"),
        close(),
    )

    @EVERY_OPERATION
    def test_no_error_repeats_a_secret_or_a_signature(self, operation: Operation) -> None:
        for failure in self.FAILURES:
            with ScriptedS3(failure) as fake, pytest.raises(BackendError) as caught:
                operation(backend_at(fake.url, session_token="the-session-token"))
            error = caught.value
            told = [str(error), repr(error), str(error.problem.as_json()), error.get_response().get_data(as_text=True)]
            told += traceback.format_exception_only(error.__cause__ or error)
            assert not [secret for secret in self.SECRETS if secret in "\n".join(told)]

    def test_a_password_in_the_endpoint_is_never_shown(self) -> None:
        backend = backend_at(f"http://user:hunter2@127.0.0.1:{free_ports(1)[0]}", timeout=3)
        with pytest.raises(BackendError) as caught:
            backend.stat("a.png")
        assert "hunter2" not in str(caught.value) + repr(caught.value)
        assert "hunter2" not in str(backend) + repr(backend)

    def test_the_backend_does_not_show_its_secrets(self) -> None:
        backend = backend_at(None, session_token="the-session-token")
        shown = f"{backend} {backend!r} {vars(backend)!r} {backend._boto3.credentials()!r}"
        assert BUCKET in shown
        assert not [secret for secret in self.SECRETS if secret in shown]

    def test_no_log_line_has_a_secret_or_a_signed_url(
        self, s3_server: S3Server, make_app: MakeApp, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, logger="flask_persistent_uploads")
        uploads = Uploads()
        with ScriptedS3(in_turn(forward(s3_server.url), answer(403, "AccessDenied"))) as fake:
            app = make_app(uploads, **s3_server.environment(UPLOADS_S3_ENDPOINT_URL=fake.url))
            with app.app_context():
                path = uploads.save(PNG, filename="a.png")
                assert "X-Amz-Signature" in app.test_client().get(f"/{path}").location
                with pytest.raises(BackendRefused):
                    uploads.save(PNG, filename="b.png")
        lines = [record for record in caplog.records if record.name == "flask_persistent_uploads"]
        assert len(lines) >= 2
        text = "\n".join(f"{record.getMessage()} {record.exc_text}" for record in lines)
        assert not [secret for secret in (*self.SECRETS, "X-Amz-") if secret in text]


def test_calls_that_fail_leak_neither_threads_nor_descriptors() -> None:
    def begins_parts(exchange: Exchange) -> bool:
        return exchange.command == "POST" and exchange.path.endswith("?uploads")

    begun = answer(200, body=b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>")
    failing = where(begins_parts, begun, answer(403, "AccessDenied"))

    def counts() -> tuple[int, int]:
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    with ScriptedS3(failing) as fake, ScriptedS3(half(b"x" * 200_000, then=Exchange.hang_up)) as short:
        backend, breaking = backend_at(fake.url), backend_at(short.url)

        def fail(times: int) -> None:
            for _ in range(times):
                for operation in OPERATIONS.values():
                    with pytest.raises(BackendRefused):
                        operation(backend)
                with breaking.open("a.png") as stream, pytest.raises(BackendUnavailable):
                    stream.read()

        fail(1)
        before = settled(counts)
        fail(3)
        after = settled(counts)
    assert after[0] <= before[0]
    assert after[1] <= before[1]


def settled(counts: Callable[[], tuple[int, int]]) -> tuple[int, int]:
    """Return the counts as soon as they are stable: the threads of the fakes end a moment after their connections."""
    seen = [counts()]
    while len(seen) < 5 or len(set(seen[-5:])) > 1:
        time.sleep(0.05)
        seen.append(counts())
    return seen[-1]


class TestWhatIsStored:
    def test_no_acl_is_ever_sent(self, s3_server: S3Server, key: str) -> None:
        with ScriptedS3(forward(s3_server.url)) as fake:
            save(backend_at(fake.url), key)
            save(backend_at(fake.url), f"{key}/large", LARGE)
        assert len(fake.requests) >= 6
        sent = {name.lower() for request in fake.requests for name in request.headers}
        assert "x-amz-content-sha256" in sent
        assert not {name for name in sent if name.startswith(("x-amz-acl", "x-amz-grant"))}

    @pytest.mark.parametrize("filename", ["a.svg", "page.html", "page.htm", "a.xhtml", "a.js", "a.xml", "noname"])
    def test_a_type_that_can_hold_scripts_is_stored_as_a_download(
        self, s3_server: S3Server, make_app: MakeApp, filename: str
    ) -> None:
        content = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
        sent, head = self.store(s3_server, make_app, content, filename)
        assert sent["Content-Type"] == "application/octet-stream"  # the server stores its own guess instead
        assert head["ContentDisposition"].startswith("attachment")

    def test_a_picture_is_stored_with_its_own_type(self, s3_server: S3Server, make_app: MakeApp) -> None:
        sent, head = self.store(s3_server, make_app, PNG, "a.png")
        assert sent["Content-Type"] == head["ContentType"] == "image/png"
        assert "ContentDisposition" not in head

    @staticmethod
    def store(server: S3Server, make_app: MakeApp, content: bytes, filename: str) -> tuple[Mapping[str, str], Any]:
        """Return the headers that were sent with the object, and those with which the real server answers."""
        uploads = Uploads()
        with ScriptedS3(forward(server.url)) as fake:
            app = make_app(uploads, **server.environment(UPLOADS_S3_ENDPOINT_URL=fake.url))
            with app.app_context():
                path = uploads.save(content, filename=filename)
        return fake.requests[0].headers, server.client().head_object(Bucket=BUCKET, Key=path)

    def test_a_file_of_one_request_keeps_its_sha256(self, s3_server: S3Server, backend: S3Backend, key: str) -> None:
        save(backend, key, b"content")
        head = s3_server.client().head_object(Bucket=BUCKET, Key=f"uploads/{key}")
        stat = backend.stat(key)
        assert stat is not None
        assert head["Metadata"] == {"sha256": stat.sha256} == {"sha256": hashlib.sha256(b"content").hexdigest()}
        assert head["CacheControl"] == "private, max-age=31536000, immutable"

    def test_entries_skip_folder_markers_and_the_objects_of_others(self, s3_server: S3Server) -> None:
        client, prefix = s3_server.client(), f"p{secrets.token_hex(4)}"
        mine = backend_at(s3_server.url, prefix=prefix)
        for name in ("folder/", ".uploads/marker", "folder/.uploads-x", "folder/ok.png"):
            client.put_object(Bucket=BUCKET, Key=f"{prefix}/{name}")
        client.put_object(Bucket=BUCKET, Key=f"{prefix}-other/foreign.png")
        assert [entry.key for entry in mine.entries()] == ["folder/ok.png"]

    def test_entries_skip_names_that_are_not_keys_and_load_one_page_at_a_time(self) -> None:
        names = ["", "folder/", "a//b", "../x", "a/./b", "back\\slash", ".uploads/m", "new%0Aline", "ok.png", "b/ok"]
        item = (
            "<Contents><Key>uploads/{}</Key><Size>3</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
        )
        page = "<ListBucketResult><EncodingType>url</EncodingType>{}{}</ListBucketResult>"
        more = "<IsTruncated>true</IsTruncated><NextContinuationToken>2</NextContinuationToken>"
        first = page.format(more, "".join(map(item.format, names)))
        pages = in_turn(answer(200, body=first.encode()), answer(200, body=page.format("", item.format("z")).encode()))
        with ScriptedS3(pages) as fake:
            entries = backend_at(fake.url).entries()
            assert fake.requests == []
            assert [next(entries).key, next(entries).key] == ["ok.png", "b/ok"]
            assert len(fake.requests) == 1
            assert [entry.key for entry in entries] == ["z"]

    def test_two_prefixes_do_not_see_each_other(self, s3_server: S3Server, key: str) -> None:
        one, two = (backend_at(s3_server.url, prefix=f"{secrets.token_hex(4)}") for _ in range(2))
        save(one, key, b"one")
        assert two.stat(key) is None
        assert list(two.entries()) == []
        save(two, key, b"two")
        one.delete(key)
        assert one.stat(key) is None
        assert read(two, key) == b"two"


class TestClients:
    def test_one_client_is_built_for_many_threads(
        self, s3_server: S3Server, key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        built, original = [], boto3.session.Session.client

        def client(*args: Any, **options: Any) -> Any:
            built.append(os.getpid())
            time.sleep(0.05)
            return original(*args, **options)

        monkeypatch.setattr(boto3.session.Session, "client", client)
        backend, barrier = backend_at(s3_server.url), threading.Barrier(16)

        def look(_: int) -> None:
            barrier.wait()
            assert backend.stat(key) is None

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(look, range(16)))
        assert built == [os.getpid()]


class TestAddresses:
    PRESETS = (
        (None, "eu-west-1", "bucket", "eu-west-1", "https://bucket.s3.eu-west-1.amazonaws.com/"),
        (None, None, "bucket", "us-east-1", "https://bucket.s3.us-east-1.amazonaws.com/"),
        (None, "eu-west-1", "my.bucket", "eu-west-1", "https://s3.eu-west-1.amazonaws.com/my.bucket/"),
        (None, "cn-north-1", "bucket", "cn-north-1", "https://bucket.s3.cn-north-1.amazonaws.com.cn/"),
        (None, "eusc-de-east-1", "bucket", "eusc-de-east-1", "https://bucket.s3.eusc-de-east-1.amazonaws.eu/"),
        (None, "us-gov-west-1", "bucket", "us-gov-west-1", "https://bucket.s3.us-gov-west-1.amazonaws.com/"),
        ("https://s3.eu-west-3.amazonaws.com", None, "b1b", "eu-west-3", "https://b1b.s3.eu-west-3.amazonaws.com/"),
        ("https://0a1b.r2.cloudflarestorage.com", None, "b1b", "auto", "https://0a1b.r2.cloudflarestorage.com/b1b/"),
        (
            "https://0a1b.eu.r2.cloudflarestorage.com",
            "us-east-1",
            "b1b",
            "auto",
            "https://0a1b.eu.r2.cloudflarestorage.com/b1b/",
        ),
        (
            "https://s3.us-west-004.backblazeb2.com",
            None,
            "b1b",
            "us-west-004",
            "https://s3.us-west-004.backblazeb2.com/b1b/",
        ),
        ("https://fra1.digitaloceanspaces.com", None, "b1b", "fra1", "https://b1b.fra1.digitaloceanspaces.com/"),
        ("https://fly.storage.tigris.dev", None, "b1b", "auto", "https://b1b.fly.storage.tigris.dev/"),
        ("https://t3.storage.dev", None, "b1b", "auto", "https://b1b.t3.storage.dev/"),
        (
            "https://s3.eu-central-1.wasabisys.com",
            None,
            "b1b",
            "eu-central-1",
            "https://s3.eu-central-1.wasabisys.com/b1b/",
        ),
        ("http://localhost:9000", None, "b1b", "us-east-1", "http://localhost:9000/b1b/"),
        ("https://minio.example.com", "home", "b1b", "home", "https://minio.example.com/b1b/"),
    )

    @pytest.mark.parametrize(
        ("endpoint", "given", "bucket", "region", "base"), PRESETS, ids=[preset[-1] for preset in PRESETS]
    )
    def test_urls_and_uploads_use_the_addressing_of_the_service(
        self, endpoint: str | None, given: str | None, bucket: str, region: str, base: str
    ) -> None:
        backend = backend_at(endpoint, region=given, bucket=bucket)
        url = backend.url("a b.png", signed_at=int(time.time()), expires_in=60)
        assert backend.region == region
        assert url.startswith(f"{base}uploads/a%20b.png?")
        assert f"%2F{region}%2Fs3%2Faws4_request" in url
        asked = {"Bucket": bucket, "Key": "uploads/a b.png"}
        theirs = urlsplit(backend.client().generate_presigned_url("get_object", Params=asked))
        ours = urlsplit(url)
        assert (theirs.scheme, theirs.netloc, theirs.path) == (ours.scheme, ours.netloc, ours.path)
        assert parse_qs(theirs.query)["X-Amz-Credential"] == parse_qs(ours.query)["X-Amz-Credential"]

    def test_the_public_endpoint_is_used_only_for_urls(self, s3_server: S3Server, key: str) -> None:
        backend = backend_at(s3_server.url, public_endpoint_url="https://files.example.com")
        save(backend, key)
        assert read(backend, key) == SMALL
        url = backend.url(key, signed_at=int(time.time()), expires_in=60)
        assert url.startswith(f"https://files.example.com/{BUCKET}/uploads/{key}?")

    def test_a_public_url_links_inline_files_unsigned_and_the_others_signed(self, make_app: MakeApp) -> None:
        uploads = Uploads()
        app = make_app(
            uploads,
            UPLOADS_S3_BUCKET="bucket",
            UPLOADS_S3_ACCESS_KEY_ID=ACCESS_KEY_ID,
            UPLOADS_S3_SECRET_ACCESS_KEY=SECRET_ACCESS_KEY,
            UPLOADS_PUBLIC_URL="https://cdn.example.com/",
        )
        client = app.test_client()
        assert client.get("/uploads/a%20b.png").location == "https://cdn.example.com/uploads/a%20b.png"
        for name in ("a.svg", "a.html", "a.zip", "noname"):
            signed = client.get(f"/uploads/{name}").location
            assert signed.startswith(f"https://bucket.s3.us-east-1.amazonaws.com/uploads/{name}?")
            assert "response-content-disposition=attachment" in signed
            assert "X-Amz-Signature=" in signed

    def test_temporary_credentials_limit_how_long_a_url_works(self, tmp_path: Path) -> None:
        end = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(hours=2)
        token = "a/session+token=="
        given = {"Version": 1, "AccessKeyId": "ASIA1", "SecretAccessKey": "s", "SessionToken": token}
        (tmp_path / "keys.json").write_text(json.dumps({**given, "Expiration": end.isoformat()}))
        (tmp_path / ".aws").mkdir()
        (tmp_path / ".aws/config").write_text(f"[default]\ncredential_process = cat {tmp_path}/keys.json\n")
        backend = backend_at(None, access_key_id=None, secret_access_key=None)
        url = backend.url("a.png", signed_at=int(time.time()), expires_in=60)
        assert backend.valid_until() == end.timestamp()
        assert parse_qs(urlsplit(url).query)["X-Amz-Security-Token"] == [token]

    def test_static_credentials_never_expire(self) -> None:
        assert backend_at(None).valid_until() is None
