"""Downloads from servers on loopback that fail in every way."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from typing import IO

import pytest

from flask_persistent_uploads.backends import downloads
from flask_persistent_uploads.errors import (
    BackendError,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
    FileMissing,
)
from flask_persistent_uploads.stored import Stat

from ..fakes.service import Answer, FakeService, Request, content, cut, hang_up, silent, status
from ..servers import free_ports

CONTENT = bytes(range(256)) * 4000
SECRET = "ik-s=0123456789abcdef"


class Files(FakeService):
    """Delivers one file, after as many redirects as the query asks for."""

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


def not_there(key: str) -> Stat | None:
    """Return what ``stat`` of a backend returns if there is no such file."""
    return None


def refused(status: int) -> BackendRefused:
    return BackendRefused(f"The service refused ({status}).", key="a.png")


def start(url: str, *, timeout: float = 5) -> IO[bytes]:
    return downloads.download("a.png", url, timeout=timeout, stat=not_there, refused=refused)


def download(files: Files, *, path: str = "/file?", timeout: float = 5) -> bytes:
    with start(f"{files.url}{path}&{SECRET}", timeout=timeout) as stream:
        return stream.read()


@contextlib.contextmanager
def raw_server(answer: bytes) -> Iterator[str]:
    """Run a server that answers every request with these bytes and closes the connection; give the URL of a file."""

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


def test_a_download_gives_the_file(files: Files) -> None:
    assert download(files) == CONTENT


def test_a_download_can_be_read_in_pieces_and_not_be_written(files: Files) -> None:
    with start(f"{files.url}/file") as stream:
        pieces = list(iter(lambda: stream.read(10_001), b""))
        assert stream.readable()
        assert not stream.writable()
    assert b"".join(pieces) == CONTENT
    assert {len(piece) for piece in pieces[:-1]} == {10_001}
    assert stream.closed


def test_downloads_that_are_not_read_to_the_end_do_not_disturb_later_ones(files: Files) -> None:
    for _ in range(20):
        with start(f"{files.url}/file") as stream:
            assert stream.read(10) == CONTENT[:10]
    assert download(files) == CONTENT


@pytest.mark.parametrize("redirects", [1, 3])
def test_redirects_are_followed(files: Files, redirects: int) -> None:
    assert download(files, path=f"/file?redirects={redirects}") == CONTENT


def test_endless_redirects_are_an_outage(files: Files) -> None:
    with pytest.raises(BackendUnavailable):
        download(files, path="/file?redirects=9")
    assert len(files.requests) < 6


def test_a_404_is_a_missing_file(files: Files) -> None:
    with pytest.raises(FileMissing) as caught:
        download(files, path="/other?")
    assert caught.value.key == "a.png"


@pytest.mark.parametrize("code", [400, 401, 403, 410, 206, 204])
def test_any_other_status_is_a_refusal_and_never_a_missing_file(files: Files, code: int) -> None:
    files.fail(status(code))
    with pytest.raises(BackendRefused, match=str(code)) as caught:
        download(files)
    assert caught.value.code == 502


@pytest.mark.parametrize("code", [420, 429, 500, 502, 503])
@pytest.mark.parametrize(("header", "seconds"), [("17", 17), ("", 5), ("Wed, 21 Oct 2026 07:28:00 GMT", 5)])
def test_a_busy_or_broken_service_is_503_with_the_wait_that_it_asks_for(
    files: Files, code: int, header: str, seconds: int
) -> None:
    files.fail(status(code, headers={"Retry-After": header}))
    with pytest.raises(BackendUnavailable, match=str(code)) as caught:
        download(files)
    assert caught.value.retry_after == seconds
    assert len(files.requests) == 1


@pytest.mark.parametrize("pieces", [-1, 1000, 65_536, 1 << 20])
def test_a_download_that_breaks_off_raises_and_never_looks_complete(files: Files, pieces: int) -> None:
    files.fail(cut)
    with start(f"{files.url}/file") as stream, pytest.raises(BackendUnavailable) as caught:
        list(iter(lambda: stream.read(pieces), b""))
    assert caught.value.key == "a.png"


def test_a_chunked_download_that_breaks_off_raises_too() -> None:
    half = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n"
    with raw_server(half) as url, start(url) as stream, pytest.raises(BackendUnavailable):
        stream.read()
    with raw_server(half + b"0\r\n\r\n") as url, start(url) as stream:
        assert stream.read() == b"12345678"


def test_a_kept_connection_that_was_closed_is_opened_again(files: Files) -> None:
    files.fail(hang_up)
    assert download(files) == CONTENT


def test_connections_that_are_closed_every_time_are_an_outage(files: Files) -> None:
    files.fail(hang_up, times=99)
    with pytest.raises(BackendUnavailable):
        download(files)
    assert len(files.requests) <= 3


def test_a_silent_service_is_504_in_time(files: Files) -> None:
    files.fail(silent, times=9)
    begun = time.monotonic()
    with pytest.raises(BackendTimeout):
        download(files, timeout=1)
    assert time.monotonic() - begun < 2


def test_a_refusal_whose_body_arrives_slowly_is_reported_in_time(files: Files) -> None:
    files.fail(lambda service, request: Answer(503, b"x" * 30, {"X-Drip": "0.2"}))
    begun = time.monotonic()
    with pytest.raises(BackendUnavailable):
        download(files, timeout=1)
    assert time.monotonic() - begun < 2


def test_a_refused_connection_is_503() -> None:
    with pytest.raises(BackendUnavailable) as caught:
        start(f"http://127.0.0.1:{free_ports(1)[0]}/file?{SECRET}", timeout=3)
    assert caught.value.key == "a.png"


def test_an_answer_that_is_not_http_is_503() -> None:
    with raw_server(b"SSH-2.0-OpenSSH_9.7\r\n") as url, pytest.raises(BackendUnavailable):
        start(url, timeout=3)


@pytest.mark.parametrize("fault", ["404", "403", "500", "hang up", "silent", "cut", "redirects", "refused"])
def test_the_url_is_in_no_error_and_in_no_log(files: Files, caplog: pytest.LogCaptureFixture, fault: str) -> None:
    faults = {"403": status(403), "500": status(500), "hang up": hang_up, "silent": silent, "cut": cut}
    if fault in faults:
        files.fail(faults[fault], times=9)
    paths = {"404": "/other?", "redirects": "/file?redirects=9"}
    url = f"http://127.0.0.1:{free_ports(1)[0]}" if fault == "refused" else files.url
    with caplog.at_level(logging.INFO), pytest.raises(BackendError) as caught:
        start(f"{url}{paths.get(fault, '/file?')}&{SECRET}", timeout=1).read()
    error = caught.value
    texts = [str(error), repr(error), repr(error.__cause__), "".join(traceback.format_exception(error))]
    assert not [text for text in (*texts, caplog.text) if SECRET in text or "ik-s" in text]
