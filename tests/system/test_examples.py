"""The examples run as they are."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from ..conftest import PNG
from ..servers import BUCKET, ROOT, Gunicorn, S3Server, clean_environment
from .client import fetch, form, once
from .pages import block

EXAMPLES = ROOT / "examples"
LEGACY_NAME = "3b53b755-9895-4761-a52c-a521a9d7ec7aEVENT 3.png"


def example(name: str) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join([str(EXAMPLES / name), str(ROOT)])}


@pytest.mark.parametrize("backend", ["local", "s3"])
def test_the_quickstart_shows_uploaded_pictures(s3_server: S3Server, tmp_path: Path, backend: str) -> None:
    assert len((EXAMPLES / "quickstart/app.py").read_text().splitlines()) < 40
    environment = example("quickstart") | (
        s3_server.environment(UPLOADS_PREFIX="quickstart")
        if backend == "s3"
        else {"UPLOADS_DIR": str(tmp_path / "files")}
    )
    with Gunicorn("app:create_app()", environment=environment, folder=tmp_path) as server:
        sent = form(("pictures", "one.png", PNG), ("pictures", "two.png", PNG + b"2"))
        assert once(server.url, "POST", "/", sent).status == 303
        assert once(server.url, "POST", "/", form(("pictures", "a.png", b"<svg/>"))).status == 415
        page = fetch(f"{server.url}/").data.decode()
        pictures = re.findall(r'<img src="([^"]+)"', page)
        assert sorted(fetch(server.url + picture).data for picture in pictures) == [PNG, PNG + b"2"]


def test_both_apps_answer_alike_but_only_the_new_one_keeps_its_files(s3_server: S3Server, tmp_path: Path) -> None:
    seen = {}
    for app in ("before", "after"):
        machine = tmp_path / app
        machine.mkdir()
        environment = example("replacing-basicfilewriter") | {"DATABASE": str(tmp_path / f"{app}.db")}
        environment |= s3_server.environment() if app == "after" else {}
        with Gunicorn(f"{app}:app", environment=environment, folder=machine) as server:
            sent = form(("photo", "EVENT 3.png", PNG), ("plan", "PLAN, b (1).png", PNG + b"2"), ("none", "", b""))
            created = once(server.url, "POST", "/reports", sent)
            server.kill()
        shutil.rmtree(machine)
        machine.mkdir()
        with Gunicorn(f"{app}:app", environment=environment, folder=machine) as server:
            (report,) = json.loads(fetch(f"{server.url}/reports").data)
            answers = [fetch(f"{server.url}/{quote(path)}").status for path in (report["photo"], *report["photos"])]
        files = json.loads(created.data)["files"]
        seen[app] = (
            created.status,
            list(files),
            report["photo"] == files["photo"],
            {type(path) for path in files.values()},
        )
        assert answers[0] == (404 if app == "before" else 200)
        if app == "after":
            assert answers == [200, 200, 200]
    assert seen["before"] == seen["after"]


def test_old_rows_lead_to_old_files_in_the_bucket(s3_server: S3Server, tmp_path: Path) -> None:
    database = tmp_path / "reports.db"
    with sqlite3.connect(database) as connection:
        connection.execute("create table report (name text, photo text, photos text)")
        row = ("old", f"uploads\\{LEGACY_NAME}", f"uploads/{LEGACY_NAME},uploads/b.png")
        connection.execute("insert into report values (?, ?, ?)", row)
    connection.close()
    for name in (LEGACY_NAME, "b.png"):
        s3_server.client().put_object(Bucket=BUCKET, Key=f"uploads/{name}", Body=PNG)
    environment = example("replacing-basicfilewriter") | s3_server.environment(DATABASE=str(database))
    with Gunicorn("after:app", environment=environment, folder=tmp_path) as server:
        (report,) = json.loads(fetch(f"{server.url}/reports").data)
        for path in (report["photo"], *report["photos"]):
            assert fetch(f"{server.url}/{quote(path)}").data == PNG
            assert fetch(f"{server.url}/uploads/{quote(path)}?t={time.time()}").data == PNG


def demo(**environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "examples.demo"],
        cwd=ROOT,
        env=clean_environment(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell that starts the tests in the background makes them, and so the demo, ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def processes_below(folder: str) -> list[str]:
    """Return the command lines of processes that run in a folder, or name it."""
    lines = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            where = str((process / "cwd").readlink())
        except OSError:
            continue
        if process.name != str(os.getpid()) and (folder in line or folder in where):
            lines.append(line)
    return lines


def test_the_demo_ends_after_the_table_of_the_readme_if_ci_is_set() -> None:
    process = demo(CI="true")
    output, errors = process.communicate(timeout=150)
    assert process.returncode == 0, errors
    table = block("README.md", "after, with this extension")
    assert table in output
    assert len(table.splitlines()) == 6


def test_the_demo_leaves_a_quickstart_running_until_ctrl_c_and_nothing_afterwards(tmp_path: Path) -> None:
    process = demo(TMPDIR=str(tmp_path), CI="")
    assert process.stdout is not None
    output = ""
    while "Try it by hand" not in output:
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        output += line
    found = re.search(r"Try it by hand: (\S+)", output)
    assert found
    assert fetch(f"{found[1]}/").status == 200
    assert len(processes_below(str(tmp_path))) >= 2
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=90)
    assert process.returncode == 0
    assert processes_below(str(tmp_path)) == []
    left = [path.name for path in tmp_path.iterdir()]
    assert [name for name in left if not name.endswith(".sock") and name != ".gunicorn"] == []
