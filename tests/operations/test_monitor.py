"""The monitor of a store: when it checks, what it logs and what the health address answers."""

from __future__ import annotations

import dataclasses
import gc
import json
import logging
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest
from flask import Flask
from flask.signals import request_started

from flask_persistent_uploads import Uploads, keys
from flask_persistent_uploads.backends.base import Backend
from flask_persistent_uploads.backends.description import Description
from flask_persistent_uploads.backends.local import LocalBackend
from flask_persistent_uploads.backends.memory import MemoryBackend
from flask_persistent_uploads.config import Settings
from flask_persistent_uploads.errors import BackendFull, BackendRefused, BackendTimeout, BackendUnavailable, Problem
from flask_persistent_uploads.operations import marker, monitor, mounts
from flask_persistent_uploads.operations.monitor import StoreMonitor, StoreStatus
from flask_persistent_uploads.operations.platform import detect
from flask_persistent_uploads.serving.state import State
from flask_persistent_uploads.stored import Stat

from ..conftest import PNG, MakeApp
from ..servers import ROOT, Gunicorn, clean_environment
from ..system.client import once
from . import test_mounts

live = test_mounts.live
HEALTH = "/uploads/_health"


class Counting(MemoryBackend):
    """A service that counts the calls of stat(), and fails or waits on request."""

    name = "counting"
    description = Description()

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.error: Exception | None = None
        self.accepts_files = self.keeps_files = False
        self.may_answer = threading.Event()
        self.may_answer.set()

    def stat(self, key: str) -> Stat | None:
        self.calls += 1
        self.may_answer.wait(30)
        if self.error is not None:
            raise self.error
        return super().stat(key)

    def save(
        self, key: str, stream: IO[bytes], *, content_type: str, size: int, filename: str, overwrite: bool = False
    ) -> str:
        if self.error is not None and not self.accepts_files:
            raise self.error
        return super().save(key, stream, content_type=content_type, size=size, filename=filename, overwrite=overwrite)

    def delete(self, key: str) -> None:
        if self.keeps_files:
            raise BackendRefused("Nothing may be deleted.")
        super().delete(key)


class Disk(Counting):
    """The same, with a folder on this machine. The fixture resets the count after the start, which reads the marker."""

    name = "disk"
    folder = Path("/no-such-folder")

    def filesystem_path(self, key: str) -> Path:
        return self.folder / keys.check(key)


FULL = "The disk for uploads is full. Free some space on it, or enlarge it."


def state_of(app: Flask, name: str = "uploads") -> State:
    state: State = app.extensions["flask_persistent_uploads"][name].state
    return state


def wait_for_check(app: Flask, name: str = "uploads") -> None:
    """Wait until the running check ends."""
    thread = state_of(app, name).monitor._thread
    assert thread is not None
    thread.join(10)
    assert not thread.is_alive()


def backend_of(app: Flask) -> Counting:
    backend = state_of(app).backend
    assert isinstance(backend, Counting)
    return backend


def health(app: Flask, path: str = HEALTH) -> dict[str, Any]:
    answer = app.test_client().get(path)
    return {"http": answer.status_code, **json.loads(answer.data)}


@pytest.fixture
def make_live(make_app: MakeApp) -> Iterator[Callable[..., Flask]]:
    """Return a function that makes an app whose testing flag is off. All checks end with the test."""
    apps = []

    def make(**settings: Any) -> Flask:
        app = make_app(**{"UPLOADS_BACKEND": f"{__name__}:Counting", **settings})
        app.testing = False
        apps.append(app)
        app.add_url_rule("/", "index", lambda: "ready")
        return app

    yield make
    for app in apps:
        for installed in app.extensions["flask_persistent_uploads"].values():
            backend, thread = installed.state.backend, installed.state.monitor._thread
            if isinstance(backend, Counting):
                backend.may_answer.set()
            if thread is not None and thread.ident is not None:
                thread.join(10)


@pytest.fixture
def make_disk(make_live: Callable[..., Flask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Flask]:
    monkeypatch.setattr(Disk, "folder", tmp_path)

    def make(**settings: Any) -> Flask:
        app = make_live(UPLOADS_BACKEND=f"{__name__}:Disk", **settings)
        backend_of(app).calls = 0
        return app

    return make


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that moves the clock forward, in seconds."""
    shift = 0.0

    def forward(seconds: float) -> None:
        nonlocal shift
        shift += seconds

    now = time.monotonic
    monkeypatch.setattr(monitor, "time", SimpleNamespace(monotonic=lambda: now() + shift, sleep=time.sleep))
    return forward


# -- when it checks


def test_the_start_creates_no_files_and_is_fast(make_live: Callable[..., Flask], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    took = []
    for number in range(5):
        start = time.perf_counter()
        app = make_live(UPLOADS_BACKEND="local", UPLOADS_DIR=str(tmp_path / "disk" / str(number)))
        took.append(time.perf_counter() - start)
        with app.app_context():
            pass
    assert sorted(tmp_path.rglob("*")) == before
    assert min(took) < 0.05


def test_the_start_does_not_change_an_existing_marker(make_live: Callable[..., Flask], tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path / "disk")
    marker.establish(backend)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    make_live(UPLOADS_BACKEND="local", UPLOADS_DIR=str(backend.directory))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_no_check_runs_while_the_app_is_tested(make_disk: Callable[..., Flask], tmp_path: Path) -> None:
    app = make_disk()
    app.testing = True
    for _ in range(3):
        assert app.test_client().get("/").data == b"ready"
    assert state_of(app).monitor._thread is None
    assert backend_of(app).calls == 0


def test_only_the_first_request_starts_a_check(make_disk: Callable[..., Flask]) -> None:
    app = make_disk()
    assert backend_of(app).calls == 0
    assert list(request_started.receivers_for(app)) != []
    client = app.test_client()
    client.get("/")
    wait_for_check(app)
    first, seen = state_of(app).monitor._thread, backend_of(app).calls
    assert seen >= 1
    assert list(request_started.receivers_for(app)) == []
    for _ in range(5):
        client.get("/")
    assert state_of(app).monitor._thread is first
    assert backend_of(app).calls == seen


def test_a_service_is_first_checked_after_the_first_upload(make_live: Callable[..., Flask]) -> None:
    app = make_live()
    app.test_client().get("/")
    assert backend_of(app).calls == 0
    assert list(request_started.receivers_for(app)) == []
    with app.test_request_context():
        app.extensions["flask_persistent_uploads"]["uploads"].uploads.save(PNG, filename="a.png")
    wait_for_check(app)
    found = marker.read(state_of(app).backend)
    assert found is not None
    assert set(found.instances) == {state_of(app).monitor.host.id}


def test_a_service_with_an_expected_store_id_is_checked_at_the_first_request(make_live: Callable[..., Flask]) -> None:
    app = make_live(UPLOADS_STORE_ID="another")
    app.test_client().get("/")
    wait_for_check(app)
    assert backend_of(app).calls >= 1


BUILDS = {
    "render": {"RENDER": "true", "RENDER_SERVICE_ID": "srv-1"},
    "fly": {"FLY_APP_NAME": "shop", "FLY_MACHINE_ID": "m1", "RELEASE_COMMAND": "1"},
}


@pytest.fixture(params=BUILDS)
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment of each platform in turn while it builds or releases the app."""
    for name, value in {"UPLOADS_PLATFORM": "", **BUILDS[request.param]}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("build")
def test_a_build_creates_no_marker(make_live: Callable[..., Flask], tmp_path: Path) -> None:
    app = make_live(UPLOADS_BACKEND="local", UPLOADS_DIR=str(tmp_path / "disk"))
    app.test_client().get("/")
    assert state_of(app).monitor._thread is None
    seen = health(app)
    assert (seen["http"], seen["status"], seen["store"], seen["survives"]) == (200, "ok", None, None)
    assert not (tmp_path / "disk").exists()


@pytest.mark.usefixtures("build")
def test_a_build_raises_no_alarm_about_a_disk_that_is_not_mounted(
    make_live: Callable[..., Flask], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_live(UPLOADS_BACKEND="local", UPLOADS_DIR=str(tmp_path / "disk"), UPLOADS_STORE_ID="another")
    app.test_client().get("/")
    assert state_of(app).monitor._thread is None
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.usefixtures("build")
def test_an_upload_during_a_build_creates_no_marker(make_live: Callable[..., Flask]) -> None:
    app = make_live(UPLOADS_STORE_ID="another")
    with app.test_request_context():
        saved = app.extensions["flask_persistent_uploads"]["uploads"].uploads.save(PNG, filename="a.png")
    assert state_of(app).monitor._thread is None
    health(app)
    wait_for_check(app)
    assert list(backend_of(app)._files) == [saved.key]


def test_no_request_waits_for_the_check(make_disk: Callable[..., Flask]) -> None:
    app = make_disk()
    backend_of(app).may_answer.clear()
    start = time.monotonic()
    assert app.test_client().get("/").data == b"ready"
    assert time.monotonic() - start < 0.5
    thread = state_of(app).monitor._thread
    assert thread is not None
    assert thread.is_alive()


def test_a_hundred_simultaneous_first_requests_are_answered_and_signed_once(make_disk: Callable[..., Flask]) -> None:
    app = make_disk()
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(app.test_client().get("/").status_code)) for _ in range(100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_for_check(app)
    assert answers == [200] * 100
    found = marker.read(state_of(app).backend)
    assert found is not None
    assert len(found.instances) == 1


def test_an_app_that_cannot_start_a_thread_serves_requests(
    make_disk: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoThread(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    app = make_disk()
    monkeypatch.setattr(monitor, "Thread", NoThread)
    assert app.test_client().get("/").status_code == 200
    seen = health(app)
    assert (seen["http"], seen["status"]) == (200, "starting")
    monkeypatch.undo()
    assert health(app)["status"] == "ok", "the next request starts the check"


def test_a_deleted_app_is_not_kept_alive(make_app: MakeApp) -> None:
    gc.collect()
    before = len(request_started.receivers)
    app = make_app(UPLOADS_BACKEND="local")
    assert len(request_started.receivers) == before + 1
    dead = weakref.ref(app), weakref.ref(state_of(app).monitor)
    del app
    gc.collect()
    assert [one() for one in dead] == [None, None]
    assert len(request_started.receivers) == before


# -- health


def test_health_describes_the_store(make_live: Callable[..., Flask], tmp_path: Path) -> None:
    app = make_live(UPLOADS_BACKEND="local", UPLOADS_DIR=str(tmp_path / "disk"))
    seen = health(app)
    found = marker.read(LocalBackend(tmp_path / "disk"))
    assert found is not None
    assert seen.pop("free_bytes") > 0
    assert seen == {
        "http": 200,
        "status": "ok",
        "problem": None,
        "alarm": None,
        "backend": "local",
        "survives": True,
        "store": found.id,
        "since": found.since.isoformat(),
        "restarts_survived": 0,
        "instance": detect(os.environ, "machine").id,
        "instances": [detect(os.environ, "machine").id],
    }


def test_health_is_public_and_not_cached(make_live: Callable[..., Flask]) -> None:
    app = make_live()
    app.extensions["flask_persistent_uploads"]["uploads"].uploads.authorize(lambda action, key: False)
    client = app.test_client()
    answer = client.get(HEALTH)
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers
    head = client.head(HEALTH)
    assert (head.status_code, head.data) == (200, b"")
    for method in (client.post, client.put, client.delete, client.patch):
        assert method(HEALTH).status_code == 405


def test_health_is_below_the_url_prefix(make_live: Callable[..., Flask]) -> None:
    app = make_live(UPLOADS_URL_PREFIX="/media/files")
    assert health(app, "/media/files/_health")["status"] == "ok"
    assert app.test_client().get(HEALTH).status_code == 404


@pytest.mark.parametrize("path", ["/uploads//_health", "/uploads///_health"])
def test_no_spelling_of_health_redirects_to_the_host_in_the_request(path: str, make_live: Callable[..., Flask]) -> None:
    answer = make_live().test_client().get(path, headers={"Host": "evil.example"})
    assert answer.status_code == 404


def test_each_uploads_has_its_own_health(make_live: Callable[..., Flask]) -> None:
    app = make_live(DOCUMENTS_BACKEND=f"{__name__}:Counting")
    Uploads(app, name="documents")
    state_of(app, "documents").backend.error = BackendRefused("They refuse.")  # type: ignore[attr-defined]
    one, two = health(app), health(app, "/documents/_health")
    assert (one["http"], one["status"], two["http"], two["problem"]) == (200, "ok", 503, "They refuse.")


def test_health_answers_200_during_the_first_check(
    make_live: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "_HEALTH_WAIT", 0.05)
    app = make_live()
    backend_of(app).may_answer.clear()
    seen = health(app)
    assert (seen["http"], seen["status"], seen["store"], seen["problem"]) == (200, "starting", None, None)
    backend_of(app).may_answer.set()
    wait_for_check(app)
    assert health(app)["status"] == "ok"


def test_health_answers_503_if_the_store_never_answers(
    make_live: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]
) -> None:
    monkeypatch.setattr(monitor, "_HEALTH_WAIT", 0.05)
    app = make_live()
    backend_of(app).may_answer.clear()
    health(app)
    clock(monitor._STUCK_AFTER - 5)
    assert health(app)["http"] == 200, "each call has a timeout of its own and may just be slow"
    clock(6)
    seen = health(app)
    assert (seen["http"], seen["status"]) == (503, "failing")
    assert seen["problem"] == "The store has not answered for 60 s. Check whether its disk or its service works."
    backend_of(app).may_answer.set()
    wait_for_check(app)
    assert health(app)["http"] == 200


def test_health_answers_503_if_the_store_stops_answering(
    make_live: Callable[..., Flask], clock: Callable[[float], None]
) -> None:
    app = make_live()
    assert health(app)["status"] == "ok"
    backend_of(app).may_answer.clear()
    clock(301)
    assert health(app)["status"] == "ok", "the last result is valid until the new check ends"
    clock(monitor._STUCK_AFTER + 1)
    seen = health(app)
    assert (seen["http"], seen["problem"]) == (
        503,
        "The store has not answered for 60 s. Check whether its disk or its service works.",
    )


SECRET = "https://s3.example/b?X-Amz-Signature=hunter2 /srv/secret/path"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            BackendRefused("The bucket refuses the request.", remedy="Correct UPLOADS_S3_SECRET_ACCESS_KEY."),
            "The bucket refuses the request. Correct UPLOADS_S3_SECRET_ACCESS_KEY.",
        ),
        (BackendUnavailable("It is down."), "It is down."),
        (BackendTimeout("It did not answer in time."), "It did not answer in time."),
        (BackendFull("It is full."), "It is full."),
        (OSError(5, SECRET), "OSError"),
        (RuntimeError(SECRET), "RuntimeError"),
        (KeyError(SECRET), "KeyError"),
        (RecursionError(SECRET), "RecursionError"),
        (MemoryError(SECRET), "MemoryError"),
        (StopIteration(SECRET), "StopIteration"),
    ],
)
def test_health_answers_503_with_the_reason_if_the_store_fails(
    error: Exception, says: str, make_live: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    app = make_live(UPLOADS_STORE_ID="another")
    backend_of(app).error = error
    assert app.test_client().get("/").data == b"ready"
    wait_for_check(app)
    answer = app.test_client().get(HEALTH)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "15")
    assert answer.json is not None
    assert answer.json["status"] == "failing"
    assert says in answer.json["problem"]
    for _ in range(3):
        state_of(app).monitor._check()
    (record,) = (one for one in caplog.records if one.levelno >= logging.ERROR)
    assert record.getMessage().startswith("uploads: UPLOADS DO NOT WORK. ")
    assert says in record.getMessage()
    assert "hunter2" not in answer.text + caplog.text
    assert "/srv/" not in answer.text


@pytest.mark.parametrize("text", ["eu: west", 'a "quoted" value', "two\nlines", "{braces} it's", "\x1b[31mred"])
def test_a_problem_with_odd_characters_survives_the_log_and_the_json(
    text: str, make_live: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    app = make_live()
    error = BackendRefused(f"The region is {text}.", remedy=f"Set it: not {text}.", setting="AWS_REGION")
    error.leave_behind(["2026/secret-name.pdf"])
    backend_of(app).error = error
    seen = health(app)
    line = str(Problem(f"The region is {text}.", f"Set it: not {text}."))
    assert "\n" not in line
    assert seen["problem"] == line, "the keys of files are not for everybody"
    assert f"uploads: UPLOADS DO NOT WORK. {line}" in caplog.messages


def test_all_requests_for_the_health_share_one_check(make_live: Callable[..., Flask]) -> None:
    app = make_live()
    client = app.test_client()
    client.get(HEALTH)
    wait_for_check(app)
    seen = backend_of(app).calls
    assert {client.get(HEALTH).status_code for _ in range(100)} == {200}
    assert backend_of(app).calls == seen


@pytest.mark.parametrize(("backend", "seconds"), [("Counting", 300), ("Disk", 10)])
def test_a_new_check_starts_when_the_last_result_has_expired(
    backend: str,
    seconds: int,
    make_live: Callable[..., Flask],
    clock: Callable[[float], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Disk, "folder", tmp_path)
    app = make_live(UPLOADS_BACKEND=f"{__name__}:{backend}")
    health(app)
    wait_for_check(app)
    seen = backend_of(app).calls
    clock(seconds - 2)
    health(app)
    assert backend_of(app).calls == seen
    clock(3)
    health(app)
    wait_for_check(app)
    assert backend_of(app).calls > seen


@pytest.mark.parametrize(("backend", "seconds"), [("Counting", 60), ("Disk", 10)])
def test_a_failed_check_is_repeated_sooner_and_recovery_is_logged(
    backend: str,
    seconds: int,
    make_live: Callable[..., Flask],
    clock: Callable[[float], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(Disk, "folder", tmp_path)
    app = make_live(UPLOADS_BACKEND=f"{__name__}:{backend}")
    backend_of(app).error = BackendUnavailable("It is down.")
    assert health(app)["http"] == 503
    backend_of(app).error = None
    clock(seconds - 2)
    assert health(app)["http"] == 503
    clock(3)
    health(app)
    wait_for_check(app)
    seen = health(app)
    assert (seen["http"], seen["status"], seen["problem"]) == (200, "ok", None)
    assert seen["store"]
    with caplog.at_level(logging.INFO):
        assert "uploads: The store works again." in caplog.messages


def test_a_store_that_accepts_files_works_although_its_marker_is_unreadable(make_live: Callable[..., Flask]) -> None:
    app = make_live()
    backend_of(app).error, backend_of(app).accepts_files = BackendRefused("Reading is refused."), True
    seen = health(app)
    assert (seen["http"], seen["status"], seen["problem"], seen["store"]) == (200, "ok", "Reading is refused.", None)
    assert backend_of(app)._files == {}, "the probe is gone"


def test_a_disk_without_space_for_unprivileged_processes_is_a_503(
    make_live: Callable[..., Flask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "disk_space", lambda folder: mounts.DiskSpace(0, 1 << 30, 5, 10, False))
    seen = health(make_live(UPLOADS_BACKEND="local", UPLOADS_DIR=str(tmp_path / "disk")))
    assert (seen["http"], seen["problem"], seen["free_bytes"]) == (
        503,
        FULL,
        0,
    )
    assert seen["store"]


def test_checks_leave_at_most_one_file_if_nothing_can_be_deleted(make_live: Callable[..., Flask]) -> None:
    app = make_live()
    backend = backend_of(app)
    backend.error, backend.accepts_files, backend.keeps_files = BackendRefused("No."), True, True
    for _ in range(5):
        state_of(app).monitor._check()
    assert list(backend._files) == [f".uploads/probe-{state_of(app).monitor.host.id}.txt"]
    assert health(app)["http"] == 200, "it accepts files"


def test_only_a_disk_has_free_bytes(make_live: Callable[..., Flask], tmp_path: Path) -> None:
    assert health(make_live())["free_bytes"] is None
    app = make_live(UPLOADS_BACKEND="local", UPLOADS_DIR=str(tmp_path / "a"))
    assert 0 < health(app)["free_bytes"] <= shutil.disk_usage(tmp_path).total


# -- the alarm


def alarms(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "ANOTHER STORE" in record.getMessage()]


def test_the_alarm_is_logged_once_for_each_store_that_is_found(
    make_live: Callable[..., Flask], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_live(UPLOADS_BACKEND="local", UPLOADS_DIR=str(tmp_path / "disk"), UPLOADS_STORE_ID="another")
    (at_start,) = alarms(caplog)
    assert "but the store in use has no marker." in at_start
    for _ in range(3):
        state_of(app).monitor._check()
    result = alarms(caplog)[1:]
    assert len(result) == 1
    first = marker.read(state_of(app).backend)
    assert first is not None
    assert first.id in result[0]
    assert health(app)["alarm"]
    assert health(app)["http"] == 200
    shutil.rmtree(tmp_path / "disk")
    for _ in range(3):
        state_of(app).monitor._check()
    second = marker.read(state_of(app).backend)
    assert second is not None
    assert second.id != first.id
    assert len(alarms(caplog)) == 3
    assert second.id in alarms(caplog)[2]


def test_the_alarm_of_a_further_uploads_names_its_own_variable(
    make_live: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    app = make_live(DOCUMENTS_BACKEND=f"{__name__}:Counting", DOCUMENTS_STORE_ID="another")
    Uploads(app, name="documents")
    assert health(app)["status"] == "ok"
    seen = health(app, "/documents/_health")
    assert (seen["http"], seen["status"]) == (200, "alarm")
    assert seen["alarm"].endswith(f"Only if you changed the store on purpose, set DOCUMENTS_STORE_ID={seen['store']}.")
    (logged,) = alarms(caplog)
    assert logged.startswith("documents: ANOTHER STORE. The app expects the store another, ")


def test_the_expected_store_raises_no_alarm(
    make_live: Callable[..., Flask], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = marker.establish(LocalBackend(tmp_path / "disk")).id
    app = make_live(UPLOADS_BACKEND="local", UPLOADS_DIR=str(tmp_path / "disk"), UPLOADS_STORE_ID=here)
    assert health(app)["alarm"] is None
    assert alarms(caplog) == []


def test_health_reveals_no_secret_no_path_and_no_host_name(
    make_live: Callable[..., Flask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "_HEALTH_WAIT", 0.0)
    (tmp_path / "hunter2").mkdir()
    app = make_live(UPLOADS_BACKEND="local", UPLOADS_DIR=str(tmp_path / "hunter2"), UPLOADS_STORE_ID="another")
    (tmp_path / "hunter2" / ".uploads").write_text("in the way")
    texts = [app.test_client().get(HEALTH).text]
    wait_for_check(app)
    texts.append(app.test_client().get(HEALTH).text)
    (tmp_path / "hunter2" / ".uploads").unlink()
    state_of(app).monitor._check()
    texts.append(app.test_client().get(HEALTH).text)
    (tmp_path / "hunter2" / ".uploads" / "store.json").write_text("hello")
    state_of(app).monitor._check()
    texts.append(app.test_client().get(HEALTH).text)
    assert [json.loads(text)["status"] for text in texts][1:] == ["failing", "alarm", "alarm"]
    for text in texts:
        assert "hunter2" not in text
        assert str(tmp_path) not in text
        assert not any(name in text for name in detect(os.environ, "machine").names)


def test_an_unreadable_marker_is_logged_at_start_and_the_app_starts(
    make_live: Callable[..., Flask], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "disk" / ".uploads").mkdir(parents=True)
    (tmp_path / "disk" / ".uploads" / "store.json").write_text("hello")
    app = make_live(UPLOADS_BACKEND="local", UPLOADS_DIR=str(tmp_path / "disk"))
    (warning,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert warning.getMessage() == (
        "uploads: The marker of the store, .uploads/store.json, cannot be read. "
        "Delete it; the next start creates a new one."
    )
    seen = health(app)
    assert (seen["http"], seen["store"]) == (200, None)
    assert "Delete it" in seen["problem"]
    assert (tmp_path / "disk" / ".uploads" / "store.json").read_text() == "hello"


# -- real disks

ON_A_DISK = """
    sys.path.insert(0, os.environ["PYTHONPATH"])
    from flask import Flask
    from flask_persistent_uploads import Uploads
    app = Flask("tests", instance_path=str(folder / "instance"))
    app.config.update(UPLOADS_DIR=str(folder / "disk" / "uploads"), UPLOADS_PLATFORM="docker")
    Uploads(app)

    def seen():
        answer = app.test_client().get("/uploads/_health")
        return {"http": answer.status_code, **answer.json}
"""
SEEN = (
    ON_A_DISK
    + """
    print(json.dumps(seen()))
"""
)
SEEN_AFTER = (
    ON_A_DISK
    + """
    before = seen()
    os.system(f"cd {folder}/disk; {{ FILL; }} 2>/dev/null")
    app.extensions["flask_persistent_uploads"]["uploads"].state.monitor._check()
    print(json.dumps([before, seen()]))
"""
)


def test_live_a_full_disk_is_a_503(live: Callable[..., Any]) -> None:
    full = 'mkdir "$FOLDER/disk"; mount -t tmpfs -o size=64k none "$FOLDER/disk"; cd "$FOLDER/disk"; '
    seen = live(full + "mkdir uploads; dd if=/dev/zero of=big bs=1k count=100 2>/dev/null || true", SEEN)
    assert (seen["http"], seen["status"]) == (503, "failing")
    assert "is full" in seen["problem"]


def test_live_a_disk_without_free_inodes_is_a_503(live: Callable[..., Any]) -> None:
    mount = 'mkdir "$FOLDER/disk"; mount -t tmpfs -o size=1m,nr_inodes=4 none "$FOLDER/disk"; cd "$FOLDER/disk"; '
    seen = live(mount + "mkdir uploads; touch a b", SEEN)
    assert (seen["http"], seen["status"]) == (503, "failing")
    assert "is full" in seen["problem"]


@pytest.mark.parametrize(
    ("options", "fill"),
    [
        ("size=64k", "dd if=/dev/zero of=big bs=1k count=999"),
        ("size=1m,nr_inodes=20", "for i in $(seq 30); do touch $i; done"),
    ],
)
def test_live_a_disk_that_fills_up_after_the_marker_was_signed_is_a_503(
    options: str, fill: str, live: Callable[..., Any]
) -> None:
    mount = f'mkdir "$FOLDER/disk"; mount -t tmpfs -o {options} none "$FOLDER/disk"'
    before, after = live(mount, SEEN_AFTER.replace("FILL", fill))
    assert (before["http"], before["status"]) == (200, "ok")
    assert (after["http"], after["problem"]) == (503, FULL)
    assert after["store"] == before["store"]
    assert (after["free_bytes"] == 0) == ("inodes" not in options)


def test_live_a_read_only_disk_is_a_503(live: Callable[..., Any], tmp_path: Path) -> None:
    mount = 'mkdir "$FOLDER/disk"; mount -t tmpfs -o ro none "$FOLDER/disk"'
    seen = live(mount, SEEN)
    assert (seen["http"], seen["status"]) == (503, "failing")
    assert "disk" in seen["problem"]
    assert str(tmp_path) not in json.dumps(seen)


def test_live_a_disk_that_was_signed_and_became_read_only_is_a_503(live: Callable[..., Any], tmp_path: Path) -> None:
    mount = """
        mkdir "$FOLDER/disk"; mount -t tmpfs none "$FOLDER/disk"
        {python} -c 'import sys; sys.path.insert(0, "{root}"); from pathlib import Path
from flask_persistent_uploads.backends.local import LocalBackend
from flask_persistent_uploads.operations import marker, platform
marker.sign_in(LocalBackend(Path("{disk}")), platform.detect({{}}, "docker"))'
        mount -o remount,ro "$FOLDER/disk"
    """
    mount = textwrap.dedent(mount).format(python=sys.executable, root=ROOT, disk=tmp_path / "disk" / "uploads")
    seen = live(mount, SEEN)
    assert (seen["http"], seen["problem"]) == (503, "The disk for uploads is read-only. Mount it for writing.")
    assert seen["store"]


# -- processes

CHILDREN = """
import dataclasses, os, sys, time
{before}
from flask import Flask
from flask_persistent_uploads import Uploads
app = Flask("tests", instance_path=os.path.abspath("instance"))
uploads = Uploads(app)
app.add_url_rule("/", "index", lambda: "ready")
monitor = app.extensions["flask_persistent_uploads"]["uploads"].state.monitor
"""


def run(script: str, folder: Path) -> str:
    environment = clean_environment(PYTHONPATH=str(ROOT), UPLOADS_DIR=str(folder / "disk"))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("used", [False, True])
def test_each_child_of_a_fork_runs_its_own_check(used: bool, tmp_path: Path) -> None:
    script = CHILDREN.format(before="") + textwrap.dedent("""
        if {used}:
            app.test_client().get("/uploads/_health")
            monitor._thread.join()
            monitor._status = dataclasses.replace(monitor._status, expires=0)
        for _ in range(2):
            child = os.fork()
            if not child:
                assert monitor._thread is None or not monitor._thread.is_alive()
                answer = app.test_client().get("/uploads/_health")
                monitor._thread.join()
                print(answer.json["status"], answer.json["store"], flush=True)
                os._exit(0 if answer.status_code == 200 and monitor._status.marker else 1)
            assert os.waitpid(child, 0)[1] == 0
    """).format(used=used)
    lines = run(script, tmp_path).splitlines()
    assert len(lines) == 2
    assert len(set(lines)) == 1
    assert lines[0].startswith("ok ")


def test_a_child_forked_during_a_check_runs_its_own_check(tmp_path: Path) -> None:
    script = CHILDREN.format(before="") + textwrap.dedent("""
        from flask_persistent_uploads.operations import marker
        sign_in, parent = marker.sign_in, os.getpid()
        marker.sign_in = lambda *a: (time.sleep(0.5) if os.getpid() == parent else None, sign_in(*a))[1]
        app.test_client().get("/")
        assert monitor._thread.is_alive()
        child = os.fork()
        if not child:
            answer = app.test_client().get("/uploads/_health")
            print(answer.json["status"], flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        monitor._thread.join()
    """)
    assert run(script, tmp_path) == "ok\n"


def test_each_worker_of_a_preloaded_app_runs_its_own_check(tmp_path: Path) -> None:
    environment = {"UPLOADS_DIR": str(tmp_path / "disk")}
    with Gunicorn("tests.system.app:app", "-w", "2", "--preload", environment=environment, folder=tmp_path) as server:
        seen = [once(server.url, "GET", HEALTH) for _ in range(12)]
    assert {answer.status for answer in seen} == {200}
    assert len({json.loads(answer.data)["store"] for answer in seen}) == 1
    found = marker.read(LocalBackend(tmp_path / "disk"))
    assert found is not None
    assert len(found.instances) == 1


def test_with_gevent_no_request_waits_for_the_check(tmp_path: Path) -> None:
    script = CHILDREN.format(before="from gevent import monkey; monkey.patch_all()") + textwrap.dedent("""
        from flask_persistent_uploads.operations import marker
        sign_in = marker.sign_in
        marker.sign_in = lambda *a: (time.sleep(0.3), sign_in(*a))[1]
        start = time.monotonic()
        assert app.test_client().get("/").data == b"ready"
        assert time.monotonic() - start < 0.2
        print(app.test_client().get("/uploads/_health").json["status"])
    """)
    assert run(script, tmp_path) == "ok\n"


def test_a_monitor_without_an_app_gives_a_verdict_and_creates_nothing(tmp_path: Path) -> None:
    backend: Backend = LocalBackend(tmp_path / "disk")
    alone = StoreMonitor(backend, detect({}, "machine"), Settings(), environ={})
    assert alone.at_start().survives is not None
    assert not (tmp_path / "disk").exists()


class Elsewhere(Counting):
    """A service that declares that its files persist."""

    description = Description(persists=True)


def test_the_description_of_a_backend_decides_how_often_it_is_checked() -> None:
    host = detect({}, "machine")
    nearby = {kind: StoreMonitor(kind(), host, Settings(), environ={}).nearby for kind in (MemoryBackend, Disk)}
    assert nearby == {MemoryBackend: True, Disk: True}
    remote = StoreMonitor(Elsewhere(), host, Settings(), environ={})
    assert not remote.nearby
    assert remote.at_start().survives is True
    assert remote.health()[0]["survives"] is True


def test_a_status_cannot_be_changed() -> None:
    status = StoreStatus(backend="local", instance="0123456789ab")
    with pytest.raises(dataclasses.FrozenInstanceError):
        status.state = "ok"  # type: ignore[misc]


class ReadFails(LocalBackend):
    """A disk whose files can be listed but not read."""

    name = "breaking"

    def stat(self, key: str) -> Stat | None:
        return Stat(key, 1, marker._now())

    def open(self, key: str) -> IO[bytes]:
        raise OSError(5, "Input/output error", "/srv/hunter2")

    def save(
        self, key: str, stream: IO[bytes], *, content_type: str, size: int, filename: str, overwrite: bool = False
    ) -> str:
        raise OSError(5, "Input/output error", "/srv/hunter2")


def test_a_disk_error_while_reading_the_marker_does_not_keep_the_app_from_starting(
    make_live: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    app = make_live(UPLOADS_BACKEND=f"{__name__}:ReadFails")
    assert "uploads: An unexpected error occurred (OSError)." in caplog.text
    assert "hunter2" not in caplog.text
    assert health(app)["http"] == 503


class Rebuilding(MemoryBackend):
    """A backend of another package that copies each key, so that reserved keys are refused."""

    description = Description()

    def save(self, key: str, *args: Any, **more: Any) -> str:
        return super().save("".join(key), *args, **more)

    def stat(self, key: str) -> Stat | None:
        return super().stat("".join(key))


def test_a_backend_that_refuses_only_the_marker_is_healthy_and_reports_why(make_live: Callable[..., Flask]) -> None:
    app = make_live(UPLOADS_BACKEND=f"{__name__}:Rebuilding")
    app.test_client().get(HEALTH)
    wait_for_check(app)
    answer = app.test_client().get(HEALTH)
    result = json.loads(answer.text)
    assert (answer.status_code, result["status"]) == (200, "ok")
    assert "accepts this key" in result["problem"]
