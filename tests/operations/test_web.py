"""Requests are bounded in time and size, and their errors do not repeat the address."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from flask_persistent_uploads.operations import web
from flask_persistent_uploads.operations.web import Unreachable, request

from ..servers import free_ports, silent_server
from .test_instances import HEALTH, Fake


@contextlib.contextmanager
def raw(*pieces: bytes, pause: float = 0.0) -> Iterator[str]:
    """Yield the address of a server that sends these bytes to the first client and closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                for piece in pieces:
                    try:
                        connection.sendall(piece)
                    except OSError:
                        return
                    time.sleep(pause)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_a_response_has_a_status_headers_and_a_body() -> None:
    for status in (200, 404, 503):
        with Fake(b"hello", status=status, headers={"X-A": "1"}) as fake:
            answer = request(fake.url + HEALTH, headers={"X-B": "2"})
        assert (answer.status, answer.body, answer.headers["x-a"]) == (status, b"hello", "1")
        assert fake.seen[0][1]["X-B"] == "2"


def test_redirects_are_followed_on_request_only() -> None:
    with Fake(b"there") as there, Fake(status=302, headers={"Location": there.url + HEALTH}) as here:
        seen = request(here.url + HEALTH)
        assert (seen.status, seen.headers["Location"], there.seen) == (302, there.url + HEALTH, [])
        assert request(here.url + HEALTH, follow=True).body == b"there"


@pytest.mark.parametrize("location", ["file:///etc/passwd", "data:,x", "javascript:alert(1)"])
def test_a_redirect_away_from_http_is_not_followed(location: str) -> None:
    with Fake(b"stay", status=302, headers={"Location": location}) as fake:
        assert request(fake.url + HEALTH, follow=True).status == 302


def test_a_redirect_to_another_protocol_is_not_followed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with Fake(b"stay", status=302, headers={"Location": f"ftp://127.0.0.1:{port}/x"}) as fake:
            assert request(fake.url + HEALTH, follow=True, seconds=0.5).status == 302


def test_at_most_a_mebibyte_is_read() -> None:
    with Fake(b"x" * (3 << 20)) as fake:
        assert len(request(fake.url + HEALTH).body) == 1 << 20
    with Fake(b"x" * (3 << 20), status=500) as fake:
        assert len(request(fake.url + HEALTH).body) == 1 << 20


def test_a_server_that_never_answers_is_given_up() -> None:
    start = time.monotonic()
    with silent_server() as url, pytest.raises(Unreachable, match="did not answer in time"):
        request(url, seconds=0.2)
    assert time.monotonic() - start < 2


def test_a_server_that_sends_one_byte_at_a_time_is_given_up() -> None:
    start = time.monotonic()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    with raw(head, *[b"x"] * 10, pause=0.1) as url:
        with pytest.raises(Unreachable, match="did not answer in time"):
            request(url, seconds=0.4)
        assert time.monotonic() - start < 1


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"hello\r\n\r\n",
        b"HTTP/1.1 999999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:port/\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=lambda said: repr(said[:40]),
)
def test_a_malformed_response_raises_no_other_error_than_unreachable(said: bytes) -> None:
    with raw(said) as url, contextlib.suppress(Unreachable):
        request(f"{url}/?token=hunter2", follow=True)


def test_an_error_does_not_repeat_the_address_and_has_no_cause() -> None:
    with raw(b"hello\r\n\r\n") as url, pytest.raises(Unreachable) as caught:
        request(f"{url}/?token=hunter2")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("url", ["", "x", "//x", "file:///etc/passwd", "ftp://x", "HTTP//x", " http://x"])
def test_an_address_without_http_is_refused_before_any_request(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "build_opener", None)
    with pytest.raises(Unreachable, match="the address does not begin with http:// or https://"):
        request(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///x",
        "http://[::1/hunter2",
        "http://x:port/hunter2",
        "http://x:99999999/hunter2",
        "http://127.0.0.1:1/hunter2 with space",
        "http://127.0.0.1:1/hunter2\r\nX: y",
        "http://\udcff/hunter2",
        "http://" + "a" * 300 + ".example/hunter2",
        "http://hunter2..example/",
    ],
)
def test_an_invalid_address_is_unreachable_and_not_repeated(url: str) -> None:
    with pytest.raises(Unreachable) as caught:
        request(url, seconds=3)
    assert "hunter2" not in str(caught.value)


def test_the_reason_is_described_in_words() -> None:
    (port,) = free_ports(1)
    with pytest.raises(Unreachable, match="the server refused the connection"):
        request(f"http://127.0.0.1:{port}/", seconds=2)
    with pytest.raises(Unreachable, match="the host name does not exist"):
        request("http://no-such-host.invalid/", seconds=5)
    with Fake(b"hello") as fake, pytest.raises(Unreachable, match="the server does not speak TLS"):
        request(fake.url.replace("http://", "https://"), seconds=5)


def test_the_given_method_is_used() -> None:
    with Fake(b"hello") as fake:
        assert request(fake.url + HEALTH, method="PUT").status == 501
