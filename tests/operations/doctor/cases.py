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

Set = Callable[..., None]


@dataclass(frozen=True)
class Output:
    """The output and the exit status of a command."""

    text: str
    code: int
    errors: str = ""

    @property
    def first_line(self) -> str:
        return self.text.split("\n", 1)[0]

    @property
    def plain(self) -> str:
        """The text on one line, because the command wraps it."""
        return " ".join(self.text.split())


@dataclass(frozen=True)
class Report:
    """The output of ``doctor --json``."""

    content: Mapping[str, Any]
    code: int

    @classmethod
    def of(cls, output: Output) -> Report:
        return cls(json.loads(output.text), output.code)

    @property
    def headline(self) -> str:
        return str(self.content["headline"])

    @property
    def survives(self) -> bool | None:
        survives: bool | None = self.content["survives"]
        return survives

    @property
    def settings(self) -> dict[str, tuple[str, str]]:
        """Value and origin by variable."""
        return {one["variable"]: (one["value"], one["origin"]) for one in self.content["settings"]}

    @property
    def verdicts(self) -> dict[str, str]:
        """Verdict by check."""
        names = [one["name"] for one in self.content["checks"]]
        assert len(names) == len(set(names))
        return {one["name"]: one["verdict"] for one in self.content["checks"]}

    @property
    def troubles(self) -> dict[str, str]:
        """The verdicts that are failures or warnings."""
        return {name: verdict for name, verdict in self.verdicts.items() if verdict in {"failure", "warning"}}

    def check(self, name: str) -> Mapping[str, Any]:
        (found,) = [one for one in self.content["checks"] if one["name"] == name]
        return dict(found)


def healthy(**config: Any) -> Flask:
    """Return an app in the working folder with which nothing is wrong; ``config`` goes into ``app.config``."""
    app = Flask("healthy", root_path=str(Path.cwd()), instance_path=str(Path.cwd() / "instance"))
    app.config.update(MAX_CONTENT_LENGTH=200_000_000, **config)
    Uploads(app)
    return app


def run(*arguments: str, create: Callable[[], Flask] = healthy) -> Output:
    """Run ``flask uploads doctor`` in this process, on the app that ``create`` returns or refuses to create."""
    found = CliRunner().invoke(commands, ["doctor", *arguments], obj=ScriptInfo(create_app=create))
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return Output(found.stdout, found.exit_code, found.stderr)


def examine(create: Callable[[], Flask] = healthy, *arguments: str) -> Report:
    """Return the offline report on the app that ``create`` returns, in this process."""
    return Report.of(run("--offline", "--json", *arguments, create=create))


def flask(
    *arguments: str,
    folder: Path,
    before: Sequence[str] = (),
    app: str | None = APP,
    python: Sequence[str] = ("-m", "flask"),
    command: str = "doctor",
    **environment: str,
) -> Output:
    """Run ``flask --app app uploads doctor``, or another ``command``, in a process of its own in ``folder``.

    ``before`` is put before the command. ``app`` is the source of the module ``app``; ``None`` leaves it out.
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
    """Return the offline report of a process of its own; ``options`` are those of :func:`flask`."""
    output = flask("--offline", "--json", **options)
    assert output.errors == "", output.errors
    return Report.of(output)


def behind(mount: str) -> tuple[str, ...]:
    """Return what to put before a command so that only this command sees what the shell command ``mount`` mounts."""
    is_root = os.geteuid() == 0
    unshare = ("unshare", "-m") if is_root else ("unshare", "-rm")
    probe = [*unshare, "mount", "-t", "tmpfs", "none", "/mnt"]
    found = shutil.which("unshare") and subprocess.run(probe, capture_output=True, text=True, check=False)
    if not found or found.returncode:
        reason = f"mounting is not possible here: {found.stderr.strip() if found else 'unshare is not installed'}"
        pytest.fail(reason) if is_root and os.environ.get("CI") == "true" else pytest.skip(reason)
    return (*unshare, "sh", "-ec", f'{mount}\nexec "$@"', "sh")


def disk_of(folder: Path, size: str, then: str = "", *, make: str = "") -> tuple[str, ...]:
    """Return what to put before a command so that it has an ext4 disk of this size at ``disk`` in ``folder``.

    ``then`` is a shell command that runs on the disk first. ``make`` are options of mkfs.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can mount an image")
    (folder / "disk").mkdir()
    image = folder / "image"
    return behind(
        f"PATH=$PATH:/usr/sbin:/sbin; truncate -s {size} {image}; mkfs.ext4 -q -m 0 {make} {image}\n"
        f"mount -o loop {image} {folder}/disk; (cd {folder}/disk; {then or ':'})"
    )


def assert_only(report: Report, name: str, verdict: str) -> tuple[str, str]:
    """Return the message and the remedy of one check, after asserting that all other checks are ok."""
    found = [one for one in report.content["checks"] if one["verdict"] != "ok"]
    assert {one["name"]: one["verdict"] for one in found} == {name: verdict}, found
    fails = verdict == "failure"
    assert report.code == (1 if fails else 0)
    assert (report.content["failures"], report.content["warnings"]) == ((1, 0) if fails else (0, 1))
    assert found[0]["seen"].endswith("."), "a message is a full sentence"
    assert found[0]["remedy"]
    assert "unexpected" not in found[0]["seen"], found
    assert_consistent(report)
    return found[0]["seen"], found[0]["remedy"]


def assert_all_ok(report: Report, *names: str) -> None:
    """Assert that every check is ok, and that the checks ``names`` are among them."""
    assert [one for one in report.content["checks"] if one["verdict"] != "ok"] == []
    assert report.code == 0
    assert set(names) <= set(report.verdicts)
    assert_consistent(report)


#: How a headline begins, and what ``survives`` is then.
HEADLINES: dict[str, bool | None] = {
    "UPLOADS WILL BE LOST. ": False,
    "UPLOADS DO NOT WORK. ": None,
    "ANOTHER STORE. ": None,
    "The marker of the store": None,
    "It is unknown whether uploads survive. ": None,
    "According to the settings, uploads survive. ": True,
    "Uploads survive. ": True,
}


def assert_consistent(report: Report) -> None:
    """Assert that the headline and ``survives`` say the same."""
    headline = report.headline.partition(" was not examined. ")[2] or report.headline
    (expected,) = (survives for start, survives in HEADLINES.items() if headline.startswith(start))
    assert report.survives is expected, report.headline
