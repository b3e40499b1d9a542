"""The numbers of requests in ``docs/costs.md``, counted at the servers that receive them."""

from __future__ import annotations

import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask

from flask_persistent_uploads import StoredFile, Uploads

from ..conftest import PNG, MakeApp
from ..fakes.cloudinary import FakeCloudinary
from ..fakes.imagekit import FakeImageKit
from ..fakes.scripted import ScriptedS3, answer, forward, where
from ..servers import ROOT, S3Server
from .client import fetch

PAGE = (ROOT / "docs/costs.md").read_text()
PICTURE = PNG + bytes(100_000 - len(PNG))

#: The name of a request in the tables, by what its method and target look like; the first match counts.
REQUESTS = {
    "s3": (
        (r"POST \S+[?&]uploads", "CreateMultipartUpload"),
        (r"POST \S+[?&]uploadId=", "CompleteMultipartUpload"),
        (r"PUT \S+[?&]partNumber=", "UploadPart"),
        (r"PUT ", "PutObject"),
        (r"GET \S+[?&]list-type=2", "ListObjectsV2"),
        (r"GET ", "GetObject"),
        (r"HEAD ", "HeadObject"),
        (r"DELETE ", "DeleteObject"),
    ),
    "cloudinary": (
        (r"POST \S+/upload$", "upload"),
        (r"POST \S+/destroy$", "destroy"),
        (r"GET \S+/resources/\w+/\w+/", "resource"),
        (r"GET \S+/resources/", "resources"),
        (r"GET /v1_1/\S+/download\?", "download"),
        (r"GET /demo/", "delivery"),
    ),
    "imagekit": (
        (r"POST \S+/upload$", "upload"),
        (r"POST \S+/purge$", "purge"),
        (r"GET /v1/files\?", "search"),
        (r"DELETE /v1/files/", "delete"),
        (r"GET /ik/", "delivery"),
    ),
}


@dataclass
class Account:
    """An empty account of a service. ``log`` holds the requests that reached it."""

    service: str
    settings: dict[str, str]
    log: Sequence[Any]
    make_app: MakeApp
    seen: int = field(default=0)

    def process(self, instance: str = "one") -> Process:
        """Start the app in what stands for a process of its own, on the instance of this name."""
        uploads = Uploads()
        where = {"UPLOADS_PLATFORM": "koyeb"}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KOYEB_INSTANCE_ID", instance)
            app = self.make_app(uploads, **self.settings, **where)
        return Process(app, uploads)

    def forget(self) -> None:
        """Leave out of the count what has been requested so far."""
        self.seen = len(self.log)

    def counted(self) -> str:
        """Return the requests since :meth:`forget` as the page writes them: ``1 HeadObject, 1 GetObject``."""
        # boto3 repeats what takes too long, as anything may on a busy machine.
        first_attempts = (each for each in list(self.log)[self.seen :] if not _is_repeated(each))
        names = Counter(map(self._name, first_attempts))
        return ", ".join(f"{number} {name}" for name, number in names.items()) or "none"

    def _name(self, request: Any) -> str:
        line = f"{request.method} {getattr(request, 'target', None) or request.path}"
        return next(name for pattern, name in REQUESTS[self.service] if re.match(pattern, line))


def _is_repeated(request: Any) -> bool:
    attempt = request.headers.get("amz-sdk-request", "attempt=1")
    return not attempt.startswith("attempt=1")


@dataclass
class Process:
    app: Flask
    uploads: Uploads

    def save(self, content: bytes = PICTURE, filename: str = "a.png") -> StoredFile:
        with self.app.test_request_context():
            return self.uploads.save(content, filename=filename)

    def check(self) -> None:
        """Request the health check until a check of the store has ended."""
        client = self.app.test_client()
        deadline = time.monotonic() + 20
        while client.get("/uploads/_health").get_json()["status"] == "starting":
            assert time.monotonic() < deadline


@pytest.fixture(params=REQUESTS)
def account(request: pytest.FixtureRequest, make_app: MakeApp, s3_server: S3Server) -> Iterator[Account]:
    with ExitStack() as stack:
        if request.param == "s3":
            s3 = stack.enter_context(ScriptedS3(forward(s3_server.url)))
            prefix = f"costs-{uuid.uuid4().hex}"
            settings = s3_server.environment(UPLOADS_S3_ENDPOINT_URL=s3.url, UPLOADS_PREFIX=prefix)
            yield Account("s3", settings, s3.requests, make_app)
        elif request.param == "cloudinary":
            cloudinary = stack.enter_context(FakeCloudinary())
            plan = cloudinary.add().max_bytes
            plan.update(dict.fromkeys(plan, 1 << 30))
            settings = {
                "UPLOADS_CLOUDINARY_URL": "cloudinary://key:secret@demo",
                "UPLOADS_CLOUDINARY_UPLOAD_PREFIX": cloudinary.url,
                "UPLOADS_PUBLIC_URL": f"{cloudinary.url}/demo",
            }
            yield Account("cloudinary", settings, cloudinary.requests, make_app)
        else:
            imagekit = stack.enter_context(FakeImageKit())
            plan = imagekit.add().max_bytes
            plan.update(dict.fromkeys(plan, 1 << 30))
            settings = {
                "UPLOADS_IMAGEKIT_PRIVATE_KEY": "private_x",
                "UPLOADS_IMAGEKIT_URL_ENDPOINT": f"{imagekit.url}/ik/demo",
                "UPLOADS_IMAGEKIT_BASE_URL": imagekit.url,
            }
            yield Account("imagekit", settings, imagekit.requests, make_app)


# -- what the rows of the page stand for. Each function leaves only its own requests to be counted.


def start_a_process(account: Account) -> None:
    account.process()


def show_a_page(account: Account) -> None:
    process = account.process()
    path = process.save()
    account.forget()
    with process.app.test_request_context():
        process.uploads.url(path)
        process.uploads.direct_url(path)
    for method in (process.app.test_client().get, process.app.test_client().head):
        assert method(f"/uploads/{path.key}").status_code == 302


def follow_the_redirect(account: Account) -> None:
    process = account.process()
    path = process.save()
    location = process.app.test_client().get(f"/uploads/{path.key}").location
    account.forget()
    assert fetch(location).data == PICTURE


def save_a_small_file(account: Account) -> None:
    account.process().save()


def save_a_large_file(account: Account) -> None:
    account.process().save(bytes(20_000_000), "a.bin")


def stat_a_file(account: Account) -> None:
    path = account.process().save()
    process = account.process()
    account.forget()
    with process.app.app_context():
        assert process.uploads.stat(path) is not None


def stat_a_missing_file(account: Account) -> None:
    process = account.process()
    with process.app.app_context():
        assert process.uploads.stat("missing.png") is None


def read_a_file(account: Account) -> None:
    path = account.process().save()
    process = account.process()
    account.forget()
    with process.app.app_context(), process.uploads.open(path) as stream:
        assert stream.read() == PICTURE


def delete_a_file(account: Account) -> None:
    path = account.process().save()
    process = account.process()
    account.forget()
    with process.app.app_context():
        process.uploads.delete(path)


def delete_an_own_file(account: Account) -> None:
    process = account.process()
    path = process.save()
    account.forget()
    with process.app.app_context():
        process.uploads.delete(path)


def list_the_files(account: Account) -> None:
    process = account.process()
    process.save()
    account.forget()
    with process.app.app_context():
        assert len(list(process.uploads.entries())) == 1


def check_a_new_store(account: Account) -> None:
    account.process().check()


def check_on_a_new_instance(account: Account) -> None:
    account.process("one").check()
    account.forget()
    account.process("two").check()


def check_again(account: Account) -> None:
    account.process("one").check()
    account.forget()
    account.process("one").check()


def request_the_health_check_again(account: Account) -> None:
    process = account.process()
    process.check()
    account.forget()
    process.check()


ROWS: dict[str, Callable[[Account], None]] = {
    "A process of the app starts": start_a_process,
    "A page links to a file, and the app redirects to it": show_a_page,
    "A browser follows the redirect": follow_the_redirect,
    "A file of 100 kB is saved": save_a_small_file,
    "A file of 20 MB is saved": save_a_large_file,
    "`stat()`": stat_a_file,
    "`stat()` of a missing file": stat_a_missing_file,
    "`open()`": read_a_file,
    "`delete()`": delete_a_file,
    "`delete()` by the process that saved the file": delete_an_own_file,
    "`entries()`, up to 500 files": list_the_files,
    "First check of a new store": check_a_new_store,
    "First check on a new instance or deploy": check_on_a_new_instance,
    "Each later check": check_again,
    "The health check is requested again within five minutes": request_the_health_check_again,
}
COLUMNS = ("s3", "cloudinary", "imagekit")


def table() -> dict[str, tuple[str, ...]]:
    """Return the table of requests in the page: the cells of each row, by its first one."""
    start = PAGE.index("| | S3 | Cloudinary | ImageKit |")
    lines = PAGE[start : PAGE.index("\n\n", start)].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: tuple(cells) for first, *cells in rows}


def test_every_row_of_the_page_is_counted() -> None:
    assert list(table()) == list(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_the_page_tells_the_requests_that_are_made(account: Account, row: str) -> None:
    ROWS[row](account)
    assert account.counted() == table()[row][COLUMNS.index(account.service)]


def test_a_service_without_conditional_writes_needs_the_requests_that_the_page_tells(
    make_app: MakeApp, s3_server: S3Server
) -> None:
    refuses = where(
        lambda exchange: "If-None-Match" in exchange.headers, answer(501, "NotImplemented"), forward(s3_server.url)
    )
    with ScriptedS3(refuses) as s3:
        prefix = f"costs-{uuid.uuid4().hex}"
        settings = s3_server.environment(UPLOADS_S3_ENDPOINT_URL=s3.url, UPLOADS_PREFIX=prefix)
        account = Account("s3", settings, s3.requests, make_app)
        account.process().save()
        assert f"needs {account.counted().replace(', 1 List', ' and 1 List')}." in PAGE


@pytest.mark.parametrize("account", ["s3"], indirect=True)
@pytest.mark.parametrize("beyond", [0, 1])
def test_files_above_the_size_that_the_page_tells_are_sent_in_parts(account: Account, beyond: int) -> None:
    one_request, part = (
        int(found[1]) << 20
        for pattern in (r"a file of up to (\d+) MiB is one PutObject", r"in parts of (\d+) MiB")
        if (found := re.search(pattern, PAGE))
    )
    size = one_request + beyond
    account.process().save(bytes(size), "a.bin")
    in_parts = f"1 CreateMultipartUpload, {-(-size // part)} UploadPart, 1 CompleteMultipartUpload"
    assert account.counted() == (in_parts if beyond else "1 PutObject")


def test_a_run_of_the_doctor_makes_fewer_requests_than_the_page_tells(account: Account) -> None:
    app = account.process().app
    app.test_cli_runner().invoke(args=["uploads", "doctor"])
    found = re.search(r"`flask uploads doctor` makes fewer than (\d+) requests", PAGE)
    assert found
    assert 5 < len(account.log) < int(found[1])
