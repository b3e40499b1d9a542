"""The shell commands and variables in the README and in ``docs/`` work, and print what the pages show."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import click
import pytest
from flask import Flask
from packaging.requirements import Requirement

from flask_persistent_uploads import Uploads, keys
from flask_persistent_uploads.cli import uploads as commands

from ..conftest import MakeApp
from ..fakes.loopback import Handler, Loopback
from ..servers import ROOT, Gunicorn, S3Server
from .client import once
from .pages import PAGES, Block, block, blocks_in, request_in_memory, uploads_of

#: A host that wipes its disk, as its environment tells.
RENDER = {
    "UPLOADS_PLATFORM": "",
    "RENDER": "true",
    "RENDER_SERVICE_ID": "srv-1",
    "RENDER_INSTANCE_ID": "srv-1-a",
}


def subcommand(name: str) -> click.Command:
    """Return the command ``flask uploads <name>``."""
    found = commands.get_command(click.Context(commands), name)
    assert found is not None, name
    return found


@pytest.fixture
def on_render(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Flask:
    """An app without settings, as Render runs it."""
    for name, value in RENDER.items():
        monkeypatch.setenv(name, value)
    app = Flask("docs", instance_path=str(tmp_path / "instance"))
    app.config["MAX_CONTENT_LENGTH"] = 200_000_000
    Uploads(app)
    return app


def test_the_line_at_start(on_render: Flask, caplog: pytest.LogCaptureFixture) -> None:
    shown = block("docs/survival.md", "uploads: UPLOADS WILL BE LOST").strip()
    logged = [record.message for record in caplog.get_records("setup")]
    assert [line for line in logged if line.startswith(shown.removesuffix("…"))]


def test_the_report_of_the_doctor(on_render: Flask) -> None:
    report = on_render.test_cli_runner().invoke(args=["uploads", "doctor", "--offline"])
    assert report.exit_code == 1
    assert report.output.startswith(block("README.md", "UPLOADS WILL BE LOST"))
    assert report.output.startswith(block("docs/survival.md", "failure  "))


def test_the_report_of_the_doctor_if_the_files_are_in_a_bucket(make_app: MakeApp, s3_server: S3Server) -> None:
    app = make_app(**s3_server.environment())
    report = app.test_cli_runner().invoke(args=["uploads", "doctor"])
    assert report.output.startswith(block("README.md", "Uploads survive."))


def test_the_response_of_the_health_check() -> None:
    with request_in_memory() as app:
        answer = app.test_client().get("/uploads/_health")
    assert answer.json
    assert set(json.loads(block("docs/survival.md", '"status"'))) == set(answer.json)


class _TwoStores(Loopback):
    """Responds to health checks like two instances, each with a disk of its own."""

    class handler(Handler):  # noqa: N801 - the attribute of Loopback
        def do_GET(self) -> None:  # noqa: N802 - the name is http.server's
            number = self.server.owner.asked % 2
            self.server.owner.asked += 1
            names = {
                "store": f"2026010{number + 1}T101500Z-3f9c2a17",
                "instance": ("5d1c0a9e7b42", "87376a69e76e")[number],
            }
            known = {"status": "ok", "backend": "local", "survives": True, "free_bytes": 1, "restarts_survived": 0}
            rest: dict[str, Any] = {
                "problem": None,
                "alarm": None,
                "since": "2026-01-03T10:15:00+00:00",
                "instances": [],
            }
            body = json.dumps({**known, **rest, **names}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0


def test_two_instances_with_two_stores_are_told_apart() -> None:
    with _TwoStores() as server, request_in_memory() as app:
        report = app.test_cli_runner().invoke(args=["uploads", "doctor", "--url", server.url])
    assert report.exit_code == 1
    assert report.output.startswith(block("docs/survival.md", "different stores"))


def test_the_named_commands_exist() -> None:
    for name in {name for text in PAGES.values() for name in re.findall(r"`flask uploads (\w+)", text)}:
        assert subcommand(name)


# -- shell


def _pip(words: list[str]) -> None:
    install, package = words
    assert install == "install"
    extras = Requirement(f"x{package[1:]}" if package.startswith(".") else package).extras
    assert extras <= set(metadata("flask-persistent-uploads").get_all("Provides-Extra", []))


def _flask(words: list[str]) -> None:
    assert words[:2] == ["--app", "app"]
    if words[2:] != ["run"]:
        group, name, *arguments = words[2:]
        assert group == "uploads"
        subcommand(name).make_context(name, arguments)  # raises UsageError for what it does not know


def _gunicorn(words: list[str]) -> None:
    from gunicorn.config import Config

    Config().parser().parse_args(words)


def _aws(words: list[str]) -> None:
    copy = ["s3", "cp", "--recursive", "uploads", "s3://my-bucket/uploads"]
    assert words == [*copy, "--exclude", f"{keys.RESERVED}/*"]


COMMANDS: dict[str, Callable[[list[str]], None]] = {"pip": _pip, "flask": _flask, "gunicorn": _gunicorn, "aws": _aws}
ASSIGNMENT = re.compile(r"([A-Z][A-Z0-9_]*)=(.+)")


@pytest.mark.parametrize("shown", blocks_in("sh"), ids=lambda each: each.page)
def test_the_shell_commands_are_known(shown: Block) -> None:
    for line in shown.text.splitlines():
        if not ASSIGNMENT.fullmatch(line):
            command, *words = shlex.split(line)
            try:
                COMMANDS[command](words)
            except click.UsageError as error:
                pytest.fail(f"{line}: {error}")


def assignments(shown: Block) -> dict[str, str]:
    """Return the variables that a block sets, with something in place of what a reader fills in."""
    pairs = [found.groups() for line in shown.text.splitlines() if (found := ASSIGNMENT.fullmatch(line))]
    return {name: re.sub(r"<[^>]+>|…", "abc123", value) for name, value in pairs}


@pytest.mark.parametrize("shown", [each for each in blocks_in("sh") if assignments(each)], ids=lambda each: each.page)
def test_an_app_starts_with_the_variables_of_each_block(
    shown: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/storage.py").write_text(block("docs/writing-a-backend.md", "class ShelfBackend"))
    monkeypatch.syspath_prepend(tmp_path)
    variables = assignments(shown)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    app = Flask("docs", instance_path=str(tmp_path / "instance"))
    names = {"OLD": "old"} if any(name.startswith("OLD_") for name in variables) else {}
    for name in (*names.values(), "uploads"):
        Uploads(app, name=name)
    signs = {"S3_BUCKET": "s3", "CLOUDINARY": "cloudinary", "IMAGEKIT": "imagekit", "SHELF": "shelf"}
    expected = next((name for sign, name in signs.items() if sign in " ".join(variables)), "local")
    with app.app_context():
        assert uploads_of(app).backend.name == expected
    assert "is not a setting" not in caplog.text


def test_the_start_command_starts_the_app(tmp_path: Path) -> None:
    (line,) = [each.text for each in blocks_in("sh") if each.text.startswith("gunicorn")]
    _, app, *arguments = shlex.split(line)
    code = block("README.md", "def create_app").replace("    return app", "    app.get('/')(str)\n    return app")
    (tmp_path / "app.py").write_text(code)
    environment = {"MEDIA_ROOT": str(tmp_path / "media"), "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    with Gunicorn(app, *arguments, environment=environment, folder=tmp_path) as server:
        assert len(server.workers()) == 2
        answer = once(server.url, "POST", "/reports", None)
        assert (answer.status, b"Choose a photo" in answer.data) == (400, True)
    assert {path.name for path in (tmp_path / "media").iterdir()} <= {".uploads"}
