"""The marker of a store: created once, signed by every instance, and compared with the expected one."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import IO

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_persistent_uploads import BackendError, InvalidKey, Uploads, keys
from flask_persistent_uploads.backends.base import Backend
from flask_persistent_uploads.backends.local import LocalBackend
from flask_persistent_uploads.backends.memory import MemoryBackend
from flask_persistent_uploads.config import Settings
from flask_persistent_uploads.errors import BackendRefused, BackendUnavailable, Problem
from flask_persistent_uploads.operations import marker
from flask_persistent_uploads.operations.marker import KEY, Marker, Seen, alarm, born_at, establish, read, sign_in
from flask_persistent_uploads.operations.platform import Host

from ..conftest import MakeApp, imagekit_backend, settings_of
from ..fakes.imagekit import FakeImageKit
from ..servers import ROOT, clean_environment
from ..system.client import fetch
from .test_platform import BY_ID

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
AN_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")


def host(name: str, platform: str = "render") -> Host:
    return Host(BY_ID[platform], (name,))


@pytest.fixture
def backend(make_app: MakeApp, settings: dict[str, str], uploads: Uploads) -> Iterator[Backend]:
    """Yield each backend in turn, on a store without a marker."""
    with make_app(uploads, **settings).app_context():
        backend = uploads.backend
    backend.delete(KEY)
    yield backend
    backend.delete(KEY)


@pytest.fixture
def local(tmp_path: Path) -> LocalBackend:
    return LocalBackend(tmp_path / "disk")


def test_a_store_whose_search_index_lags_keeps_its_identity() -> None:
    with FakeImageKit() as server:
        server.add().index_delay = 2
        backend = imagekit_backend(server)
        first = sign_in(backend, host("one"))
        with pytest.raises(BackendUnavailable, match="cannot be found yet"):
            sign_in(backend, host("two"))
        deadline = time.monotonic() + 20
        while read(backend) is None and time.monotonic() < deadline:
            time.sleep(0.2)
        second = sign_in(backend, host("two"))
    assert second.id == first.id
    assert {host("one").id, host("two").id} == set(second.instances)


def put(backend: Backend, data: bytes) -> None:
    stream = io.BytesIO(data)
    backend.save(KEY, stream, content_type="application/json", size=len(data), filename="x.json", overwrite=True)


def content(backend: Backend) -> bytes:
    with backend.open(KEY) as stream:
        return stream.read()


# -- on every backend


def test_a_store_gets_one_identity(backend: Backend) -> None:
    assert read(backend) is None
    first = establish(backend)
    assert AN_ID.fullmatch(first.id)
    assert born_at(first.id) == first.since
    assert establish(backend) == first == read(backend)
    for name in ("one", "two"):
        assert sign_in(backend, host(name)).id == first.id


def test_each_instance_signs_once_although_it_has_several_workers(backend: Backend) -> None:
    signed = [sign_in(backend, host(name)) for name in ("one", "one", "two", "one", "two")]
    assert [len(one.instances) for one in signed] == [1, 1, 2, 2, 2]
    assert [one.survived(host("one")) for one in signed] == [0, 0, 1, 1, 1]
    found = read(backend)
    assert found == signed[-1]
    assert set(found.instances) == {host("one").id, host("two").id}
    before = content(backend)
    sign_in(backend, host("two"))
    assert content(backend) == before


def seen(client: FlaskClient, path: str) -> int:
    """Return the status after following a redirect."""
    answer = client.get(path)
    return fetch(answer.headers["Location"]).status if answer.status_code == 302 else answer.status_code


def test_the_marker_cannot_be_listed_served_or_referenced(app: Flask, uploads: Uploads, backend: Backend) -> None:
    sign_in(uploads.backend, host("one"))
    assert [stat.key for stat in uploads.backend.entries() if stat.key.startswith(keys.RESERVED)] == []
    client = app.test_client()
    for path in (
        "/uploads/.uploads/store.json",
        "/uploads/%2euploads/store.json",
        "/uploads/.UPLOADS/store.json",
        "/uploads/.uploads%2fstore.json",
        "/uploads/.uploads%5cstore.json",
        "/uploads/.uploads\\store.json",
        "/uploads\\.uploads\\store.json",
        "/uploads//.uploads/store.json",
        "/uploads/uploads/.uploads/store.json",
        "/uploads/uploads/uploads/.uploads/store.json",
        "/uploads//uploads/%252euploads/store.json",
        "/uploads/%252euploads/store.json",
        "/uploads/x/../.uploads/store.json",
        "/uploads/.uploads/./store.json",
        "/uploads/.uploads/store.json?t=1",
        "/uploads/https://any.host/uploads/.uploads/store.json",
    ):
        assert seen(client, path) == 404, path
    for reference in (str(KEY), KEY, KEY.upper(), f"uploads/{KEY}", f"/uploads/{KEY}", f"uploads\\{KEY}"):
        for verb in (uploads.delete, uploads.stat, uploads.open, uploads.url, uploads.direct_url):
            with pytest.raises(InvalidKey):
                verb(reference)
        with pytest.raises(InvalidKey):
            uploads.delete(f'["a.png", "{reference.replace(chr(92), "/")}"]')
    assert read(uploads.backend) is not None


def test_no_file_can_be_saved_beside_the_marker(app: Flask, uploads: Uploads) -> None:
    for folder in (".uploads", str(KEY), "uploads/.uploads", "x/.uploads", "x/../.uploads", ".uploads\\x"):
        with pytest.raises(InvalidKey):
            uploads.save(b"x", filename="store.json", folder=folder)
    for filename in ("../.uploads/store.json", ".uploads/store.json", ".uploads\\store.json"):
        assert ".uploads" not in uploads.save(b"{}", filename=filename).key


# -- records


def test_the_latest_200_records_are_kept() -> None:
    found = Marker("20260101T000000Z-00000000", NOW)
    for number in range(260):
        found = found.with_record(host(f"deploy-{number}"))
    assert set(found.instances) == {host(f"deploy-{number}").id for number in range(60, 260)}
    assert found.survived(host("deploy-259")) == 199
    assert found.survived(host("new")) == 200


def test_after_a_thousand_starts_the_marker_is_small(local: LocalBackend) -> None:
    first = establish(local)
    for number in range(1000):
        found = sign_in(local, host(f"deploy-{number}"))
    assert found == read(local)
    assert (found.id, found.since) == (first.id, first.since)
    assert found.survived(host("deploy-999")) == 199
    assert len(content(local)) < 32_000


def test_the_new_record_is_kept_even_if_the_clocks_of_all_others_are_fast() -> None:
    late = datetime.now(timezone.utc) + timedelta(days=365)
    found = Marker("a", NOW, {f"{number:012x}": Seen("render", late) for number in range(200)})
    signed = found.with_record(host("here"))
    assert host("here").id in signed.instances
    assert len(signed.instances) == 200


def test_only_other_instances_of_the_same_platform_count_as_survived() -> None:
    records = {
        host("here").id: Seen("render", NOW),
        host("before").id: Seen("render", NOW),
        host("laptop", "machine").id: Seen("machine", NOW),
        host("image", "docker").id: Seen("docker", NOW),
    }
    found = Marker("a", NOW, records)
    machines = [Host(BY_ID["machine"], ("boot",), machine=machine) for machine in ("1a2b", "3c4d")]
    signed = found.with_record(machines[0])
    assert signed.instances[machines[0].id].platform == "machine 1a2b"
    after_a_restart = [Host(BY_ID["machine"], ("later",), machine=one.machine) for one in machines]
    assert [signed.survived(one) for one in after_a_restart] == [1, 0]
    assert found.survived(host("here")) == 1
    assert found.survived(host("new")) == 2
    assert found.survived(host("here", "fly")) == 0
    assert Marker("a", NOW).survived(host("here")) == 0


# -- at the same time


@pytest.mark.parametrize("name", ["local", "s3"])
def test_instances_that_sign_at_the_same_time_agree_on_one_identity(
    name: str, make_app: MakeApp, uploads: Uploads, request: pytest.FixtureRequest
) -> None:
    settings = {**settings_of(name, request), "UPLOADS_PREFIX": f"race-{name}"}
    with make_app(uploads, **settings).app_context():
        backend = uploads.backend
    together = threading.Barrier(8)

    def sign(number: int) -> Marker:
        together.wait()
        return sign_in(backend, host(f"instance-{number}"))

    for _ in range(3):
        backend.delete(KEY)
        with ThreadPoolExecutor(8) as pool:
            signed = list(pool.map(sign, range(8)))
        found = read(backend)
        assert found is not None
        assert {one.id for one in signed} == {found.id}
        # A record that was lost in a race is written again by the next check of its instance.
        for number in range(8):
            found = sign_in(backend, host(f"instance-{number}"))
        assert set(found.instances) == {host(f"instance-{number}").id for number in range(8)}
        assert found.id == signed[0].id


def test_processes_that_sign_at_the_same_time_agree_on_one_identity(local: LocalBackend) -> None:
    script = """
import os, sys, time
from pathlib import Path
from flask_persistent_uploads.backends.local import LocalBackend
from flask_persistent_uploads.operations import marker, platform
backend = LocalBackend(Path(sys.argv[1]))
host = platform.detect({"RENDER": "true", "RENDER_INSTANCE_ID": sys.argv[2]})
print("ready", flush=True)
sys.stdin.readline()
print(marker.sign_in(backend, host).id)
"""
    command = [sys.executable, "-c", script, str(local.directory)]
    processes = [
        subprocess.Popen(
            [*command, str(number)],
            env=clean_environment(PYTHONPATH=str(ROOT)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    ids = {process.communicate(timeout=30)[0].strip() for process in processes}
    found = read(local)
    assert found is not None
    assert ids == {found.id}


def test_the_slower_instance_takes_the_existing_identity(local: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    winner = establish(local)
    stat, calls = local.stat, iter([None])
    monkeypatch.setattr(local, "stat", lambda key: next(calls, stat(key)))
    assert sign_in(local, host("slower")).id == winner.id
    assert json.loads(content(local))["id"] == winner.id


def test_a_record_that_another_instance_overwrote_is_written_again(
    local: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = establish(local)
    save, others = local.save, iter([empty.with_record(host("other"))])

    def overtaken(key: str, stream: IO[bytes], **options: object) -> str:
        digest = save(key, stream, **options)  # type: ignore[arg-type]
        for other in others:
            marker._write(local, other, overwrite=True)
        return digest

    monkeypatch.setattr(local, "save", overtaken)
    assert set(sign_in(local, host("here")).instances) == {host("other").id, host("here").id}
    assert read(local) == sign_in(local, host("here"))


# -- unreadable markers

GOOD = '{"id": "a", "since": "2026-01-01T00:00:00+00:00", "instances": {}}'
UNREADABLE = {
    "empty": b"",
    "text": b"hello",
    "no UTF-8": b"\xff\xfe\xfd",
    "truncated": GOOD[:-20].encode(),
    "a list": b"[]",
    "null": b"null",
    "a number": b"12",
    "foreign": b'{"name": "shop", "version": 1}',
    "without a zone": GOOD.replace("+00:00", "").encode(),
    "no time": GOOD.replace("2026-01-01T00:00:00+00:00", "yesterday").encode(),
    "time is a number": GOOD.replace('"2026-01-01T00:00:00+00:00"', "5").encode(),
    "instances is a list": GOOD.replace("{}", "[]").encode(),
    "a record is a number": GOOD.replace("{}", '{"a": 1}').encode(),
    "a record is too long": GOOD.replace("{}", '{"a": ["x", "2026-01-01T00:00:00+00:00", 1]}').encode(),
    "a record without a time": GOOD.replace("{}", '{"a": ["x", Infinity]}').encode(),
    "an overflowing time": GOOD.replace('"2026-01-01T00:00:00+00:00"', "1e999").encode(),
    "a number of many digits": GOOD.replace("{}", "9" * 5000).encode(),
    "deep": b"[" * 100_000,
    "huge": GOOD.replace('"a"', '"' + "a" * (1 << 20) + '"').encode(),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_unreadable_marker_is_reported_and_not_overwritten(kind: str, local: LocalBackend) -> None:
    put(local, UNREADABLE[kind])
    for call in (read, establish, lambda backend: sign_in(backend, host("here"))):
        with pytest.raises(BackendRefused) as caught:
            call(local)
        assert caught.value.problem == Problem(
            "The marker of the store, .uploads/store.json, cannot be read.",
            "Delete it; the next start creates a new one.",
        )
    assert content(local) == UNREADABLE[kind]


def test_an_unreadable_marker_is_reported_on_every_backend(backend: Backend) -> None:
    put(backend, b"hello")
    with pytest.raises(BackendRefused, match=r"\.uploads/store\.json"):
        sign_in(backend, host("here"))
    assert content(backend) == b"hello"


class Broken(MemoryBackend):
    name = "broken"

    def stat(self, key: str) -> None:
        raise BackendUnavailable("It is down.")


def test_a_store_that_is_down_does_not_count_as_a_store_without_a_marker() -> None:
    backend = Broken()
    for call in (read, establish, lambda backend: sign_in(backend, host("here"))):
        with pytest.raises(BackendError, match="It is down"):
            call(backend)
    assert backend._files == {}


def test_a_marker_that_is_deleted_between_two_calls_counts_as_missing(
    local: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = establish(local)
    stat = local.stat(KEY)
    local.delete(KEY)
    monkeypatch.setattr(local, "stat", lambda key: stat)
    assert read(local) is None
    monkeypatch.undo()
    assert establish(local).id != found.id


# -- ages and alarms


def test_the_id_of_a_store_contains_its_creation_time() -> None:
    assert born_at("20260103T120501Z-0a1b2c3d") == datetime(2026, 1, 3, 12, 5, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "another",
        "20260103T120501Z-0a1b2c3",
        "20260103T120501Z-0A1B2C3D",
        "20260103T120501Z-0a1b2c3d\n",
        "20261303T120501Z-0a1b2c3d",
        "20260103T250501Z-0a1b2c3d",
        "20260103T120501+00-0a1b2c3d",
    ],
)
def test_an_id_in_another_form_has_no_creation_time(text: str) -> None:
    assert born_at(text) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (1, "1 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (172_799, "47 h"),
        (172_800, "2 days"),
        (14 * 86400 + 5, "14 days"),
    ],
)
def test_an_age_is_given_in_the_largest_unit_of_which_there_are_two(
    seconds: int, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marker, "_now", lambda: NOW)
    assert marker.age(NOW - timedelta(seconds=seconds)) == text


def test_the_expected_store_raises_no_alarm() -> None:
    found = Marker("20260103T120000Z-0a1b2c3d", NOW)
    assert alarm(Settings(), found, "x") is None
    assert alarm(Settings(), None, "x") is None
    assert alarm(Settings(store_id=found.id), found, "x") is None


def test_an_alarm_names_both_stores_their_ages_the_instance_and_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marker, "_now", lambda: NOW)
    found = Marker("20261121T115955Z-bbbbbbbb", NOW - timedelta(seconds=5))
    expected = Settings(store_id="20261107T120000Z-aaaaaaaa")
    assert alarm(expected, found, "srv-1-a c0ffee (0123456789ab)") == Problem(
        "ANOTHER STORE. The app expects the store 20261107T120000Z-aaaaaaaa (created 14 days ago), "
        "but the store in use is 20261121T115955Z-bbbbbbbb (created 5 s ago). "
        "Instance srv-1-a c0ffee (0123456789ab) cannot see the files of the expected store.",
        "Mount the disk of the expected store, or set its bucket. If its files are lost, restore them. "
        "Only if you changed the store on purpose, set UPLOADS_STORE_ID=20261121T115955Z-bbbbbbbb.",
        "UPLOADS_STORE_ID",
    )


def test_an_alarm_of_a_further_uploads_without_a_marker_names_its_own_variable() -> None:
    assert alarm(Settings(store_id="another", uploads="documents"), None, "x") == Problem(
        "ANOTHER STORE. The app expects the store another, but the store in use has no marker. "
        "Instance x cannot see the files of the expected store.",
        "Mount the disk of the expected store, or set its bucket. If its files are lost, restore them.",
        "DOCUMENTS_STORE_ID",
    )
