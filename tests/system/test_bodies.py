"""Request bodies over real sockets: every byte is stored, or the answer is an error."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flask_persistent_uploads import keys

from ..servers import Gunicorn
from .client import CONTENT_TYPE, ask, connect, form, once
from .test_redeploy import APP

WORKERS = {"sync": ["-k", "sync"], "gthread": ["-k", "gthread", "--threads", "4"]}


@pytest.fixture(scope="module", params=WORKERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    folder = tmp_path_factory.mktemp(request.param)
    environment = {"UPLOADS_DIR": str(folder / "uploads"), "UPLOADS_MAX_SIZE": "1MB"}
    with Gunicorn(APP, *WORKERS[request.param], environment=environment, folder=folder) as server:
        yield server


def stored(server: Gunicorn) -> list[Path]:
    """Return all files below the folder except the marker of the store."""
    below = (server.folder / "uploads").rglob("*")
    return [path for path in below if path.is_file() and path.parts[-2:] != (".uploads", "store.json")]


@pytest.mark.parametrize("around", [65536, 131072, 196608])
def test_every_byte_is_stored_for_every_length_of_the_body(server: Gunicorn, around: int) -> None:
    connection = connect(server.url)
    frame = len(form(("f", "a.bin", b"")))
    noise = random.Random(around).randbytes(around + 64)
    wrong = []
    for length in range(around - 64, around + 65):
        for ending in (b"", b"\r", b"\n", b"\r\n", b"\r\n--"):
            content = noise[: length - frame - len(ending)] + ending
            answer = ask(connection, "POST", "/check", form(("f", "a.bin", content)))
            if answer.data.decode() != hashlib.sha256(content).hexdigest():
                wrong.append((length, ending, answer.status))
    connection.close()
    assert wrong == []


def half_a_request(server: Gunicorn, sent: bytes, length: int, *, close: bool) -> bytes:
    """Send fewer bytes than announced. Then hang up, or close only the sending side and return the answer."""
    head = f"POST /save HTTP/1.1\r\nHost: a\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {length}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
        sock.sendall(head.encode() + sent)
        if close:
            return b""
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := sock.recv(65536):
                answer += piece
        return answer


def test_an_interrupted_request_gets_a_400_at_most_and_stores_nothing(server: Gunicorn) -> None:
    body = form(("f", "a.bin", b"content" * 100), ("g", "b.bin", random.Random(3).randbytes(300_000)))
    cuts = [*range(0, 1000, 37), 65536, 131072, 200_000, len(body) - 50, len(body) - 4, len(body) - 3]
    for cut in cuts:
        half_a_request(server, body[:cut], len(body), close=True)
        answer = half_a_request(server, body[:cut], len(body), close=False)
        assert not answer or answer.startswith(b"HTTP/1.1 400 "), (cut, answer[:200])
    assert once(server.url, "GET", "/").status == 200
    assert stored(server) == []


def test_an_empty_or_incomplete_body_is_a_400(server: Gunicorn) -> None:
    for body in (b"", b"garbage", form(("f", "a.bin", b"content"))[:-4], b"--x"):
        answer = once(server.url, "POST", "/save", body)
        assert (answer.status, b"incomplete or malformed" in answer.data) == (400, True)
    assert stored(server) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [(b"a" * 5000 + b".png", b"The header of a form part is too long."), (b"\xff.png", b"incomplete or malformed")],
    ids=["5,000 characters", "invalid UTF-8"],
)
def test_an_unreadable_filename_is_a_400_and_nothing_is_stored(server: Gunicorn, name: bytes, reason: bytes) -> None:
    body = form(("f", "NAME", b"content")).replace(b"NAME", name)
    answer = once(server.url, "POST", "/save", body)
    assert (answer.status, reason in answer.data) == (400, True)
    assert stored(server) == []


def test_a_chunked_file_over_the_limit_is_a_413_that_reaches_the_client(server: Gunicorn) -> None:
    def pieces(total: int) -> Iterator[bytes]:
        start, end = form(("f", "big.bin", b"SPLIT")).split(b"SPLIT")
        yield start
        for _ in range(total // 50_000):
            yield b"x" * 50_000
        yield end

    answer = once(server.url, "POST", "/save", pieces(1_050_000))
    assert answer.status == 413
    assert b"is too large. A file may have at most 1 MB." in answer.data
    assert stored(server) == []
    assert once(server.url, "POST", "/check", pieces(1_000_000)).status == 200


def test_sixty_files_and_a_wrong_type_are_refused_and_nothing_is_stored(server: Gunicorn) -> None:
    many = once(server.url, "POST", "/save", form(*(("f", f"{n}.txt", b"x") for n in range(60))))
    assert (many.status, b"There are too many files. At most 50 are allowed at once." in many.data) == (413, True)
    wrong = once(server.url, "POST", "/save?allow=image/*", form(("f", "a.png", b"<svg onload=alert(1)>")))
    assert (wrong.status, b"is not allowed. Allowed types: image/*." in wrong.data) == (415, True)
    assert stored(server) == []


def test_a_form_without_a_chosen_file_gives_an_empty_result(server: Gunicorn) -> None:
    answer = once(server.url, "POST", "/save", form(("f", "", b"")))
    assert (answer.status, answer.data.strip()) == (200, b"[]")


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait at most 20 seconds until the condition is true."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextlib.contextmanager
def sent(server: Gunicorn, path: str, body: bytes, *, announced: int) -> Iterator[None]:
    """Send a form that announces so many bytes, and keep the connection open."""
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {announced}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
        sock.sendall(head.encode() + body)
        yield


def kill_the_worker(server: Gunicorn) -> None:
    """Kill the only worker and wait for the next one."""
    (worker,) = server.workers()
    server.end_worker(worker)
    wait_until(lambda: server.workers() not in ([], [worker]))
    assert once(server.url, "GET", "/").status == 200


def test_a_worker_killed_while_it_receives_a_file_leaves_no_visible_file(server: Gunicorn) -> None:
    body = form(("f", "a.bin", b"x" * 900_000))
    with sent(server, "/save", body[: len(body) // 2], announced=len(body)):
        time.sleep(0.1)
        kill_the_worker(server)
    assert stored(server) == []


def test_a_worker_killed_while_it_saves_a_file_leaves_no_visible_file(server: Gunicorn) -> None:
    body, stopped = form(("f", "a.bin", b"x" * 900_000)), server.folder / "stopped"
    with sent(server, "/save?stop=1", body, announced=len(body)):
        wait_until(stopped.exists)
        kill_the_worker(server)
    left = stored(server)
    for path in [*left, stopped]:
        path.unlink()
    assert [path.name for path in left if not path.name.startswith(keys.RESERVED)] == []
