"""The report of ``flask uploads doctor`` as a person, a terminal, a script and a log see it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pty
import re
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask

from flask_persistent_uploads import Uploads

from ...servers import ROOT, clean_environment
from .cases import APP, CLOUDINARY, IMAGEKIT, RENDER, S3, Output, Report, flask, healthy, run

Set = Callable[..., None]

#: What an app can be in, and how the first line of its report begins.
STATES: dict[str, tuple[dict[str, str], str]] = {
    "on a disk": ({}, "Uploads survive: they lie on the disk of this machine"),
    "on a service": (S3, "By the settings alone, uploads survive: they are kept in s3"),
    "wiped": (RENDER, "UPLOADS WILL BE LOST. Render wipes this disk at every deploy and restart."),
    "in memory": ({"UPLOADS_BACKEND": "memory"}, "UPLOADS WILL BE LOST. UPLOADS_BACKEND is memory, which ends"),
    "refused as it is wiped": ({"UPLOADS_REQUIRE_PERSISTENT": "1", **RENDER}, "UPLOADS WILL BE LOST. Render wipes"),
    "not known": ({**RENDER, "RENDER_INSTANCE_ID": ""}, "Nobody can tell whether uploads survive. Render is building"),
    "refused": ({"UPLOADS_MAX_SIZE": "big"}, "UPLOADS DO NOT WORK. UPLOADS_MAX_SIZE is 'big'."),
    "several refused": (
        {"UPLOADS_MAX_SIZE": "big", "UPLOADS_SERVE": "ftp"},
        "UPLOADS DO NOT WORK. 2 settings are wrong or missing.",
    ),
    "two backends": ({**S3, **CLOUDINARY, **IMAGEKIT}, "UPLOADS DO NOT WORK. Two backends are configured at once, by"),
    "no folder": ({"UPLOADS_DIR": "/etc/passwd/uploads"}, "UPLOADS DO NOT WORK. /etc/passwd is no folder."),
    "wiped and no folder": ({"UPLOADS_DIR": "/etc/passwd/uploads", **RENDER}, "UPLOADS WILL BE LOST. Render wipes"),
    "another store": ({"UPLOADS_STORE_ID": "x"}, "ANOTHER STORE. The store x that this app was"),
    "a variable that is unknown": ({"UPLOADS_MAXSIZE": "1"}, "Uploads survive: they lie on the disk"),
}
FAILING = {"wiped", "in memory", "refused as it is wiped", "refused", "two backends", "no folder", "another store"} | {
    "wiped and no folder",
    "several refused",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Set:
    """``environment(UPLOADS_X="…")``: variables of this process."""

    def put(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.fixture(params=STATES)
def state(request: pytest.FixtureRequest, environment: Set) -> str:
    """Each state in turn, of this process."""
    environment(**STATES[request.param][0])
    return str(request.param)


# -- what it says


def test_the_first_line_says_whether_uploads_survive(state: str) -> None:
    assert run("--offline").plain.startswith(STATES[state][1])


def test_the_exit_status_is_1_where_something_fails_and_0_with_warnings(state: str) -> None:
    report = Report.of(run("--offline", "--json"))
    assert report.code == run("--offline").code == (1 if state in FAILING else 0)
    assert ("failure" in report.verdicts.values()) == (state in FAILING)
    assert report.content["failures"] == list(report.verdicts.values()).count("failure")
    assert report.content["warnings"] == list(report.verdicts.values()).count("warning")


def test_json_says_what_the_text_says(state: str) -> None:
    text, report = run("--offline").plain, Report.of(run("--offline", "--json"))
    assert text.startswith(report.headline)
    for variable, (value, origin) in report.settings.items():
        assert f"{variable} = {value} ({origin})" in text
    for check in report.content["checks"]:
        assert f"{check['verdict']} {check['name']} {check['seen']}" in text
        for line in (check["remedy"] or "").splitlines():
            assert f"-> {line}" in text
    kinds = {"failure": "failures", "warning": "warnings"}
    for verdict, kind in kinds.items():
        number = report.content[kind]
        assert (f"{number} {verdict if number == 1 else kind}" in text.split(".")[-2]) == (number > 0)


def test_what_fails_comes_first_and_the_numbers_come_last(environment: Set) -> None:
    environment(UPLOADS_MAXSIZE="1", **RENDER)
    lines = run("--offline").text.splitlines()
    verdicts = [found[1] for line in lines if (found := re.match(r"(failure|warning|skipped|ok) ", line))]
    assert verdicts == ["failure", "warning", *["ok"] * (len(verdicts) - 2)]
    assert re.fullmatch(r"1 failure, 1 warning, \d+ ok\.", lines[-1])


# -- its lines


def columns(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in line)


def fits(line: str, width: int) -> bool:
    """Whether a line is no wider, or is but one word, which stays whole to be copied, after the name of the check."""
    return columns(line) <= width or len(line.split()) == 1 or len(line[_NAME:].split()) == 1


_NAME = 25  # columns of verdict and name


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a name that fits into a line."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        monkeypatch.chdir(name)
        yield Path(name)
        monkeypatch.undo()


@pytest.mark.usefixtures("short")
def test_no_line_is_wider_than_a_terminal_of_80_columns(state: str, environment: Set) -> None:
    environment(COLUMNS="80")
    for line in run("--offline").text.splitlines():
        assert columns(line) <= 80, line


@pytest.mark.parametrize("width", [40, 60, 100, 200])
def test_lines_are_as_wide_as_the_terminal_and_at_most_100(width: int, environment: Set) -> None:
    environment(COLUMNS=str(width), **RENDER)
    lines, width = run("--offline").text.splitlines(), min(width, 100)
    assert [line for line in lines if not fits(line, width)] == []
    assert max(columns(line) for line in lines if columns(line) <= width) > 0.8 * width


def test_a_terminal_of_one_column_is_no_reason_to_fail(environment: Set) -> None:
    environment(COLUMNS="1")
    assert run("--offline").code == 0


def test_only_a_word_that_is_longer_than_the_line_goes_beyond_it_and_stays_whole_to_be_copied(
    environment: Set, tmp_path: Path
) -> None:
    path = f"{tmp_path}/{'a-long-name' * 12}/uploads"
    environment(COLUMNS="80", UPLOADS_DIR=path, UPLOADS_ALLOW=", ".join(f".ext{number}" for number in range(60)))
    lines = run("--offline").text.splitlines()
    assert any(path in line for line in lines)
    assert [line for line in lines if not fits(line, 80)] == []


# -- colour


def on_a_terminal(folder: Path, **more: str) -> str:
    """What a terminal of 80 columns is sent."""
    (folder / "app.py").write_text(APP)
    ours, theirs = pty.openpty()
    variables = {"PYTHONPATH": str(ROOT), "COLUMNS": "80", "TERM": "xterm-256color", **more}
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "app", "uploads", "doctor", "--offline"],
        cwd=folder,
        env=clean_environment(**variables),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    sent = b""
    with contextlib.suppress(OSError):  # it has ended
        while piece := os.read(ours, 65536):
            sent += piece
    os.close(ours)
    process.wait(30)
    return sent.decode()


def test_a_terminal_is_shown_colours_and_the_same_words(tmp_path: Path) -> None:
    shown = on_a_terminal(tmp_path, **RENDER)
    assert re.match(r"\x1b\[31m\x1b\[1mUPLOADS WILL BE LOST", shown)
    assert "\x1b[31mfailure \x1b[0m" in shown
    assert "\x1b[32mok      \x1b[0m" in shown
    plain = re.sub(r"\x1b\[\d+m", "", shown).replace("\r\n", "\n")
    assert plain == flask("--offline", folder=tmp_path, COLUMNS="80", **RENDER).text


def test_a_pipe_is_sent_no_colours(state: str) -> None:
    assert "\x1b" not in run("--offline").text


def test_a_terminal_that_wants_no_colours_is_shown_none(tmp_path: Path) -> None:
    assert "\x1b" not in on_a_terminal(tmp_path, NO_COLOR="1", **RENDER)


HOSTILE = "\x1b[2J\x1b]0;title\x07\r\x08\x9b31m\u202egnp.\u2028"


@pytest.mark.parametrize(
    "variables",
    [
        {"UPLOADS_DIR": f"/tmp/{HOSTILE}"},
        {"UPLOADS_DIR": f"/dev/null/{HOSTILE}"},
        {"UPLOADS_BACKEND": HOSTILE},
        {"UPLOADS_PLATFORM": HOSTILE},
        {"UPLOADS_MAX_SIZE": HOSTILE},
        {"UPLOADS_ALLOW": HOSTILE},
        {"UPLOADS_STORE_ID": f"a{HOSTILE}"},
        {**S3, "UPLOADS_S3_BUCKET": HOSTILE},
        {**S3, "UPLOADS_S3_ENDPOINT_URL": f"https://{HOSTILE}"},
        {**S3, "UPLOADS_S3_ACCESS_KEY_ID": f"AKIAIOSFODNN7{HOSTILE}"},
        {f"UPLOADS_{HOSTILE}": "x"},
        {**RENDER, "RENDER_INSTANCE_ID": HOSTILE},
        {"UPLOADS_PLATFORM": "", "RAILWAY_ENVIRONMENT_ID": "x", "RAILWAY_VOLUME_MOUNT_PATH": f"/{HOSTILE}"},
    ],
    ids=lambda variables: next(iter(variables)).partition("\x1b")[0],
)
def test_no_escape_of_the_environment_reaches_the_terminal(variables: dict[str, str], environment: Set) -> None:
    environment(**variables)
    for output in (run("--offline"), run("--offline", "--json")):
        for sign in output.text + output.errors:
            assert sign == "\n" or sign.isprintable(), output.text


def test_no_escape_of_a_folders_name_reaches_the_terminal(tmp_path: Path, environment: Set) -> None:
    folder = tmp_path / f"static{HOSTILE}" / "\udcff"
    folder.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(folder.parent)], check=True)
    environment(UPLOADS_DIR=str(folder / "uploads"))
    output = run("--offline")
    assert "warning  checkout" in output.text
    assert all(sign == "\n" or sign.isprintable() for sign in output.text)


def test_a_name_on_the_command_line_does_not_reach_the_terminal_as_it_is() -> None:
    output = run("--offline", "--name", HOSTILE)
    assert output.code == 1
    assert all(sign == "\n" or sign.isprintable() for sign in output.text + output.errors)


# -- secrets

LONG = "Zq7Wx2Lm9Kp4Rt6Vb8Nd"

SECRETS: dict[str, dict[str, str]] = {
    "s3": {
        "UPLOADS_S3_BUCKET": "b",
        "UPLOADS_S3_ACCESS_KEY_ID": f"A{LONG}aaaa",
        "UPLOADS_S3_SECRET_ACCESS_KEY": f"S{LONG}ssss",
        "UPLOADS_S3_SESSION_TOKEN": f"T{LONG}tttt",
    },
    "the host's s3": {
        "S3_BUCKET_NAME": "b",
        "AWS_ACCESS_KEY_ID": f"A{LONG}aaaa",
        "AWS_SECRET_ACCESS_KEY": f"S{LONG}ssss",
        "AWS_SESSION_TOKEN": f"T{LONG}tttt",
    },
    "cloudinary": {"CLOUDINARY_URL": f"cloudinary://1{LONG}kkkk:S{LONG}@demo"},
    "cloudinary in parts": {
        "UPLOADS_CLOUDINARY_CLOUD_NAME": "demo",
        "UPLOADS_CLOUDINARY_API_KEY": f"1{LONG}kkkk",
        "UPLOADS_CLOUDINARY_API_SECRET": f"S{LONG}ssss",
    },
    "imagekit": {
        "UPLOADS_IMAGEKIT_PRIVATE_KEY": f"private_{LONG}ssss",
        "UPLOADS_IMAGEKIT_PUBLIC_KEY": f"public_{LONG}kkkk",
        "UPLOADS_IMAGEKIT_URL_ENDPOINT": "https://ik.imagekit.io/demo",
    },
}
REFUSED: dict[str, dict[str, str]] = {
    "a url that is not right": {"UPLOADS_CLOUDINARY_URL": f"https://key:{LONG}@demo"},
    "a url without its cloud": {"UPLOADS_CLOUDINARY_URL": f"cloudinary://key:{LONG}"},
    "a url of two": {"CLOUDINARY_URL": f"CLOUDINARY_URL=cloudinary://key:{LONG}@demo"},
    "a password in an endpoint": {**S3, "UPLOADS_S3_ENDPOINT_URL": f"https://key:{LONG}@minio.example"},
    "a query in an address": {**S3, "UPLOADS_PUBLIC_URL": f"https://cdn.example/?token={LONG}"},
    "half an account": {"UPLOADS_S3_SECRET_ACCESS_KEY": LONG},
    "half of the credentials": {"UPLOADS_S3_BUCKET": "b", "UPLOADS_S3_SECRET_ACCESS_KEY": LONG},
    "two backends": {**SECRETS["s3"], **SECRETS["imagekit"]},
    "a wrong setting": {**SECRETS["s3"], "UPLOADS_MAX_SIZE": "big"},
    "another platform": {**SECRETS["s3"], "UPLOADS_PLATFORM": "nonsense"},
    "a variable that is not known": {"UPLOADS_S3_SECRET": LONG, "UPLOADS_CLOUDINARY_SECRET": LONG},
    "a url of an older store": {"UPLOADS_FALLBACK": f"cloudinary://key:{LONG}@demo"},
    "a url in place of the name": {"UPLOADS_CLOUDINARY_CLOUD_NAME": f"cloudinary://key:{LONG}@demo"},
    "a url in place of the backend": {"UPLOADS_BACKEND": f"cloudinary://key:{LONG}@demo"},
    "a url in place of the bucket": {**S3, "UPLOADS_S3_BUCKET": f"https://key:{LONG}@minio.example/b"},
    "a url of an older store on a platform that is not known": {
        "UPLOADS_FALLBACK": f"cloudinary://key:{LONG}@demo",
        "UPLOADS_PLATFORM": "nonsense",
    },
}


@pytest.mark.parametrize("arguments", [["--offline"], ["--offline", "--json"]], ids=["text", "json"])
@pytest.mark.parametrize("variables", [*SECRETS.values(), *REFUSED.values()], ids=[*SECRETS, *REFUSED])
def test_no_secret_is_printed(variables: dict[str, str], arguments: list[str], environment: Set) -> None:
    environment(**variables)
    output = run(*arguments)
    for start in range(len(LONG) - 4):
        assert LONG[start : start + 5] not in output.text + output.errors


@pytest.mark.parametrize("variables", SECRETS.values(), ids=SECRETS)
def test_of_a_long_secret_the_last_four_signs_are_shown_to_tell_it_by(
    variables: dict[str, str], environment: Set
) -> None:
    environment(**variables)
    settings = Report.of(run("--offline", "--json")).settings
    for name, value in variables.items():
        if LONG in value:
            assert settings[name] == (f"…{value[-4:]}", "environment")


@pytest.mark.parametrize("secret", ["s", "secr", "secret-of-12"])
def test_of_a_short_secret_nothing_is_shown(secret: str, environment: Set) -> None:
    environment(
        UPLOADS_S3_BUCKET="b",
        UPLOADS_S3_ENDPOINT_URL="http://127.0.0.1:9",
        UPLOADS_S3_ACCESS_KEY_ID=secret,
        UPLOADS_S3_SECRET_ACCESS_KEY=secret,
    )
    settings = Report.of(run("--offline", "--json")).settings
    assert settings["UPLOADS_S3_SECRET_ACCESS_KEY"] == settings["UPLOADS_S3_ACCESS_KEY_ID"] == ("…", "environment")


# -- where it works


def test_it_works_where_the_app_refuses_to_start(tmp_path: Path) -> None:
    output = flask("--offline", folder=tmp_path, UPLOADS_BACKEND="s3", UPLOADS_MAX_SIZE="big")
    assert output.code == 1
    assert output.first_line == "UPLOADS DO NOT WORK. 2 settings are wrong or missing."
    assert "UPLOADS_S3_BUCKET is not set" in output.plain
    assert "UPLOADS_MAX_SIZE is 'big'" in output.plain
    assert output.errors == ""


def test_it_works_with_a_factory_that_refuses(tmp_path: Path) -> None:
    lines = APP.strip().splitlines()
    factory = "\n".join([*lines[:3], "def create_app():", *(f"    {line}" for line in lines[4:]), "    return app\n"])
    output = flask("--offline", folder=tmp_path, app=factory, UPLOADS_MAX_SIZE="big")
    assert output.first_line == "UPLOADS DO NOT WORK. UPLOADS_MAX_SIZE is 'big'."
    assert "Traceback" not in output.errors
    assert flask("--offline", folder=tmp_path, app=factory).code == 0


PURGE = """
import click
from flask.cli import AppGroup
group = AppGroup("uploads")

@group.command()
@click.argument("age")
def purge(age):
    print(f"{app.name}: purged after {age}")
"""


@pytest.mark.parametrize("first", [True, False], ids=["before ours", "after ours"])
def test_a_command_of_the_apps_own_in_a_group_of_the_same_name_is_found_beside_ours(
    first: bool, tmp_path: Path
) -> None:
    theirs = f"{PURGE}\napp.cli.add_command(group)\n"
    app = APP.replace("Uploads(app)", f"{theirs}Uploads(app)") if first else APP + theirs
    purged = flask("30", folder=tmp_path, app=app, command="purge")
    assert (purged.text, purged.code) == ("app: purged after 30\n", 0), purged.errors
    assert flask("--offline", folder=tmp_path, app=app).first_line.startswith("Uploads survive: ")
    unknown = flask(folder=tmp_path, app=app, command="burn")
    assert unknown.code == 2
    assert "No such command 'burn'." in unknown.errors


def test_a_command_that_nobody_has_is_unknown_also_where_the_app_refuses_to_start(tmp_path: Path) -> None:
    output = flask(folder=tmp_path, command="purge", UPLOADS_MAX_SIZE="big")
    assert output.code == 2
    assert "No such command 'purge'." in output.errors
    assert "Traceback" not in output.errors


def test_it_works_through_the_test_runner_of_the_app() -> None:
    result = healthy().test_cli_runner().invoke(args=["uploads", "doctor", "--offline"])
    assert result.exit_code == 0
    assert result.stdout.startswith("Uploads survive: ")
    assert result.stderr == ""


def test_the_log_of_the_app_is_as_loud_after_it_as_before() -> None:
    app, logger = healthy(), logging.getLogger("flask_persistent_uploads")
    before = logger.level
    app.test_cli_runner().invoke(args=["uploads", "doctor", "--offline"])
    assert logger.level == before


def two() -> Flask:
    app = healthy()
    Uploads(app, name="documents")
    return app


def test_of_two_the_one_that_is_named_is_examined(environment: Set, tmp_path: Path) -> None:
    environment(DOCUMENTS_BACKEND="memory", UPLOADS_MAX_FILES="7", DOCUMENTS_MAX_FILES="8")
    documents = Report.of(run("--offline", "--json", "--name", "documents", create=two))
    assert documents.headline == "UPLOADS WILL BE LOST. DOCUMENTS_BACKEND is memory, which ends with the process."
    assert documents.check("persistence")["remedy"].startswith(
        "unset DOCUMENTS_BACKEND and set DOCUMENTS_S3_BUCKET and"
    )
    assert documents.settings == {
        "DOCUMENTS_BACKEND": ("memory", "environment"),
        "DOCUMENTS_MAX_FILES": ("8", "environment"),
    }
    uploads = Report.of(run("--offline", "--json", create=two))
    assert uploads.headline.startswith("Uploads survive: ")
    assert uploads.settings["UPLOADS_MAX_FILES"] == ("7", "environment")


def test_a_second_that_is_refused_is_examined_under_its_own_name(environment: Set) -> None:
    environment(DOCUMENTS_MAX_SIZE="big")
    output = run("--offline", "--name", "documents", create=two)
    assert output.first_line == "UPLOADS DO NOT WORK. DOCUMENTS_MAX_SIZE is 'big'."


def test_where_another_than_the_one_that_is_named_is_refused_the_report_says_which(environment: Set) -> None:
    environment(UPLOADS_MAX_SIZE="big")
    output = run("--offline", "--name", "documents", create=two)
    assert output.code == 1
    assert output.plain.startswith("Of 'uploads', not 'documents', as it keeps the app from starting: UPLOADS DO NOT")
    assert "UPLOADS_MAX_SIZE is 'big'" in output.plain
    assert "keeps the app from" not in run("--offline", create=two).plain


def test_json_is_json_also_where_two_are_at_one_place(environment: Set) -> None:
    environment(DOCUMENTS_URL_PREFIX="/uploads")
    report = Report.of(run("--offline", "--json", "--name", "documents", create=two))
    assert report.content["failures"] == 1
    assert report.headline == "UPLOADS DO NOT WORK. /uploads is served by the Uploads named 'uploads' already."


def test_a_name_that_the_app_does_not_have_is_answered_with_those_that_it_has() -> None:
    output = run("--offline", "--name", "documents")
    assert output.code == 1
    assert output.text == ""
    assert "The app has no Uploads named 'documents': it has uploads." in output.errors
    assert "it has uploads, documents." in run("--offline", "--name", "photos", create=two).errors


@pytest.mark.parametrize("arguments", [["--offline"], ["--offline", "--json"], []])
def test_an_app_without_the_extension_is_told_how_to_add_it(arguments: list[str], tmp_path: Path) -> None:
    output = flask(*arguments, folder=tmp_path, app="from flask import Flask\napp = Flask(__name__)\n")
    assert output.code == 1
    assert output.errors == "Error: The app has no Uploads named 'uploads': call Uploads(app) in it.\n"


def test_where_there_is_no_app_it_says_so(tmp_path: Path) -> None:
    output = flask("--offline", folder=tmp_path, app=None)
    assert output.code != 0
    assert output.text == ""
    assert "Error: Could not locate a Flask application." in output.errors
    assert "Traceback" not in output.errors


@pytest.mark.parametrize("arguments", [["--offline"], ["--offline", "--json"], []])
def test_nothing_is_printed_before_the_report_nor_beside_it(arguments: list[str], tmp_path: Path) -> None:
    output = flask(*arguments, folder=tmp_path, UPLOADS_MAXSIZE="1", UPLOADS_STORE_ID="another", **RENDER)
    assert output.errors == ""
    assert output.first_line.startswith(("UPLOADS WILL BE LOST.", "{"))
    if "--json" in arguments:
        json.loads(output.text)


# -- what it leaves


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """What lies below a folder, with its time and content; Python's own files apart."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [folder, *folder.rglob("*")]
    }


@pytest.mark.parametrize("arguments", [["--offline"], []], ids=["offline", "online"])
@pytest.mark.parametrize("depth", ["", "a/b/c", "there"])
def test_it_leaves_nothing_behind(arguments: list[str], depth: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "there").mkdir()
    environment = {"UPLOADS_DIR": f"{tmp_path}/{depth}"} if depth else {}
    before = tree(tmp_path)
    output = flask(*arguments, folder=tmp_path, **environment)
    assert output.code == 0
    assert ("A file can be saved" in output.plain) == (arguments == [])
    after = tree(tmp_path)
    assert set(after) == set(before)
    if arguments == ["--offline"]:
        assert {name: seen for name, seen in after.items() if not name.endswith("app.py")} == {
            name: seen for name, seen in before.items() if not name.endswith("app.py")
        }


def test_it_leaves_the_files_of_a_store_as_they_are(tmp_path: Path) -> None:
    app = healthy(TESTING=True)  # as its first save would have the marker of the store made, in the background
    with app.app_context():
        app.extensions["flask_persistent_uploads"]["uploads"].uploads.save(b"content", filename="a.txt")
    before = {name: content for name, (_, content) in tree(tmp_path).items()}
    assert run(create=lambda: app).code == 0
    assert {name: content for name, (_, content) in tree(tmp_path).items()} == before


def test_what_it_says_of_the_app_is_the_same_twice(state: str) -> None:
    first: Output = run("--offline")
    assert run("--offline") == first
