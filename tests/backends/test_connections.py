"""Connections of the backends for services: no process uses those of another, and a busy process keeps its own."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flask_persistent_uploads.backends.cloudinary import CloudinaryBackend
from flask_persistent_uploads.backends.downloads import download
from flask_persistent_uploads.backends.s3 import S3Backend
from flask_persistent_uploads.errors import BackendRefused

from ..fakes.cloudinary import FakeCloudinary
from ..fakes.imagekit import FakeImageKit
from ..fakes.relay import Relay
from ..fakes.service import Answer, FakeService, Request
from ..servers import ACCESS_KEY_ID, BUCKET, ROOT, SECRET_ACCESS_KEY, S3Server, clean_environment

# The parent process uses every client of the backend. Then each of four children uses them, all at the same time.
FORKING = textwrap.dedent(
    """
    import importlib, io, json, os, sys, time, traceback

    kind, options = sys.argv[1], json.loads(sys.argv[2])
    module = importlib.import_module(f"flask_persistent_uploads.backends.{kind.lower().removesuffix('backend')}")
    backend = getattr(module, kind)(**options)

    def is_wrong(process, number):
        key, content = f"of-{process}/{number}.bin", f"{process} {number} ".encode() * 3000
        backend.save(key, io.BytesIO(content), content_type="a/b", size=len(content), filename="a.bin")
        with backend.open(key) as stream:
            same = stream.read() == content
        stat = backend.stat(key)
        return not same or stat is None or (stat.key, stat.size) != (key, len(content))

    assert not is_wrong("parent", 0)
    deadline = time.monotonic() + 5
    while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < deadline:
        time.sleep(0.001)  # a thread that ends during a fork can leave a lock of OpenSSL locked in the children
    children = []
    ready, go = os.pipe()
    for number in range(4):
        child = os.fork()
        if not child:
            wrong = 50
            try:
                os.close(go)
                os.read(ready, 1)  # returns for all children when the parent closes its end
                wrong = sum(is_wrong(f"child-{number}", turn) for turn in range(10))
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(wrong)
        children.append(child)
    os.close(go)
    print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
    """
)
PROCESSES = ("of-parent", "of-child-0", "of-child-1", "of-child-2", "of-child-3")


def s3(url: str) -> dict[str, Any]:
    keys = {"access_key_id": ACCESS_KEY_ID, "secret_access_key": SECRET_ACCESS_KEY}
    return {"bucket": BUCKET, "endpoint_url": url, **keys}


def cloudinary(url: str, *, private: bool = False) -> dict[str, Any]:
    account = {"cloud_name": "demo", "api_key": "key", "api_secret": "secret"}
    return {**account, "public_url": f"{url}/demo", "upload_prefix": url, "private": private}


def imagekit(url: str, *, private: bool = False) -> dict[str, Any]:
    return {"private_key": "private_x", "url_endpoint": f"{url}/ik/demo", "base_url": url, "private": private}


class TestForks:
    """A connection that two processes share gives the answers for one of them to the other."""

    @staticmethod
    def assert_each_process_has_its_own(kind: str, relay: Relay, options: dict[str, Any]) -> None:
        command = [sys.executable, "-W", "error", "-W", "ignore:unclosed:ResourceWarning", "-c", FORKING]
        done = subprocess.run(
            [*command, kind, json.dumps(options)],
            env=clean_environment(PYTHONPATH=str(ROOT)),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        users = relay.senders(PROCESSES)
        assert [shared for shared in users if len(shared) > 1] == []
        assert set().union(*users) == set(PROCESSES)
        assert (json.loads(done.stdout or "null"), done.stderr) == ([0, 0, 0, 0], "")

    def test_each_process_has_its_own_s3_connections(self, s3_server: S3Server) -> None:
        with Relay(s3_server.url) as relay:
            self.assert_each_process_has_its_own("S3Backend", relay, s3(relay.url))

    @pytest.mark.parametrize("private", [False, True], ids=["public", "private"])
    def test_each_process_has_its_own_cloudinary_connections(self, private: bool) -> None:
        with FakeCloudinary() as fake, Relay(fake.url) as relay:
            fake.add(cloud="demo", api_key="key", api_secret="secret")
            options = cloudinary(relay.url, private=private)
            self.assert_each_process_has_its_own("CloudinaryBackend", relay, options)

    @pytest.mark.parametrize("private", [False, True], ids=["public", "private"])
    def test_each_process_has_its_own_imagekit_connections(self, private: bool) -> None:
        with FakeImageKit() as fake, Relay(fake.url) as relay:
            fake.add(private_key="private_x")
            options = imagekit(relay.url, private=private)
            self.assert_each_process_has_its_own("ImageKitBackend", relay, options)


class Rendezvous(FakeService):
    """Answers when ``size`` requests have arrived, so that as many connections are in use at the same time."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._barrier = threading.Barrier(size)

    def handle(self, request: Request) -> Answer:
        self._barrier.wait(20)
        if request.method == "DELETE":
            return Answer(204)
        return Answer.json(200, {"result": "ok", "created_at": "2026-01-01T00:00:00Z", "bytes": 1})


Call = Callable[[str], object]


def s3_delete(url: str) -> Call:
    return S3Backend(**s3(url)).delete


def cloudinary_delete(url: str) -> Call:
    """Use the connections of Cloudinary's upload API."""
    return CloudinaryBackend(**cloudinary(url)).delete


def cloudinary_stat(url: str) -> Call:
    """Use the connections of Cloudinary's admin API."""
    return CloudinaryBackend(**cloudinary(url)).stat


def download_from(url: str) -> Call:
    def refused(status: int) -> BackendRefused:
        return BackendRefused(f"The service answered {status}.")

    def read(key: str) -> bytes:
        with download(key, f"{url}/{key}", timeout=20, stat=lambda _: None, refused=refused) as stream:
            return stream.read()

    return read


class TestPools:
    """A connection that is closed after each request costs the next one a new handshake."""

    @pytest.mark.parametrize(
        ("connect", "threads"), [(s3_delete, 32), (cloudinary_delete, 32), (cloudinary_stat, 32), (download_from, 16)]
    )
    def test_threads_that_work_at_the_same_time_keep_their_connections(
        self, connect: Callable[[str], Call], threads: int
    ) -> None:
        with Rendezvous(threads) as fake, Relay(fake.url) as relay, ThreadPoolExecutor(threads) as pool:
            call = connect(relay.url)
            for _ in range(3):
                list(pool.map(call, map(str, range(threads))))
            opened = len(relay.sent)
            assert (len(fake.requests), opened) == (3 * threads, threads)
