"""The Python of the README and of the pages of ``docs/`` runs, and does what the pages say."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flask
import pytest
from flask import Flask
from sqlalchemy import create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from flask_persistent_uploads import Uploads, errors, save_uploads
from flask_persistent_uploads.backends import registry
from flask_persistent_uploads.testing import ODD_KEYS, sample

from ..conftest import PNG, MakeApp, settings_of
from ..servers import ROOT
from .pages import PAGES, block, picture, readme_app, request_in_memory, run, uploads_of


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPLOADS_BACKEND", "memory")


@pytest.fixture
def app() -> Iterator[Flask]:
    with request_in_memory() as app:
        yield app


# -- README


def test_the_first_app_keeps_a_picture(in_memory: None) -> None:
    client = readme_app().test_client()
    photo = client.post("/reports", data={"photo": picture()}).json["photo"]  # type: ignore[index]
    assert client.get(f"/{photo}", buffered=True).data == PNG
    assert client.post("/reports", data={"photo": picture(content=b"<svg/>")}).status_code == 415
    assert client.post("/reports").status_code == 400


# -- quickstart


def test_the_quickstart_shows_the_example_as_it_is() -> None:
    shown = block("docs/quickstart.md", "newest_first = sorted(uploads.entries(), ")
    assert shown == (ROOT / "examples/quickstart/app.py").read_text()


def test_files_can_be_limited(in_memory: None) -> None:
    app = Flask("documentation")
    Uploads(app)
    store = run(block("docs/quickstart.md", "def store_report"))["store_report"]

    def post(*plans: bytes) -> Any:
        files = [picture("plan.pdf", content) for content in plans]
        data = {"photo": picture(), "plans": files, "other": picture()}
        with app.test_request_context(method="POST", data=data):
            try:
                return store()
            finally:
                flask.request.close()
                flask.request.environ["wsgi.input"].close()  # a file on disk, because the form is large

    stored = post(b"%PDF-1.7", b"%PDF-1.8")
    assert {field: len(paths) for field, paths in stored.lists()} == {"photo": 1, "plans": 2}
    assert stored["photo"].startswith("uploads/reports/")
    with pytest.raises(errors.TypeNotAllowed):
        post(b"<svg/>")
    with pytest.raises(errors.UploadTooLarge):
        post(b"%PDF-1.7" + bytes(5_000_000))


def test_what_is_known_of_a_stored_file(app: Flask) -> None:
    photo = uploads_of(app).save(PNG, filename="Event 3.png", folder="reports")
    described = run(block("docs/quickstart.md", "def describe"))["describe"](photo)
    assert described.pop("path") == f"uploads/{photo.key}"
    assert re.fullmatch(r"reports/[0-9a-f]{32}-event-3\.png", described.pop("key"))
    assert described.pop("url") == f"/uploads/{photo.key}"
    assert len(described.pop("sha256")) == 64
    assert described == {"filename": "Event 3.png", "content_type": "image/png", "size": len(PNG)}


def test_files_and_rows_stay_in_step(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    class Base(DeclarativeBase):
        pass

    class Report(Base):
        __tablename__ = "report"
        id: Mapped[int] = mapped_column(primary_key=True)
        photo: Mapped[str]

    def fail(*_: object) -> None:
        raise ConnectionError

    uploads = uploads_of(app)
    names = run(block("docs/quickstart.md", "def create_report(uploads"))
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        with app.test_request_context(method="POST", data={"photo": picture()}):
            names["create_report"](uploads, session, Report)
        (report,) = session.query(Report).all()
        assert [entry.key for entry in uploads.entries()] == [report.photo.removeprefix("uploads/")]
        event.listen(session, "before_commit", fail)
        with (
            app.test_request_context(method="POST", data={"photo": picture()}),
            pytest.raises(ConnectionError),
        ):
            names["create_report"](uploads, session, Report)
        assert len(list(uploads.entries())) == 1
        event.remove(session, "before_commit", fail)
        names["delete_report"](uploads, session, report)
    assert list(uploads.entries()) == []
    engine.dispose()


def test_files_are_saved_read_and_listed(app: Flask) -> None:
    uploads = uploads_of(app)
    path = uploads.save(PNG, filename="a.png")
    function = run(block("docs/quickstart.md", "def save_and_read"))["save_and_read"]
    notes, content, known, newest_first = function(uploads, path)
    assert (content, known.size) == (PNG, len(PNG))
    assert [entry.key for entry in newest_first] == [notes.key]
    for spelling in (path.replace("/", "\\"), f"/{path}", f"https://any.example/{path}"):
        assert function(uploads, spelling)[1] == PNG


def run_pytest(folder: Path, *files: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ passed", done.stdout)


def test_the_test_of_an_app_passes(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text((ROOT / "examples/quickstart/app.py").read_text())
    (tmp_path / "test_app.py").write_text(block("docs/quickstart.md", "def test_a_picture_is_kept"))
    run_pytest(tmp_path, "test_app.py")


# -- backends


def test_files_are_copied_under_their_keys_and_refused_files_are_named(
    request: pytest.FixtureRequest, make_app: MakeApp, capsys: pytest.CaptureFixture[str]
) -> None:
    both = run(block("docs/backends.md", "old = Uploads"))
    copy_all = run(block("docs/backends.md", "def copy_all"))["copy_all"]
    old, new = both["old"], both["new"]
    app = make_app(new, OLD_BACKEND="memory", UPLOADS_PREFIX="copied", **settings_of("cloudinary", request))
    old.init_app(app)
    with app.app_context():
        for key in (*ODD_KEYS, "empty.txt"):
            content = sample(key) if key != "empty.txt" else b""
            old.backend.save(key, io.BytesIO(content), content_type="x/y", size=len(content), filename=key)
        for _ in range(2):
            copy_all(old, new)
        assert {entry.key for entry in new.entries()} == set(ODD_KEYS)
        for key in ODD_KEYS:
            with new.backend.open(key) as stream:
                assert stream.read() == sample(key)
    assert capsys.readouterr().out.count("empty.txt 'empty.txt' is empty") == 2


# -- private files


def test_a_hook_decides_who_sees_a_file(in_memory: None) -> None:
    names = run(block("docs/private-files.md", "def may_read(action"))
    guarded, other = names["uploads"], Flask("documentation")
    other.secret_key = "x"
    guarded.init_app(other)
    with other.test_request_context():
        public = guarded.save(PNG, filename="a.png", folder="public")
        private = guarded.save(PNG, filename="a.png")
    client = other.test_client()
    answers = [client.get(path.url).status_code for path in (public, private)]
    with client.session_transaction() as session:
        session["user"] = 1
    assert [*answers, client.get(private.url).status_code] == [200, 404, 200]


def test_a_link_for_a_limited_time(app: Flask) -> None:
    uploads = uploads_of(app)
    uploads.authorize(lambda action, key: False)
    path = uploads.save(b"%PDF-1.7", filename="a.pdf")
    function = run(block("docs/private-files.md", "def link_for_an_email"))["link_for_an_email"]
    link = function(uploads, SimpleNamespace(path=path))
    assert link.startswith("http://localhost/uploads/")
    answer = app.test_client().get(link)
    assert (answer.status_code, answer.data) == (200, b"%PDF-1.7")
    assert 'filename="invoice.pdf"' in answer.headers["Content-Disposition"]
    assert app.test_client().get(path.url).status_code == 404


def test_documents_have_a_hook_of_their_own(in_memory: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCUMENTS_BACKEND", "memory")
    names = run(block("docs/private-files.md", 'Uploads(name="documents")'))
    app = names["create_app"]()
    app.secret_key = "x"
    with app.test_request_context():
        public = names["pictures"].save(PNG, filename="a.png").url
        private = names["documents"].save(PNG, filename="a.png").url
    assert [app.test_client().get(url).status_code for url in (public, private)] == [200, 404]
    assert private.startswith("/documents/")


def test_a_login_wall_lets_pictures_and_the_health_check_through(app: Flask) -> None:
    path = uploads_of(app).save(PNG, filename="a.png")
    app.before_request(run(block("docs/private-files.md", "def require_login"))["require_login"])
    client = app.test_client()
    answers = [
        client.get(url).status_code for url in (path.url, "/uploads/_health", "/elsewhere", "/documents/_health")
    ]
    assert answers == [200, 200, 401, 401]


def test_without_a_secret_key_a_direct_url_is_the_permanent_link_and_the_hook_is_called(make_app: MakeApp) -> None:
    assert "it does not expire, and the hook is called" in PAGES["docs/private-files.md"]
    uploads = Uploads()
    app = make_app(uploads, UPLOADS_BACKEND="memory")
    with app.test_request_context():
        path = uploads.save(PNG, filename="a.png")
        link = uploads.direct_url(path, expires=60)
    assert link == path.url
    uploads.authorize(lambda action, key: False)
    assert app.test_client().get(link).status_code == 404


# -- hosts


def test_nginx_finds_the_files_that_the_app_leaves_to_it(tmp_path: Path) -> None:
    found = re.fullmatch(
        r"location (\S+)/ \{\n    internal;\n    alias (\S+)/;\n\}\n", block("docs/hosts.md", "internal;")
    )
    assert found
    location, folder = found.groups()
    assert f"UPLOADS_DIR={folder}\nUPLOADS_ACCEL_REDIRECT={location}\n" in PAGES["docs/hosts.md"]
    app, uploads = Flask("documentation"), Uploads()
    app.config.update(UPLOADS_DIR=str(tmp_path), UPLOADS_ACCEL_REDIRECT=location, TESTING=True)
    uploads.init_app(app)
    with app.test_request_context():
        path = uploads.save(PNG, filename="a.png", folder="reports")
    response = app.test_client().get(path.url)
    assert (response.data, response.headers["X-Accel-Redirect"]) == (b"", f"{location}/{path.key}")
    assert (tmp_path / path.key).read_bytes() == PNG


# -- errors


def test_visitors_read_the_sentence_of_the_class() -> None:
    _, _, table = PAGES["docs/errors.md"].partition("| class | sentence |")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+\.) \|$", table, re.MULTILINE)
    sentences = {name: text for names, text in rows for name in re.findall(r"`(\w+)`", names)}
    others = dict(rows)["all others"]
    classes = [
        each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.BackendError)
    ]
    assert {each.__name__ for each in classes} >= set(sentences)
    for each in classes:
        assert each.description == sentences.get(each.__name__, others), each


def test_errors_are_answered_in_json(in_memory: None) -> None:
    app = readme_app()
    run(block("docs/errors.md", "def respond_in_json"))["respond_in_json"](app)
    app.add_url_rule("/png", view_func=lambda: str(save_uploads(allow="image/png")), methods=["POST"])

    @app.post("/down")
    def down() -> str:
        raise errors.BackendUnavailable("A cause for operators.", retry_after=7)

    answer = app.test_client().post("/png", data={"photo": picture("event.bmp", b"BM....")})
    assert (answer.status_code, answer.json) == (415, json.loads(block("docs/errors.md", '"message"')))
    answer = app.test_client().post("/down")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
    assert answer.json == {"message": errors.BackendError.description}


# -- adding it to an existing app


def test_the_old_function_is_replaced_by_an_import_or_by_two_lines(in_memory: None) -> None:
    assert run(block("docs/coming-from.md", "as basicFileWriter"))["basicFileWriter"] is save_uploads
    joined = run(block("docs/coming-from.md", "def basicFileWriter"))["basicFileWriter"]
    app = Flask("documentation")
    Uploads(app)
    app.add_url_rule("/", view_func=lambda: joined(), methods=["POST"])
    answer = app.test_client().post("/", data={"f": [picture("a.txt", b"1"), picture("b.txt", b"2")]})
    assert answer.json
    assert [path[:8] for path in answer.json["f"].split(",")] == ["uploads/", "uploads/"]


# -- writing a backend


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the package ``shop``, whose module ``storage`` is the backend of the page."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/storage.py").write_text(block("docs/writing-a-backend.md", "class ShelfBackend"))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("shop", "shop.storage", "shop.locked"):
        sys.modules.pop(name, None)


def test_the_backend_keeps_the_contract(shop: Path) -> None:
    (shop / "test_shelf.py").write_text(block("docs/writing-a-backend.md", "class TestShelf"))
    run_pytest(shop, "test_shelf.py")


def test_a_described_backend_is_built_from_its_settings(shop: Path, make_app: MakeApp) -> None:
    (shop / "shop/locked.py").write_text(block("docs/writing-a-backend.md", "class LockedShelfBackend"))
    uploads = Uploads()
    named = {"UPLOADS_BACKEND": "shop.locked:LockedShelfBackend", "SHELF_LABEL": "low"}
    app = make_app(uploads, UPLOADS_LOCKED_SHELF_PIN="1234", **named)
    with app.app_context():
        backend: Any = uploads.backend
        assert (backend.name, backend.label, backend.pin) == ("locked_shelf", "low", "1234")
    with pytest.raises(errors.ConfigError, match="UPLOADS_LOCKED_SHELF_PIN"):
        make_app(**named)


def test_the_entry_point_of_a_backend_has_its_name(shop: Path) -> None:
    group, line = block("docs/writing-a-backend.md", "[project.entry-points").splitlines()
    assert group == f'[project.entry-points."{registry.ENTRY_POINTS}"]'
    name, _, value = line.partition(" = ")
    assert EntryPoint(name, value.strip('"'), registry.ENTRY_POINTS).load().name == name


# -- the API


def test_the_signals_are_sent(app: Flask) -> None:
    counts = {"saved": 0, "deleted": 0}
    run(block("docs/api.md", "def count_files"))["count_files"](app, counts)
    uploads = uploads_of(app)
    paths = [uploads.save(PNG, filename="a.png") for _ in range(2)]
    uploads.delete(paths[0])
    assert counts == {"saved": 2, "deleted": 1}
