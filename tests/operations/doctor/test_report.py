"""The report of ``flask uploads doctor``: its text, its JSON, its colours, and what it leaves behind."""

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
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from flask_persistent_uploads import Uploads

from ...servers import ROOT, clean_environment
from .cases import (
    APP,
    CLOUDINARY,
    HEADLINES,
    IMAGEKIT,
    RENDER,
    S3,
    Output,
    Report,
    Set,
    assert_consistent,
    flask,
    healthy,
    run,
)

#: The states of an app, and how the headline of its report begins.
STATES: dict[str, tuple[dict[str, str], str]] = {
    "on a disk": ({}, "Uploads survive. The folder is on the disk of this machine"),
    "on a service": (S3, "According to the settings, uploads survive. Files are kept in s3"),
    "wiped": (RENDER, "UPLOADS WILL BE LOST. Render wipes the app's disk at every deploy and restart."),
    "in memory": ({"UPLOADS_BACKEND": "memory"}, "UPLOADS WILL BE LOST. The backend memory keeps files only"),
    "refused because it is wiped": (
        {"UPLOADS_REQUIRE_PERSISTENT": "1", **RENDER},
        "UPLOADS WILL BE LOST. Render wipes",
    ),
    "unknown": ({**RENDER, "RENDER_INSTANCE_ID": ""}, "It is unknown whether uploads survive. Render is building"),
    "refused": ({"UPLOADS_MAX_SIZE": "big"}, "UPLOADS DO NOT WORK. UPLOADS_MAX_SIZE is 'big'."),
    "refused and wiped": ({"UPLOADS_MAX_SIZE": "big", **RENDER}, "UPLOADS WILL BE LOST. Render wipes"),
    "refused for several reasons": (
        {"UPLOADS_MAX_SIZE": "big", "UPLOADS_MAX_FILES": "many"},
        "UPLOADS DO NOT WORK. 2 settings are wrong or missing.",
    ),
    "two backends": (
        {**S3, **CLOUDINARY, **IMAGEKIT},
        "UPLOADS DO NOT WORK. Several backends are configured at once, by",
    ),
    "no folder": ({"UPLOADS_DIR": "/etc/passwd/uploads"}, "UPLOADS DO NOT WORK. /etc/passwd is not a folder."),
    "wiped and no folder": ({"UPLOADS_DIR": "/etc/passwd/uploads", **RENDER}, "UPLOADS WILL BE LOST. Render wipes"),
    "another store": ({"UPLOADS_STORE_ID": "x"}, "ANOTHER STORE. The app expects the store x"),
    "an unknown variable": ({"UPLOADS_MAXSIZE": "1"}, "Uploads survive. The folder is on the disk"),
}
WORKING = {"on a disk", "on a service", "unknown", "an unknown variable"}
FAILING = STATES.keys() - WORKING


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Set:
    """``environment(UPLOADS_X="…")`` sets variables of this process."""

    def put(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.fixture(params=STATES)
def state(request: pytest.FixtureRequest, environment: Set) -> str:
    """Put this process into each state in turn."""
    environment(**STATES[request.param][0])
    return str(request.param)


# -- its text


def test_the_first_line_tells_whether_uploads_survive(state: str) -> None:
    assert run("--offline").plain.startswith(STATES[state][1])


def test_the_exit_status_is_1_if_a_check_fails_and_0_with_warnings(state: str) -> None:
    report = Report.of(run("--offline", "--json"))
    assert report.code == run("--offline").code == (1 if state in FAILING else 0)
    assert ("failure" in report.verdicts.values()) == (state in FAILING)
    assert report.content["failures"] == list(report.verdicts.values()).count("failure")
    assert report.content["warnings"] == list(report.verdicts.values()).count("warning")


def test_the_headline_and_survives_say_the_same(state: str) -> None:
    report = Report.of(run("--offline", "--json"))
    assert_consistent(report)
    (expected,) = (survives for start, survives in HEADLINES.items() if STATES[state][1].startswith(start))
    assert report.survives is expected


def without_space(text: str) -> str:
    """Remove the free space of the disk, which other programs change meanwhile."""
    return re.sub(r"[\d.]+ [MG]B are free", "… are free", text)


def test_the_json_says_what_the_text_says(state: str) -> None:
    text = without_space(run("--offline").plain)
    report = Report.of(Output(without_space((output := run("--offline", "--json")).text), output.code))
    assert text.startswith(report.headline)
    for variable, (value, origin) in report.settings.items():
        assert f"{variable} = {value} ({origin})" in text
    for check in report.content["checks"]:
        assert f"{check['verdict']} {check['name']}: {check['seen']}" in text
        for line in (check["remedy"] or "").splitlines():
            assert f"-> {line}" in text
    kinds = {"failure": "failures", "warning": "warnings"}
    for verdict, kind in kinds.items():
        number = report.content[kind]
        assert (f"{number} {verdict if number == 1 else kind}" in text.split(".")[-2]) == (number > 0)


def test_failures_come_first_and_the_numbers_come_last(environment: Set) -> None:
    environment(UPLOADS_MAXSIZE="1", **RENDER)
    lines = run("--offline").text.splitlines()
    verdicts = [found[1] for line in lines if (found := re.match(r"(failure|warning|skipped|ok) ", line))]
    assert verdicts == ["failure", "warning", *["ok"] * (len(verdicts) - 2)]
    assert re.fullmatch(r"1 failure, 1 warning, \d+ ok\.", lines[-1])


# -- its lines


def columns(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in line)


def fits(line: str, width: int) -> bool:
    """Return whether a line fits, or consists of one word only, which is not broken so that it can be copied."""
    return columns(line) <= width or len(line.split()) == 1 or len(line[_STATUS:].split()) == 1


_STATUS = 9  # columns of the status of a check


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Change to a folder whose name fits into a line."""
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


def test_a_terminal_of_one_column_does_not_stop_the_report(environment: Set) -> None:
    environment(COLUMNS="1")
    assert run("--offline").code == 0


def test_a_word_that_is_longer_than_the_line_is_not_broken(environment: Set, tmp_path: Path) -> None:
    path = f"{tmp_path}/{'a-long-name' * 12}/uploads"
    environment(COLUMNS="80", UPLOADS_DIR=path, UPLOADS_ALLOW=", ".join(f".ext{number}" for number in range(60)))
    lines = run("--offline").text.splitlines()
    assert any(path in line for line in lines)
    assert [line for line in lines if not fits(line, 80)] == []


# -- colour


def on_a_terminal(folder: Path, **more: str) -> str:
    """Return what doctor sends to a terminal of 80 columns."""
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
    with contextlib.suppress(OSError):  # the process has ended
        while piece := os.read(ours, 65536):
            sent += piece
    os.close(ours)
    process.wait(30)
    return sent.decode()


def test_a_terminal_gets_colours_and_the_same_text(tmp_path: Path) -> None:
    shown = on_a_terminal(tmp_path, **RENDER)
    assert re.match(r"\x1b\[31m\x1b\[1mUPLOADS WILL BE LOST", shown)
    assert "\x1b[31mfailure  \x1b[0m" in shown
    assert "\x1b[32mok       \x1b[0m" in shown
    plain = re.sub(r"\x1b\[\d+m", "", shown).replace("\r\n", "\n")
    piped = flask("--offline", folder=tmp_path, COLUMNS="80", **RENDER).text
    assert without_space(plain) == without_space(piped)


def test_a_pipe_gets_no_colours(state: str) -> None:
    assert "\x1b" not in run("--offline").text


def test_a_terminal_with_no_color_set_gets_no_colours(tmp_path: Path) -> None:
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
def test_no_control_character_of_the_environment_reaches_the_terminal(
    variables: dict[str, str], environment: Set
) -> None:
    environment(**variables)
    for output in (run("--offline"), run("--offline", "--json")):
        for sign in output.text + output.errors:
            assert sign == "\n" or sign.isprintable(), output.text


def test_no_control_character_of_a_folder_name_reaches_the_terminal(tmp_path: Path, environment: Set) -> None:
    folder = tmp_path / "static\x9b31m\u202egnp.\u2028" / "\udcff"
    folder.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(folder.parent)], check=True)
    environment(UPLOADS_DIR=str(folder / "uploads"))
    output = run("--offline")
    assert "warning  checkout" in output.text
    assert all(sign == "\n" or sign.isprintable() for sign in output.text)


def test_no_control_character_of_the_command_line_reaches_the_terminal() -> None:
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
    "a wrong url": {"UPLOADS_CLOUDINARY_URL": f"https://key:{LONG}@demo"},
    "a url without its cloud": {"UPLOADS_CLOUDINARY_URL": f"cloudinary://key:{LONG}"},
    "a url with its name": {"CLOUDINARY_URL": f"CLOUDINARY_URL=cloudinary://key:{LONG}@demo"},
    "a password in an endpoint": {**S3, "UPLOADS_S3_ENDPOINT_URL": f"https://key:{LONG}@minio.example"},
    "a query in an address": {**S3, "UPLOADS_PUBLIC_URL": f"https://cdn.example/?token={LONG}"},
    "half an account": {"UPLOADS_S3_SECRET_ACCESS_KEY": LONG},
    "half of the credentials": {"UPLOADS_S3_BUCKET": "b", "UPLOADS_S3_SECRET_ACCESS_KEY": LONG},
    "two backends": {**SECRETS["s3"], **SECRETS["imagekit"]},
    "a wrong setting": {**SECRETS["s3"], "UPLOADS_MAX_SIZE": "big"},
    "an unknown platform": {**SECRETS["s3"], "UPLOADS_PLATFORM": "nonsense"},
    "an unknown variable": {"UPLOADS_S3_SECRET": LONG, "UPLOADS_CLOUDINARY_SECRET": LONG},
    "a url of an unknown setting": {"UPLOADS_FALLBACK": f"cloudinary://key:{LONG}@demo"},
    "a url in place of the name": {"UPLOADS_CLOUDINARY_CLOUD_NAME": f"cloudinary://key:{LONG}@demo"},
    "a url in place of the backend": {"UPLOADS_BACKEND": f"cloudinary://key:{LONG}@demo"},
    "a url in place of the bucket": {**S3, "UPLOADS_S3_BUCKET": f"https://key:{LONG}@minio.example/b"},
    "a url of an unknown setting on an unknown platform": {
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
def test_the_last_four_characters_of_a_long_secret_are_shown(variables: dict[str, str], environment: Set) -> None:
    environment(**variables)
    settings = Report.of(run("--offline", "--json")).settings
    for name, value in variables.items():
        if LONG in value:
            assert settings[name] == (f"…{value[-4:]}", "environment")


@pytest.mark.parametrize("secret", ["s", "secr", "secret-of-12"])
def test_nothing_of_a_short_secret_is_shown(secret: str, environment: Set) -> None:
    environment(
        UPLOADS_S3_BUCKET="b",
        UPLOADS_S3_ENDPOINT_URL="http://127.0.0.1:9",
        UPLOADS_S3_ACCESS_KEY_ID=secret,
        UPLOADS_S3_SECRET_ACCESS_KEY=secret,
    )
    settings = Report.of(run("--offline", "--json")).settings
    assert settings["UPLOADS_S3_SECRET_ACCESS_KEY"] == settings["UPLOADS_S3_ACCESS_KEY_ID"] == ("…", "environment")


# -- where it works


def test_it_works_if_the_app_refuses_to_start(tmp_path: Path) -> None:
    output = flask("--offline", folder=tmp_path, UPLOADS_BACKEND="s3", UPLOADS_MAX_SIZE="big")
    assert output.code == 1
    assert output.first_line == "UPLOADS DO NOT WORK. 2 settings are wrong or missing."
    assert "UPLOADS_S3_BUCKET (or S3_BUCKET_NAME, AWS_STORAGE_BUCKET_NAME, BUCKET_NAME) is not set." in output.plain
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
def test_commands_of_the_app_in_a_group_of_the_same_name_are_found(first: bool, tmp_path: Path) -> None:
    theirs = f"{PURGE}\napp.cli.add_command(group)\n"
    app = APP.replace("Uploads(app)", f"{theirs}Uploads(app)") if first else APP + theirs
    purged = flask("30", folder=tmp_path, app=app, command="purge")
    assert (purged.text, purged.code) == ("app: purged after 30\n", 0), purged.errors
    assert flask("--offline", folder=tmp_path, app=app).first_line.startswith("Uploads survive. ")
    unknown = flask(folder=tmp_path, app=app, command="burn")
    assert unknown.code == 2
    assert "No such command 'burn'." in unknown.errors


def test_an_unknown_command_is_an_error_if_the_app_refuses_to_start(tmp_path: Path) -> None:
    output = flask(folder=tmp_path, command="purge", UPLOADS_MAX_SIZE="big")
    assert output.code == 2
    assert "No such command 'purge'." in output.errors
    assert "Traceback" not in output.errors


def test_it_works_through_the_test_runner_of_the_app() -> None:
    result = healthy().test_cli_runner().invoke(args=["uploads", "doctor", "--offline"])
    assert result.exit_code == 0
    assert result.stdout.startswith("Uploads survive. ")
    assert result.stderr == ""


def test_the_level_of_the_log_is_restored() -> None:
    app, logger = healthy(), logging.getLogger("flask_persistent_uploads")
    before = logger.level
    app.test_cli_runner().invoke(args=["uploads", "doctor", "--offline"])
    assert logger.level == before


def two() -> Flask:
    app = healthy()
    Uploads(app, name="documents")
    return app


def test_the_name_chooses_which_of_two_is_examined(environment: Set, tmp_path: Path) -> None:
    environment(DOCUMENTS_BACKEND="memory", UPLOADS_MAX_FILES="7", DOCUMENTS_MAX_FILES="8")
    documents = Report.of(run("--offline", "--json", "--name", "documents", create=two))
    assert documents.headline == "UPLOADS WILL BE LOST. The backend memory keeps files only until the process ends."
    remedy = documents.check("persistence")["remedy"]
    assert remedy.startswith("Unset DOCUMENTS_BACKEND and set DOCUMENTS_S3_BUCKET and")
    assert documents.settings == {
        "DOCUMENTS_BACKEND": ("memory", "environment"),
        "DOCUMENTS_MAX_FILES": ("8", "environment"),
    }
    uploads = Report.of(run("--offline", "--json", create=two))
    assert uploads.headline.startswith("Uploads survive. ")
    assert uploads.settings["UPLOADS_MAX_FILES"] == ("7", "environment")


def test_a_second_one_that_refuses_to_start_is_examined_under_its_name(environment: Set) -> None:
    environment(DOCUMENTS_MAX_SIZE="big", DOCUMENTS_PLATFORM="machine")
    output = run("--offline", "--name", "documents", create=two)
    assert output.first_line == "UPLOADS DO NOT WORK. DOCUMENTS_MAX_SIZE is 'big'."


def test_the_report_says_so_if_another_one_keeps_the_app_from_starting(environment: Set) -> None:
    environment(UPLOADS_MAX_SIZE="big")
    output = run("--offline", "--name", "documents", create=two)
    assert output.code == 1
    assert output.plain.startswith(
        "The Uploads 'uploads' keeps the app from starting, so 'documents' was not examined. UPLOADS DO NOT WORK. "
    )
    assert "UPLOADS_MAX_SIZE is 'big'" in output.plain
    assert "keeps the app from" not in run("--offline", create=two).plain


def test_two_at_the_same_address_are_a_failure(environment: Set) -> None:
    environment(DOCUMENTS_URL_PREFIX="/uploads", DOCUMENTS_PLATFORM="machine")
    report = Report.of(run("--offline", "--json", "--name", "documents", create=two))
    assert report.content["failures"] == 1
    assert report.headline == "UPLOADS DO NOT WORK. The Uploads named 'uploads' serves /uploads already."


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    output = run("--offline", "--name", "documents")
    assert output.code == 1
    assert output.text == ""
    assert "The app has no Uploads named 'documents'. It has uploads." in output.errors
    assert "It has uploads, documents." in run("--offline", "--name", "photos", create=two).errors


@pytest.mark.parametrize("arguments", [["--offline"], ["--offline", "--json"], []])
def test_an_app_without_the_extension_is_told_how_to_add_it(arguments: list[str], tmp_path: Path) -> None:
    output = flask(*arguments, folder=tmp_path, app="from flask import Flask\napp = Flask(__name__)\n")
    assert output.code == 1
    assert output.errors == "Error: The app has no Uploads named 'uploads'. Call Uploads(app) in it.\n"


def test_a_missing_app_is_an_error(tmp_path: Path) -> None:
    output = flask("--offline", folder=tmp_path, app=None)
    assert output.code != 0
    assert output.text == ""
    assert "Error: Could not locate a Flask application." in output.errors
    assert "Traceback" not in output.errors


@pytest.mark.parametrize("arguments", [["--offline"], ["--offline", "--json"], []])
def test_nothing_is_printed_beside_the_report(arguments: list[str], tmp_path: Path) -> None:
    output = flask(*arguments, folder=tmp_path, UPLOADS_MAXSIZE="1", UPLOADS_STORE_ID="another", **RENDER)
    assert output.errors == ""
    assert output.first_line.startswith(("UPLOADS WILL BE LOST.", "{"))
    if "--json" in arguments:
        json.loads(output.text)


# -- what it leaves behind


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return the files and folders below a folder, each with its time and content."""
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
    assert ("A file can be saved." in output.plain) == (arguments == [])
    after = tree(tmp_path)
    assert set(after) == set(before)
    if arguments == ["--offline"]:
        assert {name: seen for name, seen in after.items() if not name.endswith("app.py")} == {
            name: seen for name, seen in before.items() if not name.endswith("app.py")
        }


def test_it_does_not_change_the_files_of_a_store(tmp_path: Path) -> None:
    app = healthy(TESTING=True)  # without TESTING, the first save creates the marker in the background
    with app.app_context():
        app.extensions["flask_persistent_uploads"]["uploads"].uploads.save(b"content", filename="a.txt")
    before = {name: content for name, (_, content) in tree(tmp_path).items()}
    assert run(create=lambda: app).code == 0
    assert {name: content for name, (_, content) in tree(tmp_path).items()} == before


def test_a_second_run_says_the_same(state: str) -> None:
    first, second = (run("--offline") for _ in range(2))
    assert (without_space(second.text), second.code) == (without_space(first.text), first.code)
