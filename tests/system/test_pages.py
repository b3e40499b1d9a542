"""Pages in a real browser. The page, the app and the bucket have three different origins."""

from __future__ import annotations

import contextlib
import random
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from playwright.sync_api import Browser, Error, Page

from flask_persistent_uploads.cli import uploads as commands

from ..conftest import PNG
from ..fakes.loopback import Handler, Loopback
from ..fakes.scripted import ScriptedS3, forward
from ..servers import Gunicorn, S3Server
from .client import save
from .test_redeploy import APP

THREADS = (
    "-k",
    "gthread",
    "--threads",
    "8",
    "--keep-alive",
    "0",
)  # connections kept by a browser would delay the shutdown
READ = "async url => Array.from(new Uint8Array(await (await fetch(url)).arrayBuffer()))"
LOADED = "() => Array.from(document.images, image => image.naturalWidth)"


class _Visit(Handler):
    def visit(self) -> None:
        pages = self.server.owner
        pages.visits.append(self.path)
        content_type, content = pages.files.get(self.path, ("text/html", b"<title>empty</title>"))
        self.send_response(200)
        for name, value in {"Content-Type": content_type, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = visit  # noqa: N815 - the name is http.server's


class Pages(Loopback):
    """A static site. :attr:`files` are its pages, all others are empty; :attr:`visits` are the requested paths."""

    handler = _Visit

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, tuple[str, bytes]] = {}
        self.visits: list[str] = []


class Bucket(ScriptedS3):
    """A new bucket on the real server, behind a proxy that records the browser's :attr:`requests`."""

    def __init__(self, server: S3Server) -> None:
        super().__init__(forward(server.url))
        self.name = f"pages-{uuid.uuid4().hex}"
        self._real = server
        server.client().create_bucket(Bucket=self.name)

    def environment(self, **more: str) -> dict[str, str]:
        own = {"UPLOADS_S3_BUCKET": self.name, "UPLOADS_S3_PUBLIC_ENDPOINT_URL": self.url}
        return self._real.environment(**own, **more)

    def allow(self, *origins: str) -> None:
        """Set the CORS rule that the documentation shows, for these origins."""
        rule = {"AllowedOrigins": [*origins], "AllowedMethods": ["GET", "HEAD"], "AllowedHeaders": ["*"]}
        rules = {"CORSRules": [{**rule, "MaxAgeSeconds": 3600}]}
        self._real.client().put_bucket_cors(Bucket=self.name, CORSConfiguration=rules)

    def origins(self) -> list[tuple[str, str | None]]:
        """Return the method and the ``Origin`` header of each request."""
        return [(request.method, request.headers.get("Origin")) for request in self.requests]


@pytest.fixture
def pages() -> Iterator[Pages]:
    with Pages() as site:
        yield site


@pytest.fixture
def bucket(s3_server: S3Server) -> Iterator[Bucket]:
    with Bucket(s3_server) as bucket:
        yield bucket


@pytest.fixture
def on_s3(bucket: Bucket, tmp_path: Path) -> Iterator[str]:
    """The URL of an app with its files in the bucket."""
    # Windows of days, so that none ends between two loads of a page.
    environment = bucket.environment(UPLOADS_URL_EXPIRES="604800")
    with Gunicorn(APP, *THREADS, environment=environment, folder=tmp_path) as server:
        yield server.url


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[str]:
    """The URL of an app with its files on disk."""
    with Gunicorn(APP, *THREADS, environment={"UPLOADS_DIR": str(tmp_path / "disk")}, folder=tmp_path) as server:
        yield server.url


@pytest.fixture
def page(browser: Browser, pages: Pages) -> Iterator[Page]:
    """An empty page of the site, in a browser with an empty cache."""
    with contextlib.closing(browser.new_context()) as context:
        page = context.new_page()
        page.goto(pages.url)
        yield page


def upload(app: str, *files: tuple[str, bytes]) -> list[str]:
    """Save files and return their URLs."""
    saved = save(app, *(("f", name, content) for name, content in files))
    return [f"{app}/{file['path']}" for file in saved]


def test_a_script_reads_the_file_through_the_redirect_if_the_bucket_allows_every_origin(
    page: Page, bucket: Bucket, on_s3: str
) -> None:
    bucket.allow("*")
    content = random.Random(5).randbytes(100_000)
    (address,) = upload(on_s3, ("Ärger & Glück.bin", content))
    assert bytes(page.evaluate(READ, address)) == content
    assert bucket.origins() == [("GET", "null")]


def test_a_script_reads_a_file_from_a_bucket_that_setup_created(
    page: Page, s3_server: S3Server, bucket: Bucket, tmp_path: Path
) -> None:
    s3_server.client().delete_bucket(Bucket=bucket.name)
    for _ in range(2):
        done = CliRunner().invoke(commands, ["setup", "s3", "--apply", "--yes"], env=bucket.environment())
        assert done.exit_code == 0, done.output
    content = random.Random(6).randbytes(100_000)
    with Gunicorn(APP, *THREADS, environment=bucket.environment(), folder=tmp_path) as server:
        (address,) = upload(server.url, ("a.bin", content))
        assert bytes(page.evaluate(READ, address)) == content
    assert bucket.origins() == [("GET", "null")]


@pytest.mark.parametrize("rule", ["none", "for the page's origin"])
def test_without_a_rule_for_every_origin_a_script_reads_nothing_because_the_origin_is_null(
    page: Page, pages: Pages, bucket: Bucket, on_s3: str, rule: str
) -> None:
    """Prove that the tests above can fail: the rule of the bucket decides."""
    if rule != "none":
        bucket.allow(pages.url)
    (address,) = upload(on_s3, ("a.png", PNG))
    with pytest.raises(Error, match="Failed to fetch"):
        page.evaluate(READ, address)
    assert bucket.origins() == [("GET", "null")]


def test_a_script_reads_a_file_on_disk_without_any_rule(page: Page, on_disk: str) -> None:
    (address,) = upload(on_disk, ("a.png", PNG))
    assert bytes(page.evaluate(READ, address)) == PNG


@pytest.mark.parametrize("app", ["on_s3", "on_disk"])
def test_a_page_of_another_origin_shows_pictures_without_any_rule(
    request: pytest.FixtureRequest, page: Page, pages: Pages, app: str
) -> None:
    (address,) = upload(request.getfixturevalue(app), ("a.png", PNG))
    html = f'<img src="{address}"><img src="{address.replace("a.png", "missing.png")}">'
    pages.files["/show"] = ("text/html", html.encode())
    page.goto(f"{pages.url}/show")
    assert page.evaluate(LOADED) == [1, 0]


def script(kind: str, beacon: str) -> tuple[str, str, bytes]:
    """Return the name, the type and the content of a file whose script requests the URL ``beacon``."""
    run = f"fetch('{beacon}', {{mode: 'no-cors'}})"
    if kind == "html":
        return "page.html", "text/html", f"<!doctype html><script>{run}</script>".encode()
    return (
        "drawing.svg",
        "image/svg+xml",
        f'<svg xmlns="http://www.w3.org/2000/svg"><script>{run}</script></svg>'.encode(),
    )


@pytest.mark.parametrize("kind", ["html", "svg"])
@pytest.mark.parametrize("app", ["on_s3", "on_disk"])
def test_an_upload_with_a_script_is_downloaded_and_its_script_does_not_run(
    request: pytest.FixtureRequest, page: Page, pages: Pages, app: str, kind: str
) -> None:
    name, content_type, content = script(kind, f"{pages.url}/ran")
    (address,) = upload(request.getfixturevalue(app), (name, content))
    with page.expect_download() as event, pytest.raises(Error, match="Download is starting"):
        page.goto(address)
    assert event.value.suggested_filename == name
    assert event.value.path().read_bytes() == content
    assert page.url == f"{pages.url}/"
    assert "/ran" not in pages.visits
    # On another site the same file does run its script.
    pages.files["/file"] = (content_type, content)
    with page.expect_response(f"{pages.url}/ran"):
        page.goto(f"{pages.url}/file")
    assert "/ran" in pages.visits


def test_a_page_of_twenty_pictures_requests_nothing_from_the_bucket_when_it_is_opened_again(
    page: Page, pages: Pages, bucket: Bucket, on_s3: str
) -> None:
    addresses = upload(on_s3, *((f"{number}.png", PNG) for number in range(20)))
    for path, query in {"/show": "", "/later": "?again"}.items():
        html = "".join(f'<img src="{address}{query}">' for address in addresses)
        pages.files[path] = ("text/html", html.encode())
    page.goto(f"{pages.url}/show")
    assert len(bucket.requests) == 20
    time.sleep(1.1)  # signatures contain the time in seconds
    for path in ("/show", "/later"):  # with cached redirects, and with new ones to the same URL
        with contextlib.closing(page.context.new_page()) as tab:
            tab.goto(f"{pages.url}{path}")
            assert tab.evaluate(LOADED) == [1] * 20
    assert len(bucket.requests) == 20
