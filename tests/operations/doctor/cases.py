"""A healthy app, the command that examines it, and its report as data."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask import Flask
from flask.cli import ScriptInfo

from flask_persistent_uploads import Uploads
from flask_persistent_uploads.cli import uploads as commands

from ...servers import ROOT, clean_environment

S3 = {
    "UPLOADS_S3_BUCKET": "my-bucket",
    "UPLOADS_S3_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "UPLOADS_S3_SECRET_ACCESS_KEY": "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY",
}
CLOUDINARY = {"UPLOADS_CLOUDINARY_URL": "cloudinary://876543210987654:a-secret-of-cloudinary@demo"}
IMAGEKIT = {
    "UPLOADS_IMAGEKIT_PRIVATE_KEY": "private_a-secret-of-imagekit",
    "UPLOADS_IMAGEKIT_URL_ENDPOINT": "https://ik.imagekit.io/demo",
}
RENDER = {"UPLOADS_PLATFORM": "", "RENDER": "true", "RENDER_SERVICE_ID": "srv-1", "RENDER_INSTANCE_ID": "srv-1-abc"}

APP = """
import os
from flask import Flask
from flask_persistent_uploads import Uploads

app = Flask(__name__, instance_path=os.path.abspath("instance"))
app.config["MAX_CONTENT_LENGTH"] = 200_000_000
Uploads(app)
"""


@dataclass(frozen=True)
class Output:
    """What a run of the command printed, and its exit status."""

    text: str
    code: int
    errors: str = ""

    @property
    def first_line(self) -> str:
        return self.text.split("\n", 1)[0]

    @property
    def plain(self) -> str:
        """On one line, as its words are wrapped."""
        return " ".join(self.text.split())


@dataclass(frozen=True)
class Report:
    """What ``doctor --offline --json`` said."""

    content: Mapping[str, Any]
    code: int

    @classmethod
    def of(cls, output: Output) -> Report:
        return cls(json.loads(output.text), output.code)

    @property
    def headline(self) -> str:
        return str(self.content["headline"])

    @property
    def settings(self) -> dict[str, tuple[str, str]]:
        """Value and origin by variable."""
        return {one["variable"]: (one["value"], one["origin"]) for one in self.content["settings"]}

    @property
    def verdicts(self) -> dict[str, str]:
        names = [one["name"] for one in self.content["checks"]]
        assert len(names) == len(set(names))
        return {one["name"]: one["verdict"] for one in self.content["checks"]}

    def check(self, name: str) -> Mapping[str, Any]:
        (found,) = [one for one in self.content["checks"] if one["name"] == name]
        return dict(found)


def healthy(**config: Any) -> Flask:
    """An app that nothing is wrong with, in the working folder; ``config`` is its own."""
    app = Flask("healthy", root_path=str(Path.cwd()), instance_path=str(Path.cwd() / "instance"))
    app.config.update(MAX_CONTENT_LENGTH=200_000_000, **config)
    Uploads(app)
    return app


def run(*arguments: str, create: Callable[[], Flask] = healthy) -> Output:
    """``flask uploads doctor`` in this process, on the app that ``create`` makes or refuses to."""
    found = CliRunner().invoke(commands, ["doctor", *arguments], obj=ScriptInfo(create_app=create))
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return Output(found.stdout, found.exit_code, found.stderr)


def examine(create: Callable[[], Flask] = healthy) -> Report:
    """The report on the app that ``create`` makes, in this process."""
    return Report.of(run("--offline", "--json", create=create))


def flask(
    *arguments: str,
    folder: Path,
    before: Sequence[str] = (),
    app: str | None = APP,
    python: Sequence[str] = ("-m", "flask"),
    command: str = "doctor",
    **environment: str,
) -> Output:
    """``flask --app app uploads doctor`` (or another ``command``) in a process of its own, with ``folder`` to work in.

    ``before`` is what the command stands behind, and ``app`` the text of the module ``app``; ``None`` leaves it out.
    """
    if app is not None:
        (folder / "app.py").write_text(app)
    chosen = ["--app", "app"] if app is not None else []
    variables = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(folder), **environment}
    found = subprocess.run(
        [*before, sys.executable, *python, *chosen, "uploads", command, *arguments],
        cwd=folder,
        env=clean_environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return Output(found.stdout, found.returncode, found.stderr)


def examine_apart(**options: Any) -> Report:
    """The report of a process of its own; ``options`` are those of :func:`flask`."""
    output = flask("--offline", "--json", **options)
    assert output.errors == "", output.errors
    return Report.of(output)


def behind(mount: str) -> tuple[str, ...]:
    """What to put before a command for it to see what the shell command ``mount`` mounts, and nobody else to."""
    is_root = os.geteuid() == 0
    unshare = ("unshare", "-m") if is_root else ("unshare", "-rm")
    probe = [*unshare, "mount", "-t", "tmpfs", "none", "/mnt"]
    found = shutil.which("unshare") and subprocess.run(probe, capture_output=True, text=True, check=False)
    if not found or found.returncode:
        reason = f"no mounts can be made here: {found.stderr.strip() if found else 'no unshare'}"
        pytest.fail(reason) if is_root and os.environ.get("CI") == "true" else pytest.skip(reason)
    return (*unshare, "sh", "-ec", f'{mount}\nexec "$@"', "sh")


def disk_of(folder: Path, size: str, then: str = "", *, make: str = "") -> tuple[str, ...]:
    """As :func:`behind`, with an ext4 disk of this size at ``disk`` in ``folder``; ``then`` is done there.

    ``make`` are options of mkfs, to which ``-m 0`` leaves all room to everybody.
    """
    if os.geteuid() != 0:
        pytest.skip("only root mounts an image")
    (folder / "disk").mkdir()
    image = folder / "image"
    return behind(
        f"PATH=$PATH:/usr/sbin:/sbin; truncate -s {size} {image}; mkfs.ext4 -q -m 0 {make} {image}\n"
        f"mount -o loop {image} {folder}/disk; (cd {folder}/disk; {then or ':'})"
    )


def assert_only(report: Report, name: str, verdict: str) -> tuple[str, str]:
    """What one check has seen and advises, after proof that all others are content with the app."""
    found = [one for one in report.content["checks"] if one["verdict"] != "ok"]
    assert {one["name"]: one["verdict"] for one in found} == {name: verdict}, found
    fails = verdict == "failure"
    assert report.code == (1 if fails else 0)
    assert (report.content["failures"], report.content["warnings"]) == ((1, 0) if fails else (0, 1))
    assert found[0]["seen"]
    assert found[0]["remedy"]
    assert "unforeseen" not in found[0]["seen"], found
    return found[0]["seen"], found[0]["remedy"]


def assert_content(report: Report, *names: str) -> None:
    """Prove that nothing is wrong, and that the checks ``names`` looked or had nothing to say."""
    assert [one for one in report.content["checks"] if one["verdict"] != "ok"] == []
    assert report.code == 0
    assert set(names) <= set(report.verdicts)
