"""The round-robin proxy, which other tests rely on."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import pytest

from .fakes.scripted import Exchange, ScriptedS3, answer
from .servers import RoundRobin, free_ports
from .system.client import Answer, ask, connect, once

PATH = "//a%20b/%2F+c?q=1&q=%25&empty="


@pytest.fixture
def servers() -> Iterator[list[ScriptedS3]]:
    """Start three servers, each of which answers with its number."""
    with contextlib.ExitStack() as stack:
        numbered = [answer(200, body=str(number).encode()) for number in range(3)]
        yield [stack.enter_context(ScriptedS3(behaviour)) for behaviour in numbered]


def ask_with(url: str, method: str, path: str, body: bytes, headers: list[tuple[str, str]]) -> Answer:
    """Send one request with exactly these headers."""
    with contextlib.closing(connect(url)) as connection:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())


def test_each_request_goes_to_the_next_server_even_on_a_persistent_connection(servers: list[ScriptedS3]) -> None:
    with RoundRobin(*(server.url for server in servers)) as proxy:
        with contextlib.closing(connect(proxy.url)) as kept:
            answers = [ask(kept, "GET", "/") for _ in range(3)]
        answers += [once(proxy.url, "POST", "/", b"x") for _ in range(4)]
    assert [int(answer.data) for answer in answers] == [0, 1, 2, 0, 1, 2, 0]
    assert {answer.headers["Connection"] for answer in answers} == {"close"}
    assert [len(server.requests) for server in servers] == [3, 2, 2]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_method_path_query_headers_and_body_arrive_unaltered(method: str) -> None:
    seen: list[tuple[str, str, list[tuple[str, str]], bytes]] = []

    def note(exchange: Exchange) -> None:
        seen.append((exchange.requestline, exchange.command, exchange.headers.items(), exchange.receive().body))
        exchange.reply(200)

    body = random.Random(3).randbytes(1_000_001)
    headers = [("Host", "shop.example"), ("X-Two", "1"), ("X-Two", "2"), ("Content-Length", str(len(body)))]
    with ScriptedS3(note) as server, RoundRobin(server.url) as proxy:
        assert ask_with(proxy.url, method, PATH, body, headers).status == 200
    assert seen == [(f"{method} {PATH} HTTP/1.1", method, headers, body)]


def test_status_headers_and_body_come_back_unaltered_and_redirects_are_not_followed() -> None:
    content = random.Random(4).randbytes(1_000_001)

    def redirect(exchange: Exchange) -> None:
        exchange.receive()
        exchange.reply(302, content, {"Location": "/elsewhere?x=%2F", "X-Own": "ä"})

    with ScriptedS3(redirect) as server, RoundRobin(server.url) as proxy:
        direct, through = once(server.url, "GET", "/"), once(proxy.url, "GET", "/")
        head = once(proxy.url, "HEAD", "/")
        assert [request.path for request in server.requests] == ["/"] * 3
    assert (through.status, through.data) == (302, content)
    assert {**through.headers, "Date": ""} == {**direct.headers, "Date": ""}
    assert (head.headers["Content-Length"], head.data) == (str(len(content)), b"")


def test_a_chunked_answer_arrives_complete() -> None:
    def chunks(exchange: Exchange) -> None:
        exchange.receive()
        exchange.send_response(200)
        exchange.send_header("Transfer-Encoding", "chunked")
        exchange.end_headers()
        exchange.wfile.write(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")

    with ScriptedS3(chunks) as server, RoundRobin(server.url) as proxy:
        assert once(proxy.url, "GET", "/").data == b"abcde"


def test_a_server_that_is_gone_is_a_502_and_the_next_one_answers(servers: list[ScriptedS3]) -> None:
    (port,) = free_ports(1)
    with RoundRobin(f"http://127.0.0.1:{port}", servers[0].url) as proxy:
        assert [once(proxy.url, "GET", "/").status for _ in range(3)] == [502, 200, 502]


def test_the_proxy_stops_at_the_end_of_its_block(servers: list[ScriptedS3]) -> None:
    with RoundRobin(servers[0].url) as proxy:
        once(proxy.url, "GET", "/")
    with pytest.raises(ConnectionRefusedError):
        once(proxy.url, "GET", "/")
