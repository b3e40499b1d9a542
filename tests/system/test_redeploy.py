"""Promises 1 and 2 with real processes: saved files outlive the machine."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from urllib.parse import quote

import pytest

from ..conftest import PNG, settings_of
from ..servers import Gunicorn
from .client import fetch, save

APP = "tests.system.app:app"
REMOTE = ("s3", "cloudinary", "imagekit")


def files() -> list[tuple[str, str, bytes]]:
    rng = random.Random(1)
    sizes = [0, 1, 100, 65_533, 1_000_000, 17_000_000]
    return [("f", f"EVENT {number} (1).bin", rng.randbytes(size)) for number, size in enumerate(sizes)] + [
        ("photo", "🧩 photo.png", PNG)
    ]


def redeploy(server: Gunicorn, folder: Path) -> None:
    """Replace the machine as a host does: it ends at once, and the next one has an empty disk."""
    server.kill()
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize("backend", REMOTE)
def test_all_files_in_a_service_are_there_after_a_redeploy(
    request: pytest.FixtureRequest, tmp_path: Path, backend: str
) -> None:
    keeps_empty = backend == "s3"  # the other services refuse empty files
    folder, sent = tmp_path / "machine", [file for file in files() if file[2] or keeps_empty]
    folder.mkdir()
    environment = {**settings_of(backend, request), "UPLOADS_MAX_SIZE": "100MB"}
    if backend == "s3":
        environment["S3_BUCKET_NAME"] = "ignored-as-ours-wins"
    with Gunicorn(APP, "-w", "2", environment=environment, folder=folder) as before:
        saved = save(before.url, *sent)
        redeploy(before, folder)
    with Gunicorn(APP, "-k", "gthread", "--threads", "4", environment=environment, folder=folder) as after:
        assert after.port != before.port
        answers = [fetch(f"{after.url}/{quote(file['path'])}") for file in saved]
    assert [answer.status for answer in answers] == [200] * len(sent)
    assert sorted(answer.data for answer in answers) == sorted(content for _, _, content in sent)
    assert list(folder.iterdir()) == []


def test_all_files_on_a_persistent_disk_are_there_after_a_redeploy(tmp_path: Path) -> None:
    folder, disk = tmp_path / "machine", tmp_path / "disk"
    folder.mkdir()
    environment = {"MEDIA_ROOT": str(disk / "media")}
    with Gunicorn(APP, environment=environment, folder=folder) as before:
        saved = save(before.url, *files())
        redeploy(before, folder)
    with Gunicorn(APP, environment=environment, folder=folder) as after:
        answers = [fetch(f"{after.url}/{quote(file['path'])}") for file in saved]
    assert sorted(answer.data for answer in answers) == sorted(content for _, _, content in files())


def test_files_on_the_machines_own_disk_are_lost_and_answer_404(tmp_path: Path) -> None:
    """Prove that the tests above can fail: a wiped disk loses files."""
    folder = tmp_path / "machine"
    folder.mkdir()
    log = tmp_path / "log"
    with Gunicorn(APP, environment={"RENDER": "true", "UPLOADS_PLATFORM": ""}, folder=folder, log=log) as before:
        (saved,) = save(before.url, ("f", "a.png", PNG))
        assert fetch(f"{before.url}/{saved['path']}").data == PNG
        redeploy(before, folder)
    assert log.read_text().count("UPLOADS WILL BE LOST. Render wipes the app's disk") == 1
    with Gunicorn(APP, environment={}, folder=folder) as after:
        assert fetch(f"{after.url}/{saved['path']}").status == 404


@pytest.mark.parametrize("backend", REMOTE)
@pytest.mark.parametrize("workers", [["-k", "sync"], ["-k", "gthread", "--threads", "4"], ["-k", "gevent"]])
def test_every_kind_of_worker_saves_many_files_at_once(
    request: pytest.FixtureRequest, tmp_path: Path, backend: str, workers: list[str]
) -> None:
    rng = random.Random(2)
    sent = [("f", f"{number}.bin", rng.randbytes(200_000)) for number in range(20)]
    with Gunicorn(APP, *workers, environment=settings_of(backend, request), folder=tmp_path) as server:
        saved = save(server.url, *sent)
        contents = [fetch(f"{server.url}/{file['path']}").data for file in saved]
    assert contents == [content for _, _, content in sent]
