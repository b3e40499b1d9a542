"""What a process knows of its store: looked at in the background, told in the log and at its health address."""

from __future__ import annotations

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
from flask_persistent_uploads.backends.local import LocalBackend
from flask_persistent_uploads.backends.memory import MemoryBackend
from flask_persistent_uploads.errors import BackendFull, BackendRefused, BackendTimeout, BackendUnavailable
from flask_persistent_uploads.operations import marker, mounts, watch
from flask_persistent_uploads.operations.platform import detect
from flask_persistent_uploads.operations.watch import Watch
from flask_persistent_uploads.serving.routes import State
from flask_persistent_uploads.stored import Stat

from ..conftest import PNG, MakeApp
from ..servers import ROOT, Gunicorn, clean_environment
from ..system.client import once
from . import test_mounts

live = test_mounts.live
HEALTH = "/uploads/_health"


class Counting(MemoryBackend):
    """Somebody else's store, which counts how often it is looked at, and fails or waits as it is told."""

    name = "counting"

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.error: Exception | None = None
        self.takes_files = self.keeps_files = False
        self.open_for_looks = threading.Event()
        self.open_for_looks.set()

    def stat(self, key: str) -> Stat | None:
        self.looks += 1
        self.open_for_looks.wait(30)
        if self.error is not None:
            raise self.error
        return super().stat(key)

    def save(
        self, key: str, stream: IO[bytes], *, content_type: str, size: int, filename: str, overwrite: bool = False
    ) -> str:
        if self.error is not None and not self.takes_files:
            raise self.error
        return super().save(key, stream, content_type=content_type, size=size, filename=filename, overwrite=overwrite)

    def delete(self, key: str) -> None:
        if self.keeps_files:
            raise BackendRefused("Nothing may be deleted.")
        super().delete(key)


class Disk(Counting):
    """The same, with a folder on this machine; the marker is read at the start, so that this does not count."""

    name = "disk"
    folder = Path("/no-such-folder")

    def filesystem_path(self, key: str) -> Path:
        return self.folder / keys.check(key)


def state_of(app: Flask, name: str = "uploads") -> State:
    state: State = app.extensions["flask_persistent_uploads"][name].state
    return state


def looked(app: Flask, name: str = "uploads") -> None:
    """Wait for the look that is under way."""
    thread = state_of(app, name).watch._thread
    assert thread is not None
    thread.join(10)
    assert not thread.is_alive()


def counting(app: Flask) -> Counting:
    backend = state_of(app).backend
    assert isinstance(backend, Counting)
    return backend


def health(app: Flask, path: str = HEALTH) -> dict[str, Any]:
    answer = app.test_client().get(path)
    return {"http": answer.status_code, **json.loads(answer.data)}


@pytest.fixture
def make_live(make_app: MakeApp) -> Iterator[Callable[..., Flask]]:
    """An app as it runs, and not under test; its looks are over when the test ends."""
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
            backend, thread = installed.state.backend, installed.state.watch._thread
            if isinstance(backend, Counting):
                backend.open_for_looks.set()
            if thread is not None and thread.ident is not None:
                thread.join(10)


@pytest.fixture
def make_disk(make_live: Callable[..., Flask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Flask]:
    monkeypatch.setattr(Disk, "folder", tmp_path)

    def make(**settings: Any) -> Flask:
        app = make_live(UPLOADS_BACKEND=f"{__name__}:Disk", **settings)
        counting(app).looks = 0
        return app

    return make


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """``clock(60)``: a minute goes by."""
    shift = 0.0

    def forward(seconds: float) -> None:
        nonlocal shift
        shift += seconds

    now = time.monotonic
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: now() + shift, sleep=time.sleep))
    return forward


# -- when it looks


def test_the_start_makes_nothing_and_is_quick(make_live: Callable[..., Flask], tmp_path: Path) -> None:
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


def test_the_start_reads_the_marker_of_a_disk_and_changes_nothing(
    make_live: Callable[..., Flask], tmp_path: Path
) -> None:
    backend = LocalBackend(tmp_path / "disk")
    marker.establish(backend)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    make_live(UPLOADS_BACKEND="local", UPLOADS_DIR=str(backend.directory))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_an_app_under_test_is_left_alone(make_disk: Callable[..., Flask], tmp_path: Path) -> None:
    app = make_disk()
    app.testing = True
    for _ in range(3):
        assert app.test_client().get("/").data == b"ready"
    assert state_of(app).watch._thread is None
    assert counting(app).looks == 0


def test_the_first_request_starts_one_look_and_later_ones_none(make_disk: Callable[..., Flask]) -> None:
    app = make_disk()
    assert counting(app).looks == 0
    assert list(request_started.receivers_for(app)) != []
    client = app.test_client()
    client.get("/")
    looked(app)
    first, seen = state_of(app).watch._thread, counting(app).looks
    assert seen >= 1
    assert list(request_started.receivers_for(app)) == []
    for _ in range(5):
        client.get("/")
    assert state_of(app).watch._thread is first
    assert counting(app).looks == seen


def test_a_service_is_looked_at_with_the_first_upload_and_not_before(make_live: Callable[..., Flask]) -> None:
    app = make_live()
    app.test_client().get("/")
    assert counting(app).looks == 0
    assert list(request_started.receivers_for(app)) == []
    with app.test_request_context():
        app.extensions["flask_persistent_uploads"]["uploads"].uploads.save(PNG, filename="a.png")
    looked(app)
    found = marker.read(state_of(app).backend)
    assert found is not None
    assert set(found.instances) == {state_of(app).watch.host.id}


def test_a_service_that_is_expected_is_looked_at_with_the_first_request(make_live: Callable[..., Flask]) -> None:
    app = make_live(UPLOADS_STORE_ID="another")
    app.test_client().get("/")
    looked(app)
    assert counting(app).looks >= 1


BUILDS = {
    "render": {"RENDER": "true", "RENDER_SERVICE_ID": "srv-1"},
    "fly": {"FLY_APP_NAME": "shop", "FLY_MACHINE_ID": "m1", "RELEASE_COMMAND": "1"},
}


@pytest.fixture(params=BUILDS)
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each platform in turn, while it builds or releases the app."""
    for name, value in {"UPLOADS_PLATFORM": "", **BUILDS[request.param]}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("build")
def test_an_app_that_is_built_or_released_marks_nothing(make_live: Callable[..., Flask], tmp_path: Path) -> None:
    app = make_live(UPLOADS_BACKEND="local", UPLOADS_DIR=str(tmp_path / "disk"))
    app.test_client().get("/")
    assert state_of(app).watch._thread is None
    seen = health(app)
    assert (seen["http"], seen["status"], seen["store"], seen["survives"]) == (200, "ok", None, None)
    assert not (tmp_path / "disk").exists()


@pytest.mark.usefixtures("build")
def test_an_app_that_is_built_or_released_raises_no_alarm_of_a_disk_that_is_not_mounted(
    make_live: Callable[..., Flask], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_live(UPLOADS_BACKEND="local", UPLOADS_DIR=str(tmp_path / "disk"), UPLOADS_STORE_ID="another")
    app.test_client().get("/")
    assert state_of(app).watch._thread is None
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.usefixtures("build")
def test_an_upload_while_the_app_is_built_or_released_marks_nothing(make_live: Callable[..., Flask]) -> None:
    app = make_live(UPLOADS_STORE_ID="another")
    with app.test_request_context():
        saved = app.extensions["flask_persistent_uploads"]["uploads"].uploads.save(PNG, filename="a.png")
    assert state_of(app).watch._thread is None
    health(app)
    looked(app)
    assert list(counting(app)._files) == [saved.key]


def test_no_request_waits_for_the_look(make_disk: Callable[..., Flask]) -> None:
    app = make_disk()
    counting(app).open_for_looks.clear()
    start = time.monotonic()
    assert app.test_client().get("/").data == b"ready"
    assert time.monotonic() - start < 0.5
    thread = state_of(app).watch._thread
    assert thread is not None
    assert thread.is_alive()


def test_a_hundred_first_requests_at_once_harm_nobody(make_disk: Callable[..., Flask]) -> None:
    app = make_disk()
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(app.test_client().get("/").status_code)) for _ in range(100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    looked(app)
    assert answers == [200] * 100
    found = marker.read(state_of(app).backend)
    assert found is not None
    assert len(found.instances) == 1


def test_where_no_thread_can_be_started_the_app_serves_all_the_same(
    make_disk: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoThread(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    app = make_disk()
    monkeypatch.setattr(watch, "Thread", NoThread)
    assert app.test_client().get("/").status_code == 200
    seen = health(app)
    assert (seen["http"], seen["status"]) == (200, "starting")
    monkeypatch.undo()
    assert health(app)["status"] == "ok", "the next who asks has it looked at"


def test_an_app_that_is_gone_is_not_held(make_app: MakeApp) -> None:
    gc.collect()
    before = len(request_started.receivers)
    app = make_app(UPLOADS_BACKEND="local")
    assert len(request_started.receivers) == before + 1
    dead = weakref.ref(app), weakref.ref(state_of(app).watch)
    del app
    gc.collect()
    assert [one() for one in dead] == [None, None]
    assert len(request_started.receivers) == before


# -- what it says


def test_health_says_what_the_store_is(make_live: Callable[..., Flask], tmp_path: Path) -> None:
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


def test_health_is_told_to_everybody_and_kept_by_nobody(make_live: Callable[..., Flask]) -> None:
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


def test_health_is_where_the_url_prefix_says(make_live: Callable[..., Flask]) -> None:
    app = make_live(UPLOADS_URL_PREFIX="/media/files")
    assert health(app, "/media/files/_health")["status"] == "ok"
    assert app.test_client().get(HEALTH).status_code == 404


@pytest.mark.parametrize("path", ["/uploads//_health", "/uploads///_health"])
def test_no_spelling_of_health_redirects_to_a_host_that_the_client_names(
    path: str, make_live: Callable[..., Flask]
) -> None:
    answer = make_live().test_client().get(path, headers={"Host": "evil.example"})
    assert answer.status_code == 404


def test_two_uploads_have_a_health_each(make_live: Callable[..., Flask]) -> None:
    app = make_live(DOCUMENTS_BACKEND=f"{__name__}:Counting")
    Uploads(app, name="documents")
    state_of(app, "documents").backend.error = BackendRefused("They refuse.")  # type: ignore[attr-defined]
    one, two = health(app), health(app, "/documents/_health")
    assert (one["http"], one["status"], two["http"], two["problem"]) == (200, "ok", 503, "They refuse.")


def test_health_says_200_while_the_first_look_is_under_way(
    make_live: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_PATIENCE", 0.05)
    app = make_live()
    counting(app).open_for_looks.clear()
    seen = health(app)
    assert (seen["http"], seen["status"], seen["store"], seen["problem"]) == (200, "starting", None, None)
    counting(app).open_for_looks.set()
    looked(app)
    assert health(app)["status"] == "ok"


def test_a_store_that_never_answers_is_a_503_after_a_while(
    make_live: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]
) -> None:
    monkeypatch.setattr(watch, "_PATIENCE", 0.05)
    app = make_live()
    counting(app).open_for_looks.clear()
    health(app)
    clock(watch._STUCK - 5)
    assert health(app)["http"] == 200, "its calls have an end of their own, and may just be slow"
    clock(6)
    seen = health(app)
    assert (seen["http"], seen["status"]) == (503, "failing")
    assert seen["problem"] == "The store has not answered for 60 s: see whether its disk or service works."
    counting(app).open_for_looks.set()
    looked(app)
    assert health(app)["http"] == 200


def test_a_store_that_ceases_to_answer_is_a_503_after_a_while(
    make_live: Callable[..., Flask], clock: Callable[[float], None]
) -> None:
    app = make_live()
    assert health(app)["status"] == "ok"
    counting(app).open_for_looks.clear()
    clock(301)
    assert health(app)["status"] == "ok", "the last look counts until the new one is over"
    clock(watch._STUCK + 1)
    seen = health(app)
    assert (seen["http"], seen["problem"]) == (
        503,
        "The store has not answered for 60 s: see whether its disk or service works.",
    )


SECRET = "https://s3.example/b?X-Amz-Signature=hunter2 /srv/secret/path"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            BackendRefused("The bucket refuses: check UPLOADS_S3_SECRET_ACCESS_KEY."),
            "check UPLOADS_S3_SECRET_ACCESS_KEY",
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
def test_a_store_that_fails_is_a_503_with_the_reason_and_the_app_serves_on(
    error: Exception, says: str, make_live: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    app = make_live(UPLOADS_STORE_ID="another")
    counting(app).error = error
    assert app.test_client().get("/").data == b"ready"
    looked(app)
    answer = app.test_client().get(HEALTH)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "15")
    assert answer.json is not None
    assert answer.json["status"] == "failing"
    assert says in answer.json["problem"]
    for _ in range(3):
        state_of(app).watch._look()
    (record,) = (one for one in caplog.records if one.levelno >= logging.ERROR)
    assert record.getMessage().startswith("uploads: UPLOADS DO NOT WORK. ")
    assert says in record.getMessage()
    assert "hunter2" not in answer.text + caplog.text
    assert "/srv/" not in answer.text


def test_a_look_is_shared_by_all_who_ask(make_live: Callable[..., Flask]) -> None:
    app = make_live()
    client = app.test_client()
    client.get(HEALTH)
    looked(app)
    seen = counting(app).looks
    assert {client.get(HEALTH).status_code for _ in range(100)} == {200}
    assert counting(app).looks == seen


@pytest.mark.parametrize(("backend", "seconds"), [("Counting", 300), ("Disk", 10)])
def test_a_look_is_taken_anew_when_its_time_is_over(
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
    looked(app)
    seen = counting(app).looks
    clock(seconds - 2)
    health(app)
    assert counting(app).looks == seen
    clock(3)
    health(app)
    looked(app)
    assert counting(app).looks > seen


@pytest.mark.parametrize(("backend", "seconds"), [("Counting", 60), ("Disk", 10)])
def test_a_store_that_failed_is_asked_soon_again_and_recovers(
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
    counting(app).error = BackendUnavailable("It is down.")
    assert health(app)["http"] == 503
    counting(app).error = None
    clock(seconds - 2)
    assert health(app)["http"] == 503
    clock(3)
    health(app)
    looked(app)
    seen = health(app)
    assert (seen["http"], seen["status"], seen["problem"]) == (200, "ok", None)
    assert seen["store"]
    with caplog.at_level(logging.INFO):
        assert "the store works again" in caplog.text


def test_a_store_that_takes_files_works_though_its_marker_cannot_be_read(make_live: Callable[..., Flask]) -> None:
    app = make_live()
    counting(app).error, counting(app).takes_files = BackendRefused("Reading is refused."), True
    seen = health(app)
    assert (seen["http"], seen["status"], seen["problem"], seen["store"]) == (200, "ok", "Reading is refused.", None)
    assert counting(app)._files == {}, "the probe is gone"


def test_a_disk_that_is_full_to_others_is_a_503_though_a_byte_of_ours_still_fits(
    make_live: Callable[..., Flask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "room", lambda folder: mounts.Room(0, 1 << 30, 5, 10, False))
    seen = health(make_live(UPLOADS_BACKEND="local", UPLOADS_DIR=str(tmp_path / "disk")))
    assert (seen["http"], seen["problem"], seen["free_bytes"]) == (
        503,
        "The disk for uploads is full: free some of it, or grow it.",
        0,
    )
    assert seen["store"]


def test_where_nothing_may_be_deleted_no_look_leaves_another_file(make_live: Callable[..., Flask]) -> None:
    app = make_live()
    backend = counting(app)
    backend.error, backend.takes_files, backend.keeps_files = BackendRefused("No."), True, True
    for _ in range(5):
        state_of(app).watch._look()
    assert list(backend._files) == [f".uploads/probe-{state_of(app).watch.host.id}.txt"]
    assert health(app)["http"] == 200, "it takes files"


def test_only_a_disk_of_this_machine_has_free_bytes(make_live: Callable[..., Flask], tmp_path: Path) -> None:
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
    assert "there is no marker here" in at_start
    for _ in range(3):
        state_of(app).watch._look()
    told = alarms(caplog)[1:]
    assert len(told) == 1
    first = marker.read(state_of(app).backend)
    assert first is not None
    assert first.id in told[0]
    assert health(app)["alarm"]
    assert health(app)["http"] == 200
    shutil.rmtree(tmp_path / "disk")
    for _ in range(3):
        state_of(app).watch._look()
    second = marker.read(state_of(app).backend)
    assert second is not None
    assert second.id != first.id
    assert len(alarms(caplog)) == 3
    assert second.id in alarms(caplog)[2]


def test_the_expected_store_raises_no_alarm(
    make_live: Callable[..., Flask], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = marker.establish(LocalBackend(tmp_path / "disk")).id
    app = make_live(UPLOADS_BACKEND="local", UPLOADS_DIR=str(tmp_path / "disk"), UPLOADS_STORE_ID=here)
    assert health(app)["alarm"] is None
    assert alarms(caplog) == []


def test_what_everybody_may_read_holds_no_secret_no_path_and_no_name_of_the_machine(
    make_live: Callable[..., Flask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_PATIENCE", 0.0)
    (tmp_path / "hunter2").mkdir()
    app = make_live(UPLOADS_BACKEND="local", UPLOADS_DIR=str(tmp_path / "hunter2"), UPLOADS_STORE_ID="another")
    (tmp_path / "hunter2" / ".uploads").write_text("in the way")
    texts = [app.test_client().get(HEALTH).text]
    looked(app)
    texts.append(app.test_client().get(HEALTH).text)
    (tmp_path / "hunter2" / ".uploads").unlink()
    state_of(app).watch._look()
    texts.append(app.test_client().get(HEALTH).text)
    (tmp_path / "hunter2" / ".uploads" / "store.json").write_text("hello")
    state_of(app).watch._look()
    texts.append(app.test_client().get(HEALTH).text)
    assert [json.loads(text)["status"] for text in texts][1:] == ["failing", "alarm", "alarm"]
    for text in texts:
        assert "hunter2" not in text
        assert str(tmp_path) not in text
        assert not any(name in text for name in detect(os.environ, "machine").names)


def test_a_marker_that_cannot_be_read_is_told_at_the_start_and_does_not_keep_it(
    make_live: Callable[..., Flask], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "disk" / ".uploads").mkdir(parents=True)
    (tmp_path / "disk" / ".uploads" / "store.json").write_text("hello")
    app = make_live(UPLOADS_BACKEND="local", UPLOADS_DIR=str(tmp_path / "disk"))
    (warning,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert ".uploads/store.json, cannot be read: delete it" in warning.getMessage()
    seen = health(app)
    assert (seen["http"], seen["store"]) == (200, None)
    assert "delete it" in seen["problem"]
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
    app.extensions["flask_persistent_uploads"]["uploads"].state.watch._look()
    print(json.dumps([before, seen()]))
"""
)


def test_live_a_full_disk_is_a_503(live: Callable[..., Any]) -> None:
    full = 'mkdir "$FOLDER/disk"; mount -t tmpfs -o size=64k none "$FOLDER/disk"; cd "$FOLDER/disk"; '
    seen = live(full + "mkdir uploads; dd if=/dev/zero of=big bs=1k count=100 2>/dev/null || true", SEEN)
    assert (seen["http"], seen["status"]) == (503, "failing")
    assert "is full" in seen["problem"]


def test_live_a_disk_without_room_for_another_file_is_a_503(live: Callable[..., Any]) -> None:
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
    assert (after["http"], after["problem"]) == (503, "The disk for uploads is full: free some of it, or grow it.")
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
    assert (seen["http"], seen["problem"]) == (503, "The disk for uploads is read-only: mount it for writing.")
    assert seen["store"]


# -- processes

CHILDREN = """
import os, sys, time
{before}
from flask import Flask
from flask_persistent_uploads import Uploads
app = Flask("tests", instance_path=os.path.abspath("instance"))
uploads = Uploads(app)
app.add_url_rule("/", "index", lambda: "ready")
watch = app.extensions["flask_persistent_uploads"]["uploads"].state.watch
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
def test_after_a_fork_each_child_looks_for_itself(used: bool, tmp_path: Path) -> None:
    script = CHILDREN.format(before="") + textwrap.dedent("""
        if {used}:
            app.test_client().get("/uploads/_health")
            watch._thread.join()
            watch._last = watch._last._replace(good_until=0)
        for _ in range(2):
            child = os.fork()
            if not child:
                assert watch._thread is None or not watch._thread.is_alive()
                answer = app.test_client().get("/uploads/_health")
                watch._thread.join()
                print(answer.json["status"], answer.json["store"], flush=True)
                os._exit(0 if answer.status_code == 200 and watch._last else 1)
            assert os.waitpid(child, 0)[1] == 0
    """).format(used=used)
    lines = run(script, tmp_path).splitlines()
    assert len(lines) == 2
    assert len(set(lines)) == 1
    assert lines[0].startswith("ok ")


def test_a_fork_in_the_middle_of_a_look_leaves_the_child_its_own(tmp_path: Path) -> None:
    script = CHILDREN.format(before="") + textwrap.dedent("""
        from flask_persistent_uploads.operations import marker
        sign_in, parent = marker.sign_in, os.getpid()
        marker.sign_in = lambda *a: (time.sleep(0.5) if os.getpid() == parent else None, sign_in(*a))[1]
        app.test_client().get("/")
        assert watch._thread.is_alive()
        child = os.fork()
        if not child:
            answer = app.test_client().get("/uploads/_health")
            print(answer.json["status"], flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        watch._thread.join()
    """)
    assert run(script, tmp_path) == "ok\n"


def test_workers_of_a_preloaded_app_look_each_for_itself(tmp_path: Path) -> None:
    environment = {"UPLOADS_DIR": str(tmp_path / "disk")}
    with Gunicorn("tests.system.app:app", "-w", "2", "--preload", environment=environment, folder=tmp_path) as server:
        seen = [once(server.url, "GET", HEALTH) for _ in range(12)]
    assert {answer.status for answer in seen} == {200}
    assert len({json.loads(answer.data)["store"] for answer in seen}) == 1
    found = marker.read(LocalBackend(tmp_path / "disk"))
    assert found is not None
    assert len(found.instances) == 1


def test_with_gevent_the_look_is_a_greenlet_and_no_request_waits(tmp_path: Path) -> None:
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


def test_what_is_asked_of_a_watch_without_an_app_is_the_verdict_alone(tmp_path: Path) -> None:
    backend: Backend = LocalBackend(tmp_path / "disk")
    alone = Watch(backend, detect({}, "machine"), environ={}, expected=None)
    assert alone.at_start().survives is not None
    assert not (tmp_path / "disk").exists()


class ReadFails(LocalBackend):
    """A disk that breaks between its listing and its bytes."""

    name = "breaking"

    def __init__(self) -> None:
        super().__init__(Path("/no-such-folder"))

    def stat(self, key: str) -> Stat | None:
        return Stat(key, 1, marker._now())

    def open(self, key: str) -> IO[bytes]:
        raise OSError(5, "Input/output error", "/srv/hunter2")

    def save(
        self, key: str, stream: IO[bytes], *, content_type: str, size: int, filename: str, overwrite: bool = False
    ) -> str:
        raise OSError(5, "Input/output error", "/srv/hunter2")


def test_a_disk_that_breaks_while_it_is_read_does_not_keep_the_app_from_starting(
    make_live: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    app = make_live(UPLOADS_BACKEND=f"{__name__}:ReadFails")
    assert "the marker of the store cannot be read" in caplog.text
    assert "hunter2" not in caplog.text
    assert health(app)["http"] == 503


class Rebuilding(MemoryBackend):
    """A third party's, which makes each key anew from text."""

    def save(self, key: str, *args: Any, **more: Any) -> str:
        return super().save("".join(key), *args, **more)

    def stat(self, key: str) -> Stat | None:
        return super().stat("".join(key))


def test_a_backend_that_takes_no_marker_but_files_is_healthy_and_told_why(make_live: Callable[..., Flask]) -> None:
    app = make_live(UPLOADS_BACKEND=f"{__name__}:Rebuilding")
    app.test_client().get(HEALTH)
    looked(app)
    answer = app.test_client().get(HEALTH)
    told = json.loads(answer.text)
    assert (answer.status_code, told["status"]) == (200, "ok")
    assert "pass keys on as they are" in told["problem"]
