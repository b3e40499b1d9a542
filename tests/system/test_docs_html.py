"""The HTML and JavaScript of the README and of the pages of ``docs/`` works, in templates and in a browser."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import flask
import pytest
from flask import Flask
from playwright.sync_api import Browser
from werkzeug.serving import make_server

from flask_persistent_uploads import Uploads

from ..conftest import PNG, MakeApp
from ..servers import S3Server
from .pages import PAGES, Block, block, blocks_in, picture, readme_app, request_in_memory, run, uploads_of
from .test_pages import READ, Bucket


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPLOADS_BACKEND", "memory")


@pytest.fixture
def app() -> Iterator[Flask]:
    with request_in_memory() as app:
        yield app


@contextlib.contextmanager
def served(app: Flask) -> Iterator[str]:
    """Serve an app on a port of its own, and yield its URL."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("shown", blocks_in("html"), ids=lambda each: each.page)
def test_html_can_be_rendered_and_its_links_and_forms_work(app: Flask, shown: Block) -> None:
    report = {
        "photo": uploads_of(app).save(PNG, filename="a.png"),
        "document": uploads_of(app, "documents").save(PNG, filename="a.png"),
    }
    tags = Tags(flask.render_template_string(shown.text, report=report)).found
    for link in (attributes.get("src") or attributes.get("href") for _, attributes in tags):
        if link is not None:
            assert app.test_client().get(urlsplit(link).path).status_code == 200
    sends_files = ("input", "file") in {(tag, attributes.get("type")) for tag, attributes in tags}
    for form in (attributes for tag, attributes in tags if tag == "form"):
        by_script = "new FormData" in shown.text
        assert by_script or not sends_files or form["enctype"] == "multipart/form-data"
        assert by_script or form["method"] == "post"
    empty = flask.render_template_string(shown.text, report={"photo": None, "document": None})
    assert all("uploads" not in str(attributes) for _, attributes in Tags(empty).found)


def test_the_form_of_the_readme_fits_its_app(in_memory: None) -> None:
    ((_, form), (_, field), *_) = Tags(block("README.md", "<form")).found
    answer = (
        readme_app()
        .test_client()
        .open(form["action"] or "", method=(form["method"] or "").upper(), data={str(field["name"]): picture()})
    )
    assert answer.status_code == 200


def test_a_page_sends_and_reads_files_by_script(in_memory: None, browser: Browser, tmp_path: Path) -> None:
    app = readme_app()
    run(block("docs/errors.md", "def respond_in_json"))["respond_in_json"](app)
    app.add_url_rule("/", view_func=lambda: block("docs/javascript.md", "new FormData"))
    (tmp_path / "event.png").write_bytes(PNG)
    (tmp_path / "fake.png").write_bytes(b"<svg/>")
    with served(app) as url, contextlib.closing(browser.new_page()) as page:
        page.goto(url)

        def send(name: str) -> str:
            page.set_input_files("input", tmp_path / name)
            page.eval_on_selector("#message", "message => { message.textContent = '' }")
            page.click("button")
            page.wait_for_function("() => document.getElementById('message').textContent")
            return str(page.text_content("#message"))

        assert send("fake.png").startswith("The type of 'fake.png' is not allowed.")
        path = send("event.png")
        assert bytes(page.evaluate(READ, f"/{path}")) == PNG


@pytest.mark.parametrize("page_of", ["the app itself", "another origin, such as a separate frontend"])
def test_the_bucket_receives_the_origin_that_the_page_tells(
    browser: Browser, make_app: MakeApp, s3_server: S3Server, page_of: str
) -> None:
    (row,) = [line for line in PAGES["docs/javascript.md"].splitlines() if line.startswith(f"| {page_of} |")]
    with Bucket(s3_server) as bucket:
        uploads = Uploads()
        app = make_app(uploads, **bucket.environment())
        with app.test_request_context():
            path = uploads.save(PNG, filename="a.png")
        app.add_url_rule("/", view_func=lambda: "a page")
        with served(app) as own, served(app) as other, contextlib.closing(browser.new_page()) as page:
            own_page = page_of == "the app itself"
            page.goto(own if own_page else other)
            bucket.allow(own if own_page else "*")
            assert bytes(page.evaluate(READ, f"{own}{path.url}")) == PNG
            assert bucket.origins() == [("GET", own if own_page else "null")]
            assert ("`null`" in row) != own_page
