"""Promise 5 with real processes: proof of persistence, alarms for a lost store, and instances with separate stores."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ..conftest import PNG, settings_of
from ..servers import ROOT, Gunicorn, RoundRobin, S3Server, clean_environment
from .client import fetch, once, save

APP = "tests.system.app:app"


def on_render(deploy: str, **more: str) -> dict[str, str]:
    return {
        "UPLOADS_PLATFORM": "",
        "RENDER": "true",
        "RENDER_SERVICE_ID": "srv-1",
        "RENDER_INSTANCE_ID": f"srv-1-{deploy}",
        **more,
    }


def health(url: str) -> dict[str, Any]:
    """Return the health of an app, after its first check: on a busy machine the import of an SDK takes seconds."""
    deadline = time.monotonic() + 30
    while True:
        answer = once(url, "GET", "/uploads/_health")
        assert answer.headers["Cache-Control"] == "no-store"
        body: dict[str, Any] = json.loads(answer.data)
        if body["status"] != "starting" or time.monotonic() > deadline:
            return {"http": answer.status, **body}


def doctor(*arguments: str, environment: Mapping[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "tests.system.app", "uploads", "doctor", *arguments],
        cwd=folder,
        env=clean_environment(PYTHONPATH=str(ROOT), COLUMNS="80", **environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_three_restarts_on_one_disk_are_counted_by_health_and_doctor(tmp_path: Path) -> None:
    disk = {"UPLOADS_DIR": str(tmp_path / "disk")}
    for deploy in ("first", "second", "third", "fourth"):
        log = tmp_path / f"{deploy}.log"
        with Gunicorn(APP, "-w", "2", environment=on_render(deploy, **disk), folder=tmp_path, log=log) as server:
            seen = [health(server.url) for _ in range(6)]
    assert {answer["http"] for answer in seen} == {200}
    assert {answer["restarts_survived"] for answer in seen} == {3}
    assert len({answer["store"] for answer in seen}) == 1
    assert {answer["instance"] for answer in seen} == {seen[0]["instance"]}
    assert {answer["survives"] for answer in seen} == {True}
    report = doctor("--offline", environment=on_render("fourth", **disk), folder=tmp_path)
    assert report.stdout.startswith("Uploads survive. ")
    assert "The store has survived 3 restarts since" in " ".join(report.stdout.split())
    # The first start warns, because the loss is only inferred. Later starts have proof.
    assert "UPLOADS WILL BE LOST. Render wipes the app's disk" in (tmp_path / "first.log").read_text()
    assert "UPLOADS WILL BE LOST" not in (tmp_path / "second.log").read_text()


def test_a_wiped_folder_raises_an_alarm_that_names_both_stores_and_their_ages(tmp_path: Path) -> None:
    disk, log = tmp_path / "disk", tmp_path / "log"
    environment = on_render("first", UPLOADS_DIR=str(disk))
    with Gunicorn(APP, environment=environment, folder=tmp_path) as server:
        (saved,) = save(server.url, ("f", "a.png", PNG))
        lost = health(server.url)["store"]
    shutil.rmtree(disk)
    environment = on_render("second", UPLOADS_DIR=str(disk), UPLOADS_STORE_ID=lost)
    with Gunicorn(APP, environment=environment, folder=tmp_path, log=log) as server:
        assert fetch(f"{server.url}/{saved['path']}").status == 404
        answer = health(server.url)
    assert answer["http"] == 200  # uploads work, on the wrong store
    assert answer["store"] not in {lost, None}
    for text in (
        answer["alarm"],
        log.read_text(),
        doctor("--offline", environment=environment, folder=tmp_path).stdout,
    ):
        plain = " ".join(text.split())
        assert f"The app expects the store {lost} (created " in plain
        assert f"but the store in use is {answer['store']} (created " in plain
        assert plain.count(" s ago") >= 2
    assert "Instance srv-1-second" in log.read_text()


def test_doctor_finds_two_stores_behind_a_load_balancer_and_no_fault_with_one_bucket(
    s3_server: S3Server, tmp_path: Path
) -> None:
    one, two = on_render("one", UPLOADS_DIR=str(tmp_path / "1")), on_render("two", UPLOADS_DIR=str(tmp_path / "2"))
    with (
        Gunicorn(APP, environment=one, folder=tmp_path) as first,
        Gunicorn(APP, environment=two, folder=tmp_path) as second,
        RoundRobin(first.url, second.url) as balancer,
    ):
        (saved,) = save(first.url, ("f", "a.png", PNG))
        assert {fetch(f"{balancer.url}/{saved['path']}").status for _ in range(2)} == {200, 404}
        report = doctor("--url", balancer.url, environment={"UPLOADS_BACKEND": "memory"}, folder=tmp_path)
    assert report.returncode == 1
    assert " ".join(report.stdout.split()).startswith(
        "2 instances use 2 different stores. "
        "Files saved by one instance are missing on the others, and some requests answer 404."
    )
    shared = s3_server.environment(UPLOADS_PREFIX="two-instances")
    with (
        Gunicorn(APP, environment=on_render("one", **shared), folder=tmp_path) as first,
        Gunicorn(APP, environment=on_render("two", **shared), folder=tmp_path) as second,
        RoundRobin(first.url, second.url) as balancer,
    ):
        report = doctor("--url", balancer.url, environment={"UPLOADS_BACKEND": "memory"}, folder=tmp_path)
    assert report.stdout.startswith("2 instances share 1 store.")
    assert report.returncode == 0


def test_a_copy_of_a_disk_is_distinguished_from_the_disk(tmp_path: Path) -> None:
    """A forked volume or a restored snapshot has the same marker, but not the same files."""
    one, two = tmp_path / "1", tmp_path / "2"
    with Gunicorn(APP, environment=on_render("one", UPLOADS_DIR=str(one)), folder=tmp_path) as first:
        health(first.url)
        shutil.copytree(one, two)
        with (
            Gunicorn(APP, environment=on_render("two", UPLOADS_DIR=str(two)), folder=tmp_path) as second,
            RoundRobin(first.url, second.url) as balancer,
        ):
            assert health(first.url)["store"] == health(second.url)["store"]
            report = doctor("--url", balancer.url, environment={"UPLOADS_BACKEND": "memory"}, folder=tmp_path)
    assert report.stdout.startswith("2 instances use 2 different stores. ")
    assert report.returncode == 1


def test_two_instances_on_one_disk_share_their_files(tmp_path: Path) -> None:
    disk = {"UPLOADS_DIR": str(tmp_path / "disk")}
    with (
        Gunicorn(APP, environment=on_render("one", **disk), folder=tmp_path) as first,
        Gunicorn(APP, environment=on_render("two", **disk), folder=tmp_path) as second,
        RoundRobin(first.url, second.url) as balancer,
    ):
        report = doctor("--url", balancer.url, environment={"UPLOADS_BACKEND": "memory"}, folder=tmp_path)
    assert report.stdout.startswith("2 instances share 1 store.")
    assert report.returncode == 0


@pytest.mark.parametrize("backend", ["s3", "cloudinary", "imagekit"])
def test_another_store_than_the_expected_one_raises_an_alarm_on_every_backend(
    request: pytest.FixtureRequest, tmp_path: Path, backend: str
) -> None:
    log = tmp_path / "log"
    environment = {**settings_of(backend, request), "UPLOADS_PREFIX": "marked", "UPLOADS_STORE_ID": "another"}
    with Gunicorn(APP, environment=environment, folder=tmp_path, log=log) as server:
        seen = health(server.url)
        assert seen["http"] == 200
        assert "The app expects the store another, but the store in use is " in seen["alarm"]
    assert f"but the store in use is {seen['store']} (created " in log.read_text()
    environment["UPLOADS_STORE_ID"] = seen["store"]
    with Gunicorn(APP, environment=environment, folder=tmp_path) as server:
        again = health(server.url)
    assert (again["store"], again["alarm"], again["status"]) == (seen["store"], None, "ok")


def test_a_store_that_refuses_is_a_503_while_the_app_still_serves_pages(s3_server: S3Server, tmp_path: Path) -> None:
    environment = s3_server.environment(UPLOADS_S3_SECRET_ACCESS_KEY="wrong")
    with Gunicorn(APP, environment=environment, folder=tmp_path) as server:
        seen = health(server.url)
        assert once(server.url, "GET", "/").status == 200
    assert (seen["http"], seen["status"]) == (503, "failing")
    assert "UPLOADS_S3_SECRET_ACCESS_KEY" in seen["problem"]
    assert "wrong" not in json.dumps(seen)


def test_many_requests_for_the_health_check_the_store_only_once(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with Gunicorn(APP, environment={"UPLOADS_DIR": str(disk)}, folder=tmp_path) as server:
        before = health(server.url)
        disk.rename(tmp_path / "elsewhere")
        assert [health(server.url) for _ in range(20)] == [before] * 20
