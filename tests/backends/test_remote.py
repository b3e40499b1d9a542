"""What the backends that reach a service over a network share."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import urllib3
from urllib3 import exceptions

from flask_persistent_uploads.backends import remote
from flask_persistent_uploads.errors import (
    BackendError,
    BackendFull,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
    FileExists,
    TypeNotAllowed,
    UploadRejected,
    WrongLength,
)

from ..servers import free_ports

CONTENT = bytes(range(256)) * 4000


class TestPerProcess:
    def test_many_threads_share_one_object(self) -> None:
        def build() -> object:
            time.sleep(0.05)
            built.append(os.getpid())
            return object()

        built: list[int] = []
        one, barrier = remote.PerProcess(build), threading.Barrier(16)

        def get(_: int) -> object:
            barrier.wait()
            return one.get()

        with ThreadPoolExecutor(16) as pool:
            got = set(pool.map(get, range(16)))
        assert len(got) == 1
        assert built == [os.getpid()]

    def test_a_child_builds_its_own_object_even_if_it_was_forked_while_the_parent_was_building(self) -> None:
        begun, go_on = threading.Event(), threading.Event()

        def build() -> int:
            if os.getpid() == parent:
                begun.set()
                go_on.wait(10)
            return os.getpid()

        parent, one = os.getpid(), remote.PerProcess(build)
        builder = threading.Thread(target=one.get)
        builder.start()
        begun.wait(10)
        assert holds_in_child(lambda: one.get() == os.getpid())
        go_on.set()
        builder.join()
        assert one.get() == parent
        assert holds_in_child(lambda: one.get() == os.getpid() == one.get())
        assert one.get() == parent

    def test_a_build_that_failed_is_tried_again(self) -> None:
        def build() -> str:
            return results.pop()() if results else "built"

        def fail() -> str:
            raise BackendRefused("scripted")

        results: list[Callable[[], str]] = [fail]
        one = remote.PerProcess(build)
        with pytest.raises(BackendRefused):
            one.get()
        assert one.get() == "built"


def holds_in_child(condition: Callable[[], bool]) -> bool:
    """Return whether a condition holds in a forked child. A child that says nothing for ten seconds is killed."""
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if condition() else 1
        finally:
            os._exit(code)
    for _ in range(1000):
        done, code = os.waitpid(child, os.WNOHANG)
        if done:
            return code == 0
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return False


class TestCallWithDeadline:
    def test_the_result_of_the_call_is_returned(self) -> None:
        assert remote.call_with_deadline(5, lambda: "answer") == "answer"
        assert remote.call_with_deadline(5, lambda: None) is None

    @pytest.mark.parametrize("error", [BackendRefused("scripted"), KeyError("x"), SystemExit(3)])
    def test_the_error_of_the_call_is_raised_to_the_caller(self, error: BaseException) -> None:
        def call() -> None:
            raise error

        with pytest.raises(type(error)) as caught:
            remote.call_with_deadline(5, call)
        assert caught.value is error

    def test_a_call_that_takes_too_long_is_given_up_in_time(self) -> None:
        release, begun = threading.Event(), time.monotonic()
        with pytest.raises(BackendTimeout) as caught:
            remote.call_with_deadline(0.3, lambda: release.wait(10), "a.png")
        assert 0.3 <= time.monotonic() - begun < 1
        assert (caught.value.code, caught.value.key, caught.value.nothing_stored) == (504, "a.png", False)
        release.set()

    def test_simultaneous_calls_do_not_wait_for_each_other(self) -> None:
        begun = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            waits = [pool.submit(remote.call_with_deadline, 5.0, lambda: time.sleep(0.2)) for _ in range(8)]
            assert [wait.result() for wait in waits] == [None] * 8
        assert time.monotonic() - begun < 1


class TestReadThrough:
    @pytest.mark.parametrize("start", [0, 7])
    def test_it_digests_the_rest_of_a_stream_and_restores_its_position(self, start: int) -> None:
        stream = io.BytesIO(CONTENT)
        stream.seek(start)
        digests = remote.read_through("a", stream, len(CONTENT) - start)
        assert digests.md5.digest() == hashlib.md5(CONTENT[start:]).digest()
        assert digests.sha256.digest() == hashlib.sha256(CONTENT[start:]).digest()
        assert stream.tell() == start

    @pytest.mark.parametrize("difference", [-1, 1])
    def test_another_length_is_refused_with_both_lengths(self, difference: int) -> None:
        declared = len(CONTENT) + difference
        with pytest.raises(WrongLength, match=f"{len(CONTENT)} bytes, but {declared} were declared") as caught:
            remote.read_through("a", io.BytesIO(CONTENT), declared)
        assert caught.value.key == "a"

    def test_the_stream_is_read_in_pieces(self) -> None:
        class Counting(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                assert size == remote.PIECE
                return super().read(size)

        remote.read_through("a", Counting(CONTENT), len(CONTENT))


class TestStreamTail:
    def test_it_begins_at_the_position_of_the_stream(self) -> None:
        stream = io.BytesIO(b"skipped" + b"content")
        stream.seek(7)
        tail = remote.StreamTail(stream)
        assert tail.tell() == 0
        assert tail.read(-1) == b"content"
        assert tail.tell() == 7
        assert tail.seek(0) == 0
        assert tail.read() == b"content"
        assert tail.seek(3) == 3
        assert tail.read() == b"tent"
        assert tail.read() == tail.read(10) == b""

    def test_seeking_to_the_end_tells_its_length(self) -> None:
        stream = io.BytesIO(b"skipped" + b"content")
        stream.seek(7)
        tail = remote.StreamTail(stream)
        assert tail.seek(0, io.SEEK_END) == 7
        assert tail.seek(-3, io.SEEK_CUR) == 4
        assert tail.read() == b"ent"

    def test_one_read_returns_at_most_a_piece(self) -> None:
        tail = remote.StreamTail(io.BytesIO(CONTENT))
        pieces = list(iter(lambda: tail.read(1 << 16), b""))
        assert b"".join(pieces) == CONTENT
        assert max(map(len, pieces)) <= remote.PIECE


class TestConnectionError:
    """Whether an error means that the service got nothing, told by the errors that urllib3 really raises."""

    def error_of(self, url: str, *, retries: urllib3.Retry | bool) -> BackendTimeout | BackendUnavailable:
        with urllib3.PoolManager() as pool, pytest.raises(exceptions.HTTPError) as caught:
            pool.request("POST", url, body=b"content", timeout=urllib3.Timeout(0.3), retries=retries)
        return remote.connection_error(caught.value, "a.png")

    @pytest.mark.parametrize("retries", [False, urllib3.Retry(1)])
    def test_a_refused_connection_stored_nothing(self, retries: urllib3.Retry | bool) -> None:
        error = self.error_of(f"http://127.0.0.1:{free_ports(1)[0]}/", retries=retries)
        assert (type(error), error.key, error.nothing_stored) == (BackendUnavailable, "a.png", True)

    def test_an_unknown_host_stored_nothing(self) -> None:
        error = self.error_of("http://nowhere.invalid/", retries=False)
        assert (type(error), error.nothing_stored) == (BackendUnavailable, True)

    def test_a_connection_that_was_not_made_in_time_stored_nothing(self) -> None:
        with contextlib.ExitStack() as stack:
            full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            for _ in range(4):  # they fill its queue, so that no further connection is made
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(full.getsockname())
            error = self.error_of(f"http://127.0.0.1:{full.getsockname()[1]}/", retries=False)
        assert (type(error), error.nothing_stored) == (BackendTimeout, True)

    @pytest.mark.parametrize(("hangs_up", "kind"), [(False, BackendTimeout), (True, BackendUnavailable)])
    def test_a_connection_that_was_made_may_have_stored_the_file(
        self, hangs_up: bool, kind: type[BackendError]
    ) -> None:
        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                if not hangs_up:
                    release.wait(10)

        release = threading.Event()
        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=serve)
            thread.start()
            error = self.error_of(f"http://127.0.0.1:{server.getsockname()[1]}/", retries=False)
            release.set()
            thread.join()
        assert (type(error), error.nothing_stored) == (kind, False)

    @pytest.mark.parametrize("other", [OSError("gone"), exceptions.HTTPError("other"), None])
    def test_any_other_error_leaves_it_in_doubt(self, other: BaseException | None) -> None:
        error = remote.connection_error(other, None)
        assert (type(error), error.nothing_stored) == (BackendUnavailable, False)


def nothing_sent() -> BackendError:
    return remote.unreachable("a", nothing_stored=True)


def no_connection_in_time() -> BackendError:
    return remote.timed_out("a", nothing_stored=True)


class TestSecondAttempt:
    def test_its_result_is_returned(self) -> None:
        assert remote.second_attempt(remote.unreachable("a"), lambda: "stored") == "stored"

    @pytest.mark.parametrize("retry_after", [6, 3600])
    def test_a_service_that_asks_for_a_long_wait_is_not_asked_again(self, retry_after: int) -> None:
        first, calls = remote.unavailable("a", retry_after=retry_after), []
        with pytest.raises(BackendUnavailable) as caught:
            remote.second_attempt(first, lambda: calls.append(1))
        assert caught.value is first
        assert calls == []

    @pytest.mark.parametrize(
        "second",
        [
            nothing_sent(),
            no_connection_in_time(),
            remote.unavailable("a"),
            BackendRefused("scripted"),
            BackendFull("scripted"),
            TypeNotAllowed("scripted"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_a_second_failure_does_not_hide_that_the_first_attempt_may_have_stored_the_file(
        self, second: BackendError | UploadRejected
    ) -> None:
        first = remote.unreachable("a")
        with pytest.raises(BackendUnavailable) as caught:
            remote.second_attempt(first, failing(second))
        assert (caught.value, caught.value.nothing_stored) == (first, False)
        assert caught.value.__cause__ is second

    @pytest.mark.parametrize(
        "second",
        [
            nothing_sent(),
            no_connection_in_time(),
            remote.timed_out("a"),
            remote.unreachable("a"),
            BackendRefused("scripted"),
            FileExists("a"),
        ],
        ids=lambda error: f"{type(error).__name__}-{error.nothing_stored}",
    )
    def test_after_a_first_attempt_that_sent_nothing_the_second_failure_counts(self, second: BackendError) -> None:
        with pytest.raises(type(second)) as caught:
            remote.second_attempt(remote.unreachable("a", nothing_stored=True), failing(second))
        assert caught.value is second

    @pytest.mark.parametrize("second", [FileExists("a"), remote.timed_out("a")], ids=["exists", "timeout"])
    def test_a_file_that_exists_and_a_missing_answer_are_passed_on(self, second: BackendError) -> None:
        with pytest.raises(type(second)) as caught:
            remote.second_attempt(remote.unreachable("a"), failing(second))
        assert caught.value is second


def failing(error: Exception) -> Callable[[], object]:
    def call() -> object:
        raise error

    return call


class TestMessages:
    ODD = "a: \"b\" 'c'\n{d} → e.png"

    def test_an_altered_file_that_was_deleted_leaves_nothing_behind(self) -> None:
        deleted: list[int] = []
        error = remote.discard_altered_upload("a", "Cloudinary", lambda: deleted.append(1))
        assert (deleted, error.orphans, error.key) == ([1], (), "a")
        assert error.message.endswith("alters uploads.")
        assert error.remedy.startswith("Turn that setting off")

    def test_an_altered_file_that_could_not_be_deleted_is_named(self) -> None:
        reason = remote.unreachable("a")
        error = remote.discard_altered_upload(self.ODD, "Cloudinary", failing(reason))
        assert error.orphans == (self.ODD,)
        assert error.__cause__ is reason
        assert str(error).startswith(str(error.problem))

    def test_the_sentence_for_visitors_gets_the_name_of_the_file_as_it_is(self) -> None:
        with pytest.raises(TypeNotAllowed) as caught, remote.name_rejected_file(self.ODD):
            raise TypeNotAllowed("Files of this type are not accepted.")
        assert caught.value.filename == self.ODD
        assert caught.value.description == f"'{self.ODD}' was rejected. Files of this type are not accepted."

    def test_a_full_store_keeps_the_code_of_the_service(self) -> None:
        error = remote.full("a", service_code="QuotaExceeded")
        assert (error.code, error.service_code, error.remedy.endswith("larger plan.")) == (507, "QuotaExceeded", True)

    @pytest.mark.parametrize(
        "error", [remote.timed_out("k"), remote.unreachable("k"), remote.unavailable("k", status=503), remote.full("k")]
    )
    def test_a_visitor_reads_neither_key_nor_reason(self, error: BackendError) -> None:
        assert error.key == "k"
        assert error.message not in str(error.description)
        assert "Please try again later." in str(error.description)
