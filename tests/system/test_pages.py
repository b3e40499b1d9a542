"""Pages in a real browser: a page on one origin, the app on another, and the bucket on a third."""

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

THREADS = ("-k", "gthread", "--threads", "8", "--keep-alive", "0")  # connections that a browser keeps delay its end
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
    """A static site of :attr:`files`, and of empty pages elsewhere; :attr:`visits` are the paths asked for."""

    handler = _Visit

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, tuple[str, bytes]] = {}
        self.visits: list[str] = []


class Bucket(ScriptedS3):
    """A bucket of its own on the real server, as browsers reach it: :attr:`requests` is what they asked it for."""

    def __init__(self, server: S3Server) -> None:
        super().__init__(forward(server.url))
        self.name = f"pages-{uuid.uuid4().hex}"
        self._real = server
        server.client().create_bucket(Bucket=self.name)

    def environment(self, **more: str) -> dict[str, str]:
        own = {"UPLOADS_S3_BUCKET": self.name, "UPLOADS_S3_PUBLIC_ENDPOINT_URL": self.url}
        return self._real.environment(**own, **more)

    def allow(self, *origins: str) -> None:
        """The CORS rule of the README, for these origins."""
        rule = {"AllowedOrigins": [*origins], "AllowedMethods": ["GET", "HEAD"], "AllowedHeaders": ["*"]}
        rules = {"CORSRules": [{**rule, "MaxAgeSeconds": 3600}]}
        self._real.client().put_bucket_cors(Bucket=self.name, CORSConfiguration=rules)

    def origins(self) -> list[tuple[str, str | None]]:
        """Method and ``Origin`` of what browsers asked for."""
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
    """The address of the app, with its files in the bucket."""
    # A window of days, so that none ends between two loads of a page.
    environment = bucket.environment(UPLOADS_URL_EXPIRES="604800")
    with Gunicorn(APP, *THREADS, environment=environment, folder=tmp_path) as server:
        yield server.url


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[str]:
    """The address of the app, with its files on disk."""
    with Gunicorn(APP, *THREADS, environment={"UPLOADS_DIR": str(tmp_path / "disk")}, folder=tmp_path) as server:
        yield server.url


@pytest.fixture
def page(browser: Browser, pages: Pages) -> Iterator[Page]:
    """An empty page of the site, in a browser that has seen nothing yet."""
    with contextlib.closing(browser.new_context()) as context:
        page = context.new_page()
        page.goto(pages.url)
        yield page


def upload(app: str, *files: tuple[str, bytes]) -> list[str]:
    """Save the files; their addresses."""
    saved = save(app, *(("f", name, content) for name, content in files))
    return [f"{app}/{file['path']}" for file in saved]


def test_a_script_reads_the_bytes_through_the_redirect_where_the_bucket_allows_every_origin(
    page: Page, bucket: Bucket, on_s3: str
) -> None:
    bucket.allow("*")
    content = random.Random(5).randbytes(100_000)
    (address,) = upload(on_s3, ("Ärger & Glück.bin", content))
    assert bytes(page.evaluate(READ, address)) == content
    assert bucket.origins() == [("GET", "null")]


def test_a_script_reads_the_bytes_where_setup_has_made_the_bucket(
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
def test_without_that_rule_the_browser_gives_a_script_nothing_as_it_asks_with_the_origin_null(
    page: Page, pages: Pages, bucket: Bucket, on_s3: str, rule: str
) -> None:
    """The tests above prove something only if the bucket's rule decides."""
    if rule != "none":
        bucket.allow(pages.url)
    (address,) = upload(on_s3, ("a.png", PNG))
    with pytest.raises(Error, match="Failed to fetch"):
        page.evaluate(READ, address)
    assert bucket.origins() == [("GET", "null")]


def test_a_script_reads_what_the_app_serves_from_its_disk_without_any_rule(page: Page, on_disk: str) -> None:
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
    """Name, type and content of a file whose script asks for the address ``beacon``."""
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
def test_an_upload_with_a_script_is_saved_by_the_browser_and_its_script_does_not_run(
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
    # Elsewhere the same file does run its script.
    pages.files["/file"] = (content_type, content)
    with page.expect_response(f"{pages.url}/ran"):
        page.goto(f"{pages.url}/file")
    assert "/ran" in pages.visits


def test_a_page_of_twenty_pictures_that_is_opened_again_asks_the_bucket_for_nothing(
    page: Page, pages: Pages, bucket: Bucket, on_s3: str
) -> None:
    addresses = upload(on_s3, *((f"{number}.png", PNG) for number in range(20)))
    for path, query in {"/show": "", "/later": "?again"}.items():
        html = "".join(f'<img src="{address}{query}">' for address in addresses)
        pages.files[path] = ("text/html", html.encode())
    page.goto(f"{pages.url}/show")
    assert len(bucket.requests) == 20
    time.sleep(1.1)  # the clock of the signatures counts seconds
    for path in ("/show", "/later"):  # by the redirects that the browser kept, and by new ones to the same place
        with contextlib.closing(page.context.new_page()) as tab:
            tab.goto(f"{pages.url}{path}")
            assert tab.evaluate(LOADED) == [1] * 20
    assert len(bucket.requests) == 20
