"""Every snippet of the README runs, and its table is the table of the code."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import flask
import pytest
from flask import Flask

from flask_persistent_uploads import Uploads, config, save_uploads
from flask_persistent_uploads.testing import ODD_KEYS, sample

from ..conftest import PNG, MakeApp, settings_of
from ..servers import ROOT, Gunicorn
from .client import once

README = (ROOT / "README.md").read_text()
NOT_SERVED_YET = {"serve", "fallback"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def snippet(containing: str) -> str:
    (found,) = [block for block in blocks("python") if containing in block]
    return found


def run(code: str, **names: Any) -> dict[str, Any]:
    names |= {"__name__": __name__}
    exec(compile(code, "README.md", "exec"), names)
    return names


def test_every_python_block_is_run_by_a_test_of_this_module() -> None:
    known = (
        "def create_app",
        "def describe",
        "def other_verbs",
        "def may_read",
        "def copy_all",
        "as basicFileWriter",
        "def basicFileWriter",
        "class ShelfBackend",
        "class TestShelf",
    )
    assert [sum(name in block for name in known) for block in blocks("python")] == [1] * len(known)


def test_the_first_app_keeps_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPLOADS_BACKEND", "memory")
    app = run(snippet("def create_app"))["create_app"]()
    client = app.test_client()
    photo = client.post("/reports", data={"photo": (io.BytesIO(PNG), "event.png")}).json["photo"]
    assert client.get(f"/{photo}", buffered=True).data == PNG
    assert client.post("/reports", data={"photo": (io.BytesIO(b"<svg/>"), "event.png")}).status_code == 415
    with app.test_request_context():
        page = flask.render_template_string('<img src="{{ upload_url(report.photo) }}">', report={"photo": photo})
    assert page == f'<img src="/{photo}">'


def test_what_comes_back_and_the_other_verbs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPLOADS_BACKEND", "memory")
    uploads, app = Uploads(), Flask("readme")
    uploads.init_app(app)
    with app.test_request_context():
        path = uploads.save(PNG, filename="Event 3.png", folder="reports")
        described = run(snippet("def describe"))["describe"]({"photo": path})
        assert described["path"].startswith("uploads/reports/")
        assert described["filename"] == "Event 3.png"
        link, today, many, content, known = run(snippet("def other_verbs"))["other_verbs"](uploads, path)
        assert (link, today, len(many), content, known.size) == (path.url, path.url, 2, PNG, len(PNG))
        run(snippet("def may_read"), uploads=uploads)
    app.secret_key = "x"
    assert app.test_client().get(path.url).status_code == 404


def test_files_are_copied_under_their_keys_and_what_a_service_does_not_take_is_named(
    request: pytest.FixtureRequest, make_app: MakeApp, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = Uploads(name="old"), Uploads()
    app = make_app(new, OLD_BACKEND="memory", UPLOADS_PREFIX="copied", **settings_of("cloudinary", request))
    old.init_app(app)
    copy_all = run(snippet("def copy_all"))["copy_all"]
    with app.app_context():
        for key in (*ODD_KEYS, "empty.txt"):
            content = sample(key) if key != "empty.txt" else b""
            old.backend.save(key, io.BytesIO(content), content_type="x/y", size=len(content), filename=key)
        for _ in range(2):
            copy_all(old, new)
        assert {entry.key for entry in new.backend.entries()} == set(ODD_KEYS)
        for key in ODD_KEYS:
            with new.backend.open(key) as stream:
                assert stream.read() == sample(key)
    assert capsys.readouterr().out.count("empty.txt 'empty.txt' is empty, and Cloudinary keeps no empty files.") == 2


def test_the_old_function_is_replaced_by_an_import_or_by_two_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPLOADS_BACKEND", "memory")
    assert run(snippet("as basicFileWriter"))["basicFileWriter"] is save_uploads
    joined = run(snippet("def basicFileWriter"), save_uploads=save_uploads)["basicFileWriter"]
    app = Flask("readme")
    Uploads(app)
    app.add_url_rule("/", view_func=lambda: joined(), methods=["POST"])
    answer = app.test_client().post("/", data={"f": [(io.BytesIO(b"1"), "a.txt"), (io.BytesIO(b"2"), "b.txt")]})
    assert answer.json
    assert [path[:8] for path in answer.json["f"].split(",")] == ["uploads/", "uploads/"]


def test_the_backend_of_the_readme_keeps_the_contract(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/storage.py").write_text(snippet("class ShelfBackend"))
    (tmp_path / "test_shelf.py").write_text(snippet("class TestShelf"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shelf.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d{2} passed", done.stdout)


def test_the_table_of_settings_is_the_table_of_the_code() -> None:
    rows = dict(re.findall(r"^\| `UPLOADS_(\w+)` \|([^|]*)\|", README, re.MULTILINE))
    expected = {row.name.upper(): row for row in config.VARIABLES if row.name not in NOT_SERVED_YET}
    assert list(rows) == list(expected)
    for name, natives in rows.items():
        assert re.findall(r"`(\w+)", natives) == [*expected[name].metadata["native"]], name


def test_every_variable_that_the_readme_names_is_one() -> None:
    known = {f"UPLOADS_{row.name.upper()}" for row in config.VARIABLES} | {"UPLOADS_X", "UPLOADS_SHELF_LABEL"}
    assert set(re.findall(r"\bUPLOADS_[A-Z0-9_]+", README)) <= known


def test_the_cors_rules_are_what_a_bucket_takes() -> None:
    (rules,) = blocks("json")
    assert json.loads(rules)[0]["AllowedOrigins"] == ["*"]


def test_the_start_command_starts_the_app(tmp_path: Path) -> None:
    (line,) = [block for block in blocks("sh") if block.startswith("gunicorn")]
    _, app, *arguments = shlex.split(line)
    code = snippet("def create_app").replace("    return app", "    app.get('/')(lambda: 'ready')\n    return app")
    (tmp_path / "app.py").write_text(code)
    environment = {"MEDIA_ROOT": str(tmp_path / "media"), "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    with Gunicorn(app, *arguments, environment=environment, folder=tmp_path) as server:
        assert len(server.workers()) == 2
        answer = once(server.url, "POST", "/reports", None)
        assert (answer.status, b"Choose a photo" in answer.data) == (400, True)
    assert {path.name for path in (tmp_path / "media").iterdir()} <= {".uploads"}


def test_the_two_commands_exist() -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"`make (\w+)`", README)) <= set(targets)
