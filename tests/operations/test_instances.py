"""Whether all instances of an app use one store, as told by what an address answers; and what else it may answer."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from flask_persistent_uploads.operations import instances, web
from flask_persistent_uploads.operations.instances import Survey, survey

from ..fakes.loopback import Handler, Loopback
from ..servers import RoundRobin, free_ports, silent_server

HEALTH = "/uploads/_health"


def answer(
    instance: str = "aaaaaaaaaaaa", store: str | None = "s1", sees: Sequence[str] = (), **more: Any
) -> dict[str, Any]:
    """What an instance says; it finds its own record in its store, and those of the others that it ``sees``."""
    return {
        "status": "ok",
        "instance": instance,
        "store": store,
        "since": "2026-01-03T12:00:00+00:00" if store else None,
        "backend": "local",
        "survives": True,
        "instances": [instance, *sees] if store else [],
        "restarts_survived": 0,
        "problem": None,
        "alarm": None,
        "free_bytes": None,
        **more,
    }


class _Health(Handler):
    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        status, headers, body = self.server.owner.answers[self.path]
        self.server.owner.seen.append((self.path, dict(self.headers.items())))
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class Fake(Loopback):
    """A server that answers what it is told to."""

    handler = _Health

    def __init__(self, body: object = b"", *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__()
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers = {HEALTH: (status, headers or {}, data)}
        self.seen: list[tuple[str, dict[str, str]]] = []


def ask(*answers: object, times: int = 4, status: int = 200, headers: Mapping[str, str] | None = None) -> Survey:
    """A survey of an app whose instances give these answers in turn."""
    with _running(*(Fake(body, status=status, headers=headers) for body in answers)) as url:
        return survey(url + HEALTH, times=times)


class _running:  # noqa: N801 - used like a function
    def __init__(self, *fakes: Fake) -> None:
        self.fakes = fakes

    def __enter__(self) -> str:
        for fake in self.fakes:
            fake.__enter__()
        self.balancer = RoundRobin(*(fake.url for fake in self.fakes)).__enter__()
        return self.balancer.url

    def __exit__(self, *_: object) -> None:
        self.balancer.__exit__()
        for fake in self.fakes:
            fake.__exit__()


def said(found: Survey) -> list[dict[str, Any]]:
    """What each instance said of each store, and how often."""
    instances: list[dict[str, Any]] = json.loads(json.dumps(found.as_json()))["instances"]
    return instances


def test_one_instance_on_one_store_is_content() -> None:
    found = ask(answer(), times=3)
    assert found.content
    assert found.headline() == "1 instance answered, with 1 store."
    assert said(found) == [
        {
            "id": "aaaaaaaaaaaa",
            "store": "s1",
            "since": "2026-01-03T12:00:00+00:00",
            "backend": "local",
            "survives": True,
            "alarm": None,
            "problem": None,
            "sees": ["aaaaaaaaaaaa"],
            "on_a_disk": False,
            "answers": 3,
        }
    ]


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "_UNTIL_NEXT_LOOK", 0.0)


@pytest.mark.parametrize(("one", "two"), [(["b"], ["a"]), ([], ["a"]), (["b"], [])])
def test_instances_of_which_one_finds_the_record_of_the_other_share_a_store(one: list[str], two: list[str]) -> None:
    found = ask(answer("a", sees=one), answer("b", sees=two))
    assert (found.content, found.instances, len(found.stores)) == (True, 2, 1)
    assert found.headline() == "2 instances, 1 store: they share their files."
    assert [one["answers"] for one in said(found)] == [2, 2]


def test_a_store_is_shared_along_a_chain() -> None:
    for names in itertools.permutations("abcd"):
        found = ask(*(answer(name, sees=sees) for name, sees in zip(names, ("", *names[:3]), strict=True)))
        assert found.headline() == "4 instances, 1 store: they share their files."


@pytest.mark.parametrize(("one", "two"), [(["old"], ["old"]), ([], ["a"]), (["b"], [])])
def test_a_copy_of_a_disk_is_another_store_though_its_marker_is_the_same(one: list[str], two: list[str]) -> None:
    found = ask(answer("a", sees=one, free_bytes=1), answer("b", sees=two, free_bytes=1))
    assert not found.content
    assert found.headline().startswith("2 instances, 2 different stores: ")
    assert found.remedy
    assert [one["answers"] for one in said(found)] == [4, 4]  # it was asked a second time before that was said


def test_an_instance_sees_what_one_of_its_workers_sees() -> None:
    new, old = answer("a", sees=["b"], free_bytes=1), answer("a", free_bytes=1)
    for answers in ((new, old), (old, new)):
        found = ask(*answers, answer("b", sees=["a"], free_bytes=1), times=6)
        assert found.headline() == "2 instances, 1 store: they share their files."


def test_a_disk_on_which_each_finds_the_other_is_shared() -> None:
    found = ask(answer("a", sees=["b"], free_bytes=1), answer("b", sees=["a"], free_bytes=1))
    assert (found.content, found.remedy) == (True, None)
    assert [one["answers"] for one in said(found)] == [2, 2]


def test_instances_with_a_store_each_are_told_with_what_follows() -> None:
    found = ask(answer("a", "s1"), answer("b", "s2", sees=["a"]), answer("c", "s3", sees=["a", "b"]), times=6)
    assert not found.content
    assert found.headline() == (
        "3 instances, 3 different stores: files saved by one are missing on the other, and some requests are 404."
    )


def test_an_instance_of_one_name_with_two_stores_is_no_single_instance() -> None:
    found = ask(answer("a", "s1"), answer("a", "s2"))
    assert not found.content
    assert found.headline().startswith("2 instances, 2 different stores: ")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"problem": "The disk for uploads is full.", "status": "failing"}, "The disk for uploads is full."),
        ({"alarm": "ANOTHER STORE. The store x is not here."}, "ANOTHER STORE. The store x is not here."),
        ({"survives": False}, "What this store keeps is lost at the next deploy: flask uploads doctor says why"),
    ],
)
def test_what_an_instance_complains_of_is_told(more: dict[str, Any], says: str) -> None:
    found = ask(answer("a"), answer("b", sees=["a"], **more))
    assert not found.content
    assert found.failures == Counter()
    assert found.headline().startswith(f"2 instances, 1 store. {says}")


def test_what_cannot_be_told_of_a_disk_is_no_complaint() -> None:
    assert ask(answer(survives=None)).content


def test_a_failing_instance_answers_with_503_and_counts_as_an_answer() -> None:
    found = ask(answer(problem="It is down."), status=503)
    assert ([one["answers"] for one in said(found)], found.failures) == ([4], Counter())


def test_an_app_that_is_starting_has_no_store_yet() -> None:
    found = ask(answer("a", None, status="starting"))
    assert (found.content, found.stores) == (False, [])
    assert found.headline() == "1 instance, 0 stores. Instance a has not seen its store."


def test_an_instance_that_sees_its_store_while_it_is_asked_is_one_instance() -> None:
    found = ask(answer("a", None, status="starting"), answer("a", "s1"))
    assert found.content
    assert found.headline() == "1 instance answered, with 1 store."


def test_the_json_says_what_the_headline_says() -> None:
    found = ask(answer("a"), answer("b", sees=["a"]))
    told = json.loads(json.dumps(found.as_json()))
    assert told["headline"] == found.headline()
    assert told["stores"] == 1
    assert {one["id"] for one in told["instances"]} == {"a", "b"}
    assert [one["answers"] for one in told["instances"]] == [2, 2]
    assert told["failures"] == {}


# -- what is no health answer


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<!doctype html><title>Welcome</title>",
        b"null",
        b"[]",
        b'"ok"',
        b"12",
        b"\xff\xfe\xfd",
        b"{}",
        {"status": "ok"},
        answer(instance=1),  # type: ignore[arg-type]
        answer(instance=None),  # type: ignore[arg-type]
        answer(store=["a"]),  # type: ignore[arg-type]
        answer(problem={"a": 1}),
        answer(backend=False),
        answer(survives="yes"),
        answer(survives=[]),
        answer(alarm={}),
        answer(instances=None),
        answer(instances=7),
        b"{" + b" " * (2 << 20) + b"}",
        b'{"instance": "' + b"x" * (2 << 20) + b'"}',
    ],
    ids=lambda body: str(body)[:30],
)
def test_what_is_no_health_answer_is_a_failure_and_no_instance(body: object) -> None:
    found = ask(body, times=2)
    assert found.failures == {"status 200, and no health answer": 2}
    assert said(found) == []
    assert not found.content
    assert found.headline().startswith("No health answer came: is the extension installed there")


def test_an_answer_that_is_nested_without_end_is_a_failure() -> None:
    found = ask(b"[" * 500_000, times=1)
    assert found.failures == {"status 200, and no health answer": 1}


def test_an_app_without_the_extension_is_a_failure_with_its_status() -> None:
    found = ask(b"<h1>Not Found</h1>", times=1, status=404)
    assert found.failures == {"status 404, and no health answer": 1}


def test_an_instance_that_is_gone_is_a_failure_beside_the_others() -> None:
    (port,) = free_ports(1)
    with Fake(answer()) as fake, RoundRobin(fake.url, f"http://127.0.0.1:{port}") as balancer:
        found = survey(balancer.url + HEALTH, times=4)
    assert [one["answers"] for one in said(found)] == [2]
    assert found.failures == {"status 502, and no health answer": 2}
    assert not found.content
    assert found.headline() == "1 instance, 1 store, but some requests had no answer."


def test_nobody_there_is_a_failure_without_the_address() -> None:
    (port,) = free_ports(1)
    found = survey(f"http://127.0.0.1:{port}{HEALTH}?token=hunter2", times=2)
    assert sum(found.failures.values()) == 2
    assert "hunter2" not in str(found.as_json())
    assert "127.0.0.1" not in str(found.as_json())


def test_a_server_that_never_answers_does_not_keep_us_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.ask, "__kwdefaults__", {**(web.ask.__kwdefaults__ or {}), "seconds": 0.3})
    start = time.monotonic()
    with silent_server() as url:
        found = survey(url + HEALTH, times=2)
    assert found.failures == {"it did not answer in time": 2}
    assert time.monotonic() - start < 3


def test_redirects_are_followed_as_hosts_send_them() -> None:
    with Fake(answer()) as app, Fake(status=301, headers={"Location": app.url + HEALTH}) as front:
        found = survey(front.url + HEALTH, times=2)
    assert found.content
    assert [path for path, _ in app.seen] == [HEALTH, HEALTH]


def test_a_redirect_to_another_host_is_not_followed() -> None:
    with Fake(answer()) as other:
        elsewhere = other.url.replace("127.0.0.1", "localhost") + HEALTH
        found = ask(b"", times=1, status=302, headers={"Location": elsewhere})
    assert found.failures == {"status 302, and no health answer": 1}
    assert other.seen == []


def test_a_redirect_in_a_circle_is_a_failure() -> None:
    found = ask(b"", times=1, status=302, headers={"Location": HEALTH})
    assert list(found.failures) == ["status 302, and no health answer"]


@pytest.mark.parametrize("url", ["", "shop.example/uploads/_health", "file:///etc/passwd", "ftp://x/y"])
def test_what_is_no_http_address_is_a_failure(url: str) -> None:
    assert survey(url, times=2).failures == {"it is no http address": 2}


def test_every_question_asks_past_the_caches() -> None:
    with Fake(answer()) as fake:
        survey(fake.url + HEALTH, times=1)
    ((_, headers),) = fake.seen
    assert headers["Cache-Control"] == "no-cache"
    assert headers["Accept"] == "application/json"


def test_control_signs_of_a_hostile_answer_do_not_reach_the_terminal() -> None:
    hostile = answer("a\x1b[2J", "s\x1b]0;x\x07", problem="\x1b[31mall is well\r\n", backend="local\x00")
    found = ask(hostile, times=1)
    shown = " ".join(
        [found.headline(), *(str(value) for one in found.as_json()["instances"] for value in one.values())]
    )
    assert [sign for sign in shown if ord(sign) < 32 or 127 <= ord(sign) < 160] == []
