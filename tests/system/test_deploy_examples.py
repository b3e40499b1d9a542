"""The folders to deploy from are whole repositories. They are started as their hosts would start them."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from importlib.metadata import metadata, version
from itertools import pairwise
from pathlib import Path
from threading import Barrier
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml
from dotenv import dotenv_values
from flask import Flask
from packaging.requirements import Requirement
from sqlalchemy import Table, event

from ..conftest import PNG, settings_of
from ..servers import ROOT, Gunicorn, free_ports
from ..settings_table import all_settings
from .client import BOUNDARY, fetch, once

FOLDERS = {host: ROOT / "examples" / host for host in ("render", "koyeb")}
FILES = [path for folder in FOLDERS.values() for path in sorted(folder.iterdir()) if path.is_file()]
OPTIONS = "-k gthread --threads 8 --workers 2 --timeout 120 --graceful-timeout 30 --keep-alive 75 --max-requests 1000"

#: What tells the extension where it runs. Without the variable of the instance, it would assume a build.
HOSTS = {
    "render": {
        "UPLOADS_PLATFORM": "",
        "RENDER": "true",
        "RENDER_SERVICE_ID": "srv-1",
        "RENDER_INSTANCE_ID": "srv-1-a",
    },
    "koyeb": {
        "UPLOADS_PLATFORM": "",
        "KOYEB_APP_NAME": "reports",
        "KOYEB_SERVICE_ID": "1",
        "KOYEB_INSTANCE_ID": "2",
    },
}
VARIANTS = [(host, variant) for host in FOLDERS for variant in ("s3", "cloudinary", "disk")]

Environment = dict[str, str]


# -- what the files say


def blueprint(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text())
    assert isinstance(content, dict)
    return content


def of_render(variant: str) -> dict[str, Any]:
    names = {"s3": "render.yaml", "cloudinary": "render.cloudinary.yaml", "disk": "render.disk.yaml"}
    return blueprint(FOLDERS["render"] / names[variant])


def koyeb_calls(variant: str, folder: Path, **given: str) -> list[list[str]]:
    """Return the calls that ``deploy.sh`` makes to Koyeb's command line tool. A stand-in records them."""
    tool, calls = folder / "bin" / "koyeb", folder / "calls"
    tool.parent.mkdir(exist_ok=True)
    tool.write_text(
        f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]), file=open({str(calls)!r}, 'a'))"
    )
    tool.chmod(0o755)
    calls.unlink(missing_ok=True)
    environment = {"PATH": f"{tool.parent}:/usr/bin:/bin", "REPOSITORY": "github.com/you/reports", **given}
    name = "volume" if variant == "disk" else variant
    subprocess.run([FOLDERS["koyeb"] / "deploy.sh", name], env=environment, check=True, cwd=folder, timeout=30)
    return [json.loads(line) for line in calls.read_text().splitlines()]


def options(call: list[str], name: str) -> list[str]:
    return [value for option, value in pairwise(call) if option == name]


class Deployment(NamedTuple):
    start: str
    environment: Environment
    health: str
    mount: str | None


def deployment(host: str, variant: str, secrets: Environment, folder: Path) -> Deployment:
    """Return what a host would run, from its files. ``secrets`` are what an operator enters there."""
    if host == "render":
        service = of_render(variant)["services"][0]
        environment = {}
        for entry in service["envVars"]:
            key = entry["key"]
            environment[key] = entry["value"] if "value" in entry else secrets[key]
        mount = service.get("disk", {}).get("mountPath")
        return Deployment(service["startCommand"], environment, service["healthCheckPath"], mount)
    shown = {key: secrets[key] for key in ("UPLOADS_S3_BUCKET", "UPLOADS_S3_ENDPOINT_URL") if key in secrets}
    call = koyeb_calls(variant, folder, **shown)[-1]
    pairs = dict(pair.split("=", 1) for pair in options(call, "--env"))
    environment = {key: secrets[value[1:]] if value.startswith("@") else value for key, value in pairs.items()}
    kind, _, start = (FOLDERS["koyeb"] / "Procfile").read_text().strip().partition(": ")
    assert kind == "web"
    (check,), volumes = options(call, "--checks"), options(call, "--volumes")
    port, _, path = check.split(":")
    assert port == environment.pop("PORT")
    return Deployment(start, environment, path, volumes[0].split(":")[1] if volumes else None)


# -- as on the host


class Host(Gunicorn):
    """Runs the start command of a file unchanged, in a shell, with ``PORT``."""

    def __init__(self, start: str, *, environment: Environment, folder: Path, log: Path) -> None:
        (port,) = free_ports(1)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        super().__init__(
            "", environment={**environment, "PATH": path, "PORT": str(port)}, folder=folder, port=port, log=log
        )
        self._command = ["sh", "-c", f"exec {start}"]


@pytest.fixture(params=VARIANTS, ids="-".join)
def variant(request: pytest.FixtureRequest) -> tuple[str, str]:
    pair: tuple[str, str] = request.param
    return pair


@pytest.fixture
def deployed(variant: tuple[str, str], request: pytest.FixtureRequest, tmp_path: Path) -> Deployment:
    """Return a variant with the secrets of an operator and the URLs of the test servers."""
    host, kind = variant
    typed: Environment = {}
    if kind != "disk":
        typed = {**settings_of(kind, request), "DATABASE_URL": request.getfixturevalue("postgres")}
    found = deployment(host, kind, typed, tmp_path)
    stand_ins = {"UPLOADS_S3_ENDPOINT_URL", "UPLOADS_CLOUDINARY_UPLOAD_PREFIX", "UPLOADS_PUBLIC_URL"}
    environment = found.environment | {key: typed[key] for key in stand_ins & typed.keys()}
    if found.mount:
        (tmp_path / "disk").mkdir()
        environment = {key: value.replace(found.mount, str(tmp_path / "disk")) for key, value in environment.items()}
    else:  # on this machine's disk, a host's variables would make it refuse to start
        environment |= HOSTS[host]
    return found._replace(environment=environment)


@pytest.fixture
def machine(variant: tuple[str, str], tmp_path: Path) -> Path:
    """Return the repository as the host checks it out."""
    folder = tmp_path / "machine"
    shutil.copytree(FOLDERS[variant[0]], folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def report(title: str, content: bytes, filename: str = "a.png") -> bytes:
    """Return the form of the page with these values."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="'
    photo = f'photo"; filename="{filename}"\r\n\r\n'.encode() + content
    return f'{head}title"\r\n\r\n{title}\r\n{head}'.encode() + photo + f"\r\n--{BOUNDARY}--\r\n".encode()


def photo_of(url: str, title: str) -> bytes:
    page = fetch(f"{url}/").data.decode()
    found = re.search(rf'<h2>{title}</h2>\s*<img src="([^"]+)"', page)
    assert found, page
    answer = fetch(url + found[1])
    assert answer.status == 200
    return answer.data


def test_a_report_and_its_photo_survive_a_redeploy(
    variant: tuple[str, str], deployed: Deployment, machine: Path, tmp_path: Path
) -> None:
    title, log = "-".join(variant), tmp_path / "log"
    with Host(deployed.start, environment=deployed.environment, folder=machine, log=log) as before:
        assert len(before.workers()) == 2
        assert once(before.url, "POST", "/", report(title, PNG)).status == 303
        assert photo_of(before.url, title) == PNG
        before.kill()
    untouched = {path.name for path in FOLDERS[variant[0]].iterdir()} | {"__pycache__"}
    assert {path.name for path in machine.iterdir()} <= untouched, "the app keeps something on the disk that is wiped"
    shutil.rmtree(machine)
    shutil.copytree(FOLDERS[variant[0]], machine)
    with Host(deployed.start, environment=deployed.environment, folder=machine, log=log) as after:
        assert photo_of(after.url, title) == PNG
    assert "WILL BE LOST" not in log.read_text()


def test_the_health_check_of_each_variant_answers_200(deployed: Deployment, machine: Path, tmp_path: Path) -> None:
    with Host(deployed.start, environment=deployed.environment, folder=machine, log=tmp_path / "log") as server:
        answer = fetch(server.url + deployed.health)
    assert answer.status == 200
    assert isinstance(json.loads(answer.data), dict)


@pytest.mark.parametrize("variant", [("render", "disk")], ids="-".join)
def test_a_photo_that_is_too_large_is_answered_over_a_real_connection(
    deployed: Deployment, machine: Path, tmp_path: Path
) -> None:
    with Host(deployed.start, environment=deployed.environment, folder=machine, log=tmp_path / "log") as server:
        answer = once(server.url, "POST", "/", report("large", PNG + bytes(11_000_000)))
    assert (answer.status, b"at most 10 MB" in answer.data) == (413, True)


@pytest.mark.parametrize("host", FOLDERS)
def test_the_disk_variant_does_not_start_if_the_disk_is_missing(host: str, tmp_path: Path) -> None:
    found = deployment(host, "disk", {}, tmp_path)
    unmounted = {key: value.replace("/var/data", str(tmp_path)) for key, value in found.environment.items()}
    folder, log = tmp_path / "machine", tmp_path / "log"
    shutil.copytree(FOLDERS[host], folder)
    with (
        pytest.raises(RuntimeError, match="did not start"),
        Host(found.start, environment=unmounted | HOSTS[host], folder=folder, log=log),
    ):
        pass
    assert "UPLOADS_REQUIRE_PERSISTENT is set, but" in log.read_text()


# -- the files


def test_both_folders_contain_the_same_app() -> None:
    for name in ("app.py", "requirements.txt", ".env.example", ".gitignore"):
        assert (FOLDERS["render"] / name).read_bytes() == (FOLDERS["koyeb"] / name).read_bytes(), name


def test_the_tests_run_with_versions_that_the_app_requires() -> None:
    extras = set(metadata("flask-persistent-uploads").get_all("Provides-Extra", []))
    lines = (FOLDERS["render"] / "requirements.txt").read_text().splitlines()
    required = {found.name: found for found in (Requirement(line.partition("#")[0]) for line in lines)}
    assert required["flask-persistent-uploads"].extras == {"s3", "cloudinary"} <= extras
    for name, requirement in required.items():
        assert requirement.specifier.contains(version(name)), name
    imported = set(re.findall(r"^(?:from|import) (\w+)", (FOLDERS["render"] / "app.py").read_text(), re.MULTILINE))
    assert imported - set(sys.stdlib_module_names) == {"flask", "werkzeug", "sqlalchemy", "flask_persistent_uploads"}


def test_all_blueprints_have_the_same_start_command_and_health_check() -> None:
    known = {"type", "name", "runtime", "buildCommand", "startCommand", "healthCheckPath", "envVars"}
    for kind in ("s3", "cloudinary", "disk"):
        found = of_render(kind)
        (service,) = found["services"]
        assert service.keys() - known == ({"disk", "numInstances"} if kind == "disk" else {"maxShutdownDelaySeconds"})
        assert service["healthCheckPath"] == "/uploads/_health"
        assert (service["type"], service["runtime"]) == ("web", "python")
        assert f'gunicorn "app:create_app()" --bind "0.0.0.0:$PORT" {OPTIONS}' in service["startCommand"]
        databases = [database["name"] for database in found.get("databases", [])]
        linked = [entry["fromDatabase"] for entry in service["envVars"] if "fromDatabase" in entry]
        assert linked == [{"name": name, "property": "connectionString"} for name in databases]
        for entry in service["envVars"]:
            assert isinstance(entry.get("value", ""), str), entry
            assert len(entry) == 2


def test_the_disk_variant_keeps_everything_below_the_mount_path_of_one_instance(tmp_path: Path) -> None:
    (service,) = of_render("disk")["services"]
    assert service["numInstances"] == 1
    for host in FOLDERS:
        found = deployment(host, "disk", {}, tmp_path)
        assert found.mount == "/var/data"
        assert found.environment["UPLOADS_DIR"] == "/var/data/uploads"
        assert found.environment["DATABASE_URL"] == "sqlite:////var/data/reports.db"


@pytest.mark.parametrize("kind", ["s3", "cloudinary", "disk"])
def test_the_script_creates_an_app_and_a_service_and_a_volume_if_needed(kind: str, tmp_path: Path) -> None:
    *before, create = koyeb_calls(kind, tmp_path, UPLOADS_S3_BUCKET="my-bucket", UPLOADS_S3_REGION="eu-central-1")
    volume = ["volumes", "create", "reports-data", "--region", "fra", "--size", "1"]
    assert before == [*([volume] if kind == "disk" else []), ["apps", "create", "reports"]]
    assert create[:5] == ["services", "create", "web", "--app", "reports"]
    assert options(create, "--regions") == ["fra"]
    assert options(create, "--scale") == (["1"] if kind == "disk" else [])
    assert options(create, "--checks") == ["8000:http:/uploads/_health"]
    assert ("UPLOADS_S3_REGION=eu-central-1" in create) == (kind == "s3")


def test_the_script_asks_for_missing_values_before_it_creates_anything(tmp_path: Path) -> None:
    for given in ({}, {"REPOSITORY": "github.com/you/reports"}):
        for arguments in (["s3"], []):
            answer = subprocess.run(
                [FOLDERS["koyeb"] / "deploy.sh", *arguments],
                env={"PATH": "/usr/bin:/bin", **given},
                capture_output=True,
                text=True,
                check=False,
            )
            assert answer.returncode == 2 or "set it to" in answer.stderr
            assert "koyeb: not found" not in answer.stderr


def variables_of(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w./])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+(?!\w)", text))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_variable_that_a_file_names_exists(path: Path) -> None:
    ours = {f"UPLOADS_{setting.name.upper()}" for setting in all_settings()}
    others = {name for setting in all_settings() for name in setting.native_parsers}
    assert variables_of(path.read_text()) <= ours | others | {"DATABASE_URL", "MAX_CONTENT_LENGTH"}


def test_the_example_environment_lists_every_variable_that_is_set_on_a_host(tmp_path: Path) -> None:
    listed = variables_of((FOLDERS["render"] / ".env.example").read_text())
    for path in FILES:
        if path.suffix in {".yaml", ".sh"}:
            assert variables_of(path.read_text()) <= listed, path
    assert not dotenv_values(FOLDERS["render"] / ".env.example"), "without changes it is for development"
    lines = re.findall(r"^# ([A-Z_0-9]+)=", (FOLDERS["render"] / ".env.example").read_text(), re.MULTILINE)
    assert set(lines) == listed


def test_the_button_sets_the_same_variables_as_the_script(tmp_path: Path) -> None:
    found = re.search(r"https://app\.koyeb\.com/deploy\?\S+", (FOLDERS["koyeb"] / "README.md").read_text())
    assert found
    asked = dict(parse_qsl(urlsplit(found[0]).query, strict_parsing=True))
    by_button = {key[4:-1]: value for key, value in asked.items() if key.startswith("env[")}
    call = koyeb_calls("s3", tmp_path, UPLOADS_S3_BUCKET="my-bucket", UPLOADS_S3_REGION="eu-central-1")[-1]
    by_script = dict(pair.split("=", 1) for pair in options(call, "--env"))
    assert by_button == {key: re.sub(r"^@(.+)", r"{{ secret.\1 }}", value) for key, value in by_script.items()}
    assert asked["ports"] == f"{by_script['PORT']};http;/"
    assert asked["hc_path[8000]"] == "/uploads/_health"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_file_contains_a_secret(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"AKIA[0-9A-Z]{12}|private_[A-Za-z0-9]|-----BEGIN", text)
    assert not re.search(r"://[^\s/:@<]+:[^\s/@<]+@", text), "a URL with a password"
    assert not [word for word in re.findall(r"[A-Za-z0-9+/]{32,}", text) if re.search(r"\d", word)]
    secret = r"\w*(?:SECRET|ACCESS_KEY|API_KEY|PASSWORD|TOKEN|CLOUDINARY_URL)\w*"
    for value in re.findall(rf"\b{secret}=(\S*)", text):
        assert re.fullmatch(r"|@[A-Z0-9_]+|…", value), value
    if path.suffix == ".yaml":
        for entry in blueprint(path)["services"][0]["envVars"]:
            if re.fullmatch(secret, entry["key"]):
                assert entry == {"key": entry["key"], "sync": False}


# -- the page


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return the example's module, with a new SQLite file and with uploads in memory."""
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'reports.db'}")
    monkeypatch.setenv("UPLOADS_BACKEND", "memory")
    monkeypatch.setenv("UPLOADS_MAX_SIZE", "300kB")  # above 500 kB, the test client leaves a file open
    spec = importlib.util.spec_from_file_location("deployed_example", FOLDERS["render"] / "app.py")
    assert spec
    assert spec.loader
    module: Any = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "deployed_example", module)  # SQLAlchemy looks up annotations there
    spec.loader.exec_module(module)
    engines: list[Any] = []
    create_engine = module.create_engine

    def remembered(*arguments: Any, **options: Any) -> Any:
        engines.append(create_engine(*arguments, **options))
        return engines[-1]

    monkeypatch.setattr(module, "create_engine", remembered)
    yield module
    for engine in engines:
        engine.dispose()


@pytest.fixture
def example(module: Any) -> Flask:
    app: Flask = module.create_app()
    return app


def send(app: Flask, title: str | None = "x", photo: bytes | None = PNG, filename: str = "a.png") -> tuple[int, str]:
    data: dict[str, Any] = {} if title is None else {"title": title}
    data |= {} if photo is None else {"photo": (io.BytesIO(photo), filename)}
    answer = app.test_client().post("/", data=data, content_type="multipart/form-data")
    words = re.search(r'<p role="alert">(.*?)</p>', answer.text)
    return answer.status_code, words[1] if words else ""


@pytest.mark.parametrize(
    ("title", "photo", "status", "words"),
    [
        ("x", b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "is not allowed"),
        ("x", PNG + bytes(350_000), 413, "A file may have at most 300 kB."),
        ("x", None, 400, "Choose a photo."),
        ("  ", PNG, 400, "Write what happened"),
        (None, PNG, 400, "Write what happened"),
        ("x" * 201, PNG, 400, "at most 200 characters"),
    ],
)
def test_visitors_read_why_a_report_was_refused(
    example: Flask, title: str | None, photo: bytes | None, status: int, words: str
) -> None:
    got, said = send(example, title, photo)
    assert (got, words in said) == (status, True), said
    with example.app_context():
        assert list(example.extensions["flask_persistent_uploads"]["uploads"].uploads.backend.entries()) == []


def test_visitors_read_why_a_form_above_max_content_length_was_refused(example: Flask) -> None:
    assert example.config["MAX_CONTENT_LENGTH"] == 20_000_000
    example.config["MAX_CONTENT_LENGTH"] = 200_000
    assert send(example, photo=PNG + bytes(250_000)) == (413, "This is too large. Choose a smaller photo.")


def test_titles_are_escaped(example: Flask) -> None:
    assert send(example, "<script>alert(1)</script>") == (303, "")
    assert "<h2>&lt;script&gt;alert(1)&lt;/script&gt;</h2>" in example.test_client().get("/").text


def test_a_photo_without_a_row_is_deleted(example: Flask, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "reports.db") as database:
        database.execute("drop table report")
    database.close()
    assert send(example)[0] == 500
    with example.app_context():
        assert list(example.extensions["flask_persistent_uploads"]["uploads"].uploads.backend.entries()) == []


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_workers_that_start_at_the_same_time_on_an_empty_database_all_start(
    module: Any, database: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database == "postgres":
        monkeypatch.setenv("DATABASE_URL", request.getfixturevalue("postgres"))
    module.Base.metadata.drop_all(module.database())
    both_have_looked = Barrier(2, timeout=20)

    def wait(*_: object, tables: list[Table], **__: object) -> None:
        if tables:
            both_have_looked.wait()

    event.listen(module.Base.metadata, "before_create", wait)
    with ThreadPoolExecutor(2) as pool:
        for app in pool.map(lambda _: module.create_app(), range(2)):
            assert app.test_client().get("/").status_code == 200


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_is_accessible_and_needs_no_script(example: Flask) -> None:
    send(example, "A broken lamp")
    page = Page(example.test_client().get("/").text)
    assert page.all("html") == [{"lang": "en"}]
    assert {label["for"] for label in page.all("label")} == {field["id"] for field in page.all("input")}
    (form,) = page.all("form")
    assert form == {"action": "/", "method": "post", "enctype": "multipart/form-data"}
    assert [image["alt"] for image in page.all("img")] == ["Photo: A broken lamp"]
    assert {tag for tag, _ in page.tags} >= {"main", "h1", "article", "h2", "button"}
    assert not page.all("script")
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
