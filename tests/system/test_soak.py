"""Longer runs, for ``make soak``: workers that are killed again and again, and a file of one gigabyte."""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import threading
import time
from pathlib import Path

import pytest

from ..conftest import settings_of
from ..servers import Gunicorn
from .client import fetch, form, once
from .test_redeploy import APP
from .test_resources import MEGABYTE, large_form, memory

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

SAVES, CLIENTS = 2000, 4


def client(server: Gunicorn, numbers: list[int], acknowledged: dict[str, bytes]) -> None:
    """Upload a file for each number, and record those that the app acknowledged."""
    for number in numbers:
        content = random.Random(number).randbytes(random.Random(number).choice((10, 10_000, 900_000)))
        try:
            answer = once(server.url, "POST", "/save", form(("f", f"{number}.bin", content)))
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)  # the worker was killed; the next one needs a moment
            continue
        if answer.status == 200:
            acknowledged[json.loads(answer.data)[0]["path"]] = content


@pytest.mark.parametrize("backend", ["local", "s3"])
def test_no_acknowledged_file_is_lost_or_altered_while_workers_are_killed(
    request: pytest.FixtureRequest, tmp_path: Path, backend: str
) -> None:
    acknowledged: dict[str, bytes] = {}
    arguments = ["-w", "2", "-k", "gthread", "--threads", "4"]
    with Gunicorn(APP, *arguments, environment=settings_of(backend, request), folder=tmp_path) as server:
        share = [list(range(start, SAVES, CLIENTS)) for start in range(CLIENTS)]
        clients = [threading.Thread(target=client, args=(server, numbers, acknowledged)) for numbers in share]
        for thread in clients:
            thread.start()
        kills = 0
        while any(thread.is_alive() for thread in clients):
            time.sleep(random.uniform(0.2, 1.0))
            for worker in server.workers()[:1]:
                server.end_worker(worker)
                kills += 1
        assert kills > 10
        assert len(acknowledged) > SAVES / 2
        for path, content in acknowledged.items():
            answer = fetch(f"{server.url}/{path}")
            assert (answer.status, hashlib.sha256(answer.data).digest()) == (200, hashlib.sha256(content).digest())
    if backend == "local":
        visible = [path for path in (tmp_path / "instance").rglob("*.bin") if not path.name.startswith(".uploads")]
        contents = {hashlib.sha256(path.read_bytes()).digest() for path in visible}
        sizes = {10, 10_000, 900_000}
        assert len(visible) >= len(acknowledged)
        assert {path.stat().st_size for path in visible} <= sizes
        assert {hashlib.sha256(content).digest() for content in acknowledged.values()} <= contents


@pytest.mark.parametrize("backend", ["local", "s3"])
def test_the_memory_stays_constant_while_a_gigabyte_is_uploaded(
    request: pytest.FixtureRequest, tmp_path: Path, backend: str
) -> None:
    environment = {"UPLOADS_MAX_SIZE": "2GB", **settings_of(backend, request)}
    with Gunicorn(APP, "--timeout", "300", environment=environment, folder=tmp_path) as server:
        (worker,) = server.workers()
        idle = memory(worker, "VmRSS")
        answer = once(server.url, "POST", "/check", large_form(1000 * MEGABYTE))
        highest = memory(worker, "VmHWM")
    assert answer.status == 200
    assert highest - idle < 44 << 20, (idle, highest)  # the SDK takes 25 of them; the first upload imports it
