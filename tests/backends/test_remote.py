"""What the backends over a network share, against servers on loopback that go wrong."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from flask_persistent_uploads.backends import remote
from flask_persistent_uploads.errors import (
    BackendError,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
    FileMissing,
    WrongLength,
)

from ..fakes.service import Answer, FakeService, Request, content, cut, hang_up, silent, status
from ..servers import free_ports

CONTENT = bytes(range(256)) * 4000
SECRET = "ik-s=0123456789abcdef"


class Files(FakeService):
    """Hands out one file, at the end of as many redirects as are asked for."""

    def handle(self, request: Request) -> Answer:
        left = int(request.query.get("redirects", 0))
        if left:
            return Answer(302, headers={"Location": f"{self.url}/file?redirects={left - 1}&{SECRET}"})
        if request.path != "/file":
            return Answer(404, b"Not Found")
        return content(request, CONTENT, "image/png")


@pytest.fixture
def files() -> Iterator[Files]:
    with Files() as files:
        yield files


def not_there(key: str) -> None:
    """What the backend's own stat says."""


def download(files: Files, *, path: str = "/file?", timeout: float = 5) -> bytes:
    with remote.download("a.png", f"{files.url}{path}&{SECRET}", timeout=timeout, stat=not_there) as stream:
        return stream.read()


class TestPerProcess:
    def test_many_threads_share_what_is_built_once(self) -> None:
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

    def test_a_child_builds_its_own_even_if_the_fork_came_while_its_parent_was_building(self) -> None:
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
        assert in_child(lambda: one.get() == os.getpid())
        go_on.set()
        builder.join()
        assert one.get() == parent
        assert in_child(lambda: one.get() == os.getpid() == one.get())
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


def in_child(holds: Callable[[], bool]) -> bool:
    """Whether something holds in a forked child, which has ten seconds to say so."""
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if holds() else 1
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


class TestWithin:
    def test_the_answer_of_the_call_is_the_answer(self) -> None:
        assert remote.within(5, lambda: "answer") == "answer"
        assert remote.within(5, lambda: None) is None

    @pytest.mark.parametrize("error", [BackendRefused("scripted"), KeyError("x"), SystemExit(3)])
    def test_the_error_of_the_call_is_raised_where_it_is_waited_for(self, error: BaseException) -> None:
        def call() -> None:
            raise error

        with pytest.raises(type(error)) as caught:
            remote.within(5, call)
        assert caught.value is error

    def test_a_call_that_takes_longer_is_given_up_in_time(self) -> None:
        release, begun = threading.Event(), time.monotonic()
        with pytest.raises(BackendTimeout) as caught:
            remote.within(0.3, lambda: release.wait(10))
        assert 0.3 <= time.monotonic() - begun < 1
        assert caught.value.code == 504
        release.set()

    def test_calls_side_by_side_do_not_wait_for_each_other(self) -> None:
        begun = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            waits = [pool.submit(remote.within, 5.0, lambda: time.sleep(0.2)) for _ in range(8)]
            assert [wait.result() for wait in waits] == [None] * 8
        assert time.monotonic() - begun < 1


class TestReadThrough:
    @pytest.mark.parametrize("start", [0, 7])
    def test_it_gives_both_digests_of_what_is_left_and_the_stream_stands_where_it_stood(self, start: int) -> None:
        stream = io.BytesIO(CONTENT)
        stream.seek(start)
        digests = remote.read_through("a", stream, len(CONTENT) - start)
        assert digests.md5.digest() == hashlib.md5(CONTENT[start:]).digest()
        assert digests.sha256.digest() == hashlib.sha256(CONTENT[start:]).digest()
        assert stream.tell() == start

    @pytest.mark.parametrize("off", [-1, 1])
    def test_another_length_is_refused_with_both_lengths(self, off: int) -> None:
        said = len(CONTENT) + off
        with pytest.raises(WrongLength, match=f"{len(CONTENT)} bytes where {said}") as caught:
            remote.read_through("a", io.BytesIO(CONTENT), said)
        assert caught.value.key == "a"

    def test_the_stream_is_read_in_pieces(self) -> None:
        class Counting(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                assert size == remote.PIECE
                return super().read(size)

        remote.read_through("a", Counting(CONTENT), len(CONTENT))


class TestRest:
    def test_it_begins_where_the_stream_stood(self) -> None:
        stream = io.BytesIO(b"skipped" + b"content")
        stream.seek(7)
        rest = remote.Rest(stream)
        assert rest.tell() == 0
        assert rest.read(-1) == b"content"
        assert rest.tell() == 7
        assert rest.seek(0) == 0
        assert rest.read() == b"content"
        assert rest.seek(3) == 3
        assert rest.read() == b"tent"
        assert rest.read() == rest.read(10) == b""

    def test_its_length_can_be_asked_for(self) -> None:
        stream = io.BytesIO(b"skipped" + b"content")
        stream.seek(7)
        rest = remote.Rest(stream)
        assert rest.seek(0, io.SEEK_END) == 7
        assert rest.seek(-3, io.SEEK_CUR) == 4
        assert rest.read() == b"ent"

    def test_it_hands_on_no_more_than_a_piece_at_a_time(self) -> None:
        rest = remote.Rest(io.BytesIO(CONTENT))
        pieces = list(iter(lambda: rest.read(1 << 16), b""))
        assert b"".join(pieces) == CONTENT
        assert max(map(len, pieces)) <= remote.PIECE


def serve_once(answer: bytes) -> contextlib.AbstractContextManager[str]:
    """The url of a server that says just these bytes to whoever asks, and closes the connection."""

    @contextlib.contextmanager
    def serving() -> Iterator[str]:
        def run() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(65_536)
                        connection.sendall(answer)

        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=run)
            thread.start()
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/file?{SECRET}"
            listener.shutdown(socket.SHUT_RDWR)
        thread.join()

    return serving()


class TestDownload:
    def test_it_gives_the_file(self, files: Files) -> None:
        assert download(files) == CONTENT

    def test_it_can_be_read_in_pieces_and_seen_to_be_readable_only(self, files: Files) -> None:
        with remote.download("a.png", f"{files.url}/file", timeout=5, stat=not_there) as stream:
            pieces = list(iter(lambda: stream.read(10_001), b""))
            assert stream.readable()
            assert not stream.writable()
        assert b"".join(pieces) == CONTENT
        assert {len(piece) for piece in pieces[:-1]} == {10_001}
        assert stream.closed

    def test_one_that_was_not_read_to_its_end_spoils_none_that_follows(self, files: Files) -> None:
        for _ in range(20):
            with remote.download("a.png", f"{files.url}/file", timeout=5, stat=not_there) as stream:
                assert stream.read(10) == CONTENT[:10]
        assert download(files) == CONTENT

    @pytest.mark.parametrize("redirects", [1, 3])
    def test_a_redirect_is_followed(self, files: Files, redirects: int) -> None:
        assert download(files, path=f"/file?redirects={redirects}") == CONTENT

    def test_redirects_without_end_are_an_outage(self, files: Files) -> None:
        with pytest.raises(BackendUnavailable):
            download(files, path="/file?redirects=9")
        assert len(files.requests) < 6

    def test_a_404_is_a_missing_file(self, files: Files) -> None:
        with pytest.raises(FileMissing) as caught:
            download(files, path="/other?")
        assert caught.value.key == "a.png"

    @pytest.mark.parametrize("code", [400, 401, 403, 410, 206, 204])
    def test_any_other_answer_is_a_refusal_and_never_a_missing_file(self, files: Files, code: int) -> None:
        files.fail(status(code))
        with pytest.raises(BackendRefused, match=str(code)) as caught:
            download(files)
        assert caught.value.code == 502

    @pytest.mark.parametrize("code", [420, 429, 500, 502, 503])
    @pytest.mark.parametrize(("header", "seconds"), [("17", 17), ("", 5), ("Wed, 21 Oct 2026 07:28:00 GMT", 5)])
    def test_a_service_that_is_busy_or_broken_is_503_with_its_own_time_to_wait(
        self, files: Files, code: int, header: str, seconds: int
    ) -> None:
        files.fail(status(code, headers={"Retry-After": header}))
        with pytest.raises(BackendUnavailable) as caught:
            download(files)
        assert caught.value.retry_after == seconds
        assert len(files.requests) == 1

    @pytest.mark.parametrize("pieces", [-1, 1000, 65_536, 1 << 20])
    def test_one_that_breaks_off_raises_and_never_looks_complete(self, files: Files, pieces: int) -> None:
        files.fail(cut)
        with (
            remote.download("a.png", f"{files.url}/file", timeout=5, stat=not_there) as stream,
            pytest.raises(BackendUnavailable) as caught,
        ):
            list(iter(lambda: stream.read(pieces), b""))
        assert caught.value.key == "a.png"

    def test_one_in_chunks_that_breaks_off_raises_too(self) -> None:
        half = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n"
        with (
            serve_once(half) as url,
            remote.download("a", url, timeout=5, stat=not_there) as stream,
            pytest.raises(BackendUnavailable),
        ):
            stream.read()
        with serve_once(half + b"0\r\n\r\n") as url, remote.download("a", url, timeout=5, stat=not_there) as stream:
            assert stream.read() == b"12345678"

    def test_a_connection_that_was_closed_is_opened_again(self, files: Files) -> None:
        files.fail(hang_up)
        assert download(files) == CONTENT

    def test_connections_that_are_closed_each_time_are_an_outage(self, files: Files) -> None:
        files.fail(hang_up, times=99)
        with pytest.raises(BackendUnavailable):
            download(files)
        assert len(files.requests) <= 3

    def test_a_silent_service_is_504_in_time(self, files: Files) -> None:
        files.fail(silent, times=9)
        begun = time.monotonic()
        with pytest.raises(BackendTimeout):
            download(files, timeout=1)
        assert time.monotonic() - begun < 2

    def test_a_refusal_whose_body_comes_a_byte_at_a_time_is_told_in_time(self, files: Files) -> None:
        files.fail(lambda service, request: Answer(503, b"x" * 30, {"X-Drip": "0.2"}))
        begun = time.monotonic()
        with pytest.raises(BackendUnavailable):
            download(files, timeout=1)
        assert time.monotonic() - begun < 2

    def test_nobody_listening_is_503(self) -> None:
        with pytest.raises(BackendUnavailable) as caught:
            remote.download("a.png", f"http://127.0.0.1:{free_ports(1)[0]}/file?{SECRET}", timeout=3, stat=not_there)
        assert caught.value.key == "a.png"

    def test_what_is_no_http_is_503(self) -> None:
        with serve_once(b"SSH-2.0-OpenSSH_9.7\r\n") as url, pytest.raises(BackendUnavailable):
            remote.download("a.png", url, timeout=3, stat=not_there)

    @pytest.mark.parametrize("fault", ["404", "403", "500", "hang up", "silent", "cut", "redirects", "nobody"])
    def test_the_url_is_in_no_error_and_in_no_log(
        self, files: Files, caplog: pytest.LogCaptureFixture, fault: str
    ) -> None:
        faults = {"403": status(403), "500": status(500), "hang up": hang_up, "silent": silent, "cut": cut}
        if fault in faults:
            files.fail(faults[fault], times=9)
        paths = {"404": "/other?", "redirects": "/file?redirects=9"}
        url = f"http://127.0.0.1:{free_ports(1)[0]}" if fault == "nobody" else files.url
        with caplog.at_level(logging.INFO), pytest.raises(BackendError) as caught:
            remote.download("a.png", f"{url}{paths.get(fault, '/file?')}&{SECRET}", timeout=1, stat=not_there).read()
        error = caught.value
        told = [str(error), repr(error), repr(error.__cause__), "".join(traceback.format_exception(error))]
        assert not [text for text in (*told, caplog.text) if SECRET in text or "ik-s" in text]


def test_the_time_limit_of_a_connection_is_told_from_other_errors() -> None:
    from urllib3 import exceptions

    timeout = exceptions.ReadTimeoutError(None, "/file", "slow")  # type: ignore[arg-type]
    assert remote.is_timeout(timeout)
    assert remote.is_timeout(exceptions.MaxRetryError(None, "/file", timeout))  # type: ignore[arg-type]
    assert not remote.is_timeout(exceptions.MaxRetryError(None, "/file", OSError("gone")))  # type: ignore[arg-type]
    assert not remote.is_timeout(OSError("gone"))
    assert not remote.is_timeout(None)
