"""The survey of a running app: which instances share a store, and what happens if answers are missing or hostile."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import FrozenInstanceError
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
    """Return a health report. The instance finds its own record in its store, and those that it ``sees``."""
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
    """A server that gives one answer."""

    handler = _Health

    def __init__(self, body: object = b"", *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__()
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers = {HEALTH: (status, headers or {}, data)}
        self.seen: list[tuple[str, dict[str, str]]] = []


def ask(*answers: object, times: int = 4, status: int = 200, headers: Mapping[str, str] | None = None) -> Survey:
    """Return the survey of an app whose instances give these answers in turn."""
    with _Running(*(Fake(body, status=status, headers=headers) for body in answers)) as url:
        return survey(url + HEALTH, times=times)


class _Running:
    """Runs servers behind a load balancer."""

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


def instances_of(found: Survey) -> list[dict[str, Any]]:
    """Return the instances in the JSON of a survey."""
    instances: list[dict[str, Any]] = json.loads(json.dumps(found.as_json()))["instances"]
    return instances


def test_one_instance_with_one_store_is_healthy() -> None:
    found = ask(answer(), times=3)
    assert found.healthy
    assert found.headline == "1 instance answered and uses 1 store."
    assert instances_of(found) == [
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
    monkeypatch.setattr(instances, "_UNTIL_NEXT_CHECK", 0.0)


@pytest.mark.parametrize(("one", "two"), [(["b"], ["a"]), ([], ["a"]), (["b"], [])])
def test_instances_share_a_store_if_one_finds_the_record_of_the_other(one: list[str], two: list[str]) -> None:
    found = ask(answer("a", sees=one), answer("b", sees=two))
    assert (found.healthy, found.instance_count, len(found.stores)) == (True, 2, 1)
    assert found.headline == "2 instances share 1 store."
    assert [one["answers"] for one in instances_of(found)] == [2, 2]


def test_instances_that_see_each_other_in_a_chain_share_a_store() -> None:
    for names in itertools.permutations("abcd"):
        found = ask(*(answer(name, sees=sees) for name, sees in zip(names, ("", *names[:3]), strict=True)))
        assert found.headline == "4 instances share 1 store."


@pytest.mark.parametrize(("one", "two"), [(["old"], ["old"]), ([], ["a"]), (["b"], [])])
def test_a_copy_of_a_disk_is_another_store_although_its_marker_is_the_same(one: list[str], two: list[str]) -> None:
    found = ask(answer("a", sees=one, free_bytes=1), answer("b", sees=two, free_bytes=1))
    assert not found.healthy
    assert found.headline.startswith("2 instances use 2 different stores. ")
    assert found.remedy == (
        "Use one bucket or service for all instances (flask uploads setup s3), or run only one instance."
    )
    assert [one["answers"] for one in instances_of(found)] == [4, 4]  # because the survey asked a second time


def test_the_records_seen_by_all_workers_of_an_instance_are_combined() -> None:
    new, old = answer("a", sees=["b"], free_bytes=1), answer("a", free_bytes=1)
    for answers in ((new, old), (old, new)):
        found = ask(*answers, answer("b", sees=["a"], free_bytes=1), times=6)
        assert found.headline == "2 instances share 1 store."


def test_instances_share_a_disk_if_each_finds_the_record_of_the_other() -> None:
    found = ask(answer("a", sees=["b"], free_bytes=1), answer("b", sees=["a"], free_bytes=1))
    assert (found.healthy, found.remedy) == (True, None)
    assert [one["answers"] for one in instances_of(found)] == [2, 2]


def test_instances_with_different_stores_are_reported_with_the_consequence() -> None:
    found = ask(answer("a", "s1"), answer("b", "s2", sees=["a"]), answer("c", "s3", sees=["a", "b"]), times=6)
    assert not found.healthy
    assert found.headline == (
        "3 instances use 3 different stores. "
        "Files saved by one instance are missing on the others, and some requests answer 404."
    )


def test_one_instance_id_with_two_stores_counts_as_two_instances() -> None:
    found = ask(answer("a", "s1"), answer("a", "s2"))
    assert not found.healthy
    assert found.headline.startswith("2 instances use 2 different stores. ")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"problem": "The disk for uploads is full.", "status": "failing"}, "The disk for uploads is full."),
        ({"alarm": "ANOTHER STORE. The app expects x."}, "ANOTHER STORE. The app expects x."),
        ({"survives": False}, "The files in this store are lost at the next deploy. "),
    ],
)
def test_the_problem_of_an_instance_is_reported(more: dict[str, Any], says: str) -> None:
    found = ask(answer("a"), answer("b", sees=["a"], **more))
    assert not found.healthy
    assert found.failures == {}
    assert found.headline.startswith(f"2 instances share 1 store. {says}")


def test_a_problem_with_odd_characters_is_repeated_unaltered() -> None:
    problem = 'S3_REGION is "eu: west". Set it to {region}: it\'s needed.'
    assert ask(answer(problem=problem)).headline == f"1 instance answered and uses 1 store. {problem}"


def test_an_unknown_persistence_is_not_reported() -> None:
    assert ask(answer(survives=None)).healthy


def test_an_answer_with_503_counts_as_an_answer() -> None:
    found = ask(answer(problem="It is down."), status=503)
    assert ([one["answers"] for one in instances_of(found)], found.failures) == ([4], {})


def test_an_instance_that_is_starting_has_no_store_yet() -> None:
    found = ask(answer("a", None, status="starting"))
    assert (found.healthy, found.stores) == (False, [])
    assert found.headline == "1 instance answered. Instance a has not reached its store yet."


def test_an_instance_that_reaches_its_store_during_the_survey_counts_once() -> None:
    found = ask(answer("a", None, status="starting"), answer("a", "s1"))
    assert found.healthy
    assert found.headline == "1 instance answered and uses 1 store."


def test_a_survey_cannot_be_changed() -> None:
    found = ask(b"", times=1)
    with pytest.raises(FrozenInstanceError):
        found.instances = ()  # type: ignore[misc]
    with pytest.raises(TypeError):
        found.failures["x"] = 1  # type: ignore[index]


def test_the_json_agrees_with_the_headline() -> None:
    found = ask(answer("a"), answer("b", sees=["a"]))
    result = json.loads(json.dumps(found.as_json()))
    assert result["headline"] == found.headline
    assert result["stores"] == 1
    assert {one["id"] for one in result["instances"]} == {"a", "b"}
    assert [one["answers"] for one in result["instances"]] == [2, 2]
    assert result["failures"] == {}


# -- missing and hostile answers


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
def test_an_answer_in_another_format_is_a_failure(body: object) -> None:
    found = ask(body, times=2)
    assert found.failures == {"the response, with status 200, is not a health report": 2}
    assert instances_of(found) == []
    assert not found.healthy
    assert found.headline == "No instance reported its health."
    assert found.remedy == "Check that this is the address of the app, and that the app uses this extension."


def test_a_deeply_nested_answer_is_a_failure() -> None:
    found = ask(b"[" * 500_000, times=1)
    assert found.failures == {"the response, with status 200, is not a health report": 1}


def test_an_app_without_the_extension_is_a_failure_with_its_status() -> None:
    found = ask(b"<h1>Not Found</h1>", times=1, status=404)
    assert found.failures == {"the response, with status 404, is not a health report": 1}


def test_an_instance_that_is_down_is_a_failure_beside_the_others() -> None:
    (port,) = free_ports(1)
    with Fake(answer()) as fake, RoundRobin(fake.url, f"http://127.0.0.1:{port}") as balancer:
        found = survey(balancer.url + HEALTH, times=4)
    assert [one["answers"] for one in instances_of(found)] == [2]
    assert found.failures == {"the response, with status 502, is not a health report": 2}
    assert not found.healthy
    assert found.headline == "1 instance answered and uses 1 store. Some requests failed."


def test_a_refused_connection_is_a_failure_that_does_not_repeat_the_address() -> None:
    (port,) = free_ports(1)
    found = survey(f"http://127.0.0.1:{port}{HEALTH}?token=hunter2", times=2)
    assert sum(found.failures.values()) == 2
    assert "hunter2" not in str(found.as_json())
    assert "127.0.0.1" not in str(found.as_json())


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.request, "__kwdefaults__", {**(web.request.__kwdefaults__ or {}), "seconds": 0.3})
    start = time.monotonic()
    with silent_server() as url:
        found = survey(url + HEALTH, times=2)
    assert found.failures == {"the server did not answer in time": 2}
    assert time.monotonic() - start < 3


def test_a_redirect_within_the_host_is_followed() -> None:
    with Fake(answer()) as app, Fake(status=301, headers={"Location": app.url + HEALTH}) as front:
        found = survey(front.url + HEALTH, times=2)
    assert found.healthy
    assert [path for path, _ in app.seen] == [HEALTH, HEALTH]


def test_a_redirect_to_another_host_is_not_followed() -> None:
    with Fake(answer()) as other:
        elsewhere = other.url.replace("127.0.0.1", "localhost") + HEALTH
        found = ask(b"", times=1, status=302, headers={"Location": elsewhere})
    assert found.failures == {"the response, with status 302, is not a health report": 1}
    assert other.seen == []


def test_a_redirect_loop_is_a_failure() -> None:
    found = ask(b"", times=1, status=302, headers={"Location": HEALTH})
    assert list(found.failures) == ["the response, with status 302, is not a health report"]


@pytest.mark.parametrize("url", ["", "shop.example/uploads/_health", "file:///etc/passwd", "ftp://x/y"])
def test_an_address_without_http_is_a_failure(url: str) -> None:
    assert survey(url, times=2).failures == {"the address does not begin with http:// or https://": 2}


def test_requests_bypass_caches() -> None:
    with Fake(answer()) as fake:
        survey(fake.url + HEALTH, times=1)
    ((_, headers),) = fake.seen
    assert headers["Cache-Control"] == "no-cache"
    assert headers["Accept"] == "application/json"


def test_control_characters_of_a_hostile_answer_are_rejected() -> None:
    hostile = answer("a\x1b[2J", "s\x1b]0;x\x07", problem="\x1b[31mall is well\r\n", backend="local\x00")
    found = ask(hostile, times=1)
    shown = " ".join([found.headline, *(str(value) for one in found.as_json()["instances"] for value in one.values())])
    assert [sign for sign in shown if ord(sign) < 32 or 127 <= ord(sign) < 160] == []
