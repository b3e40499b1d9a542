"""Two ``Uploads`` in one app: if one of them is broken, every remedy names its variables, as the user set them."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_persistent_uploads import Uploads, backends
from flask_persistent_uploads.operations.startup import StartupRefused

from ...fakes.scripted import answer, forward, where
from ...servers import free_ports
from .buckets import NO_LIST, READER, WRITER, BucketServer, Proxy, by_key, delete_by_age, make_public, of, unsigned
from .cases import Report, Set, assert_consistent, run

NAMES = ("uploads", "documents")

_OURS = re.compile(r"\b(?:UPLOADS|DOCUMENTS)_[A-Z0-9_]+")


def two(broken: str, prepare: Callable[[Flask, str], None] | None = None, *, hook: bool = False) -> Flask:
    """Return an app with both ``Uploads``; ``prepare`` breaks something for one of them."""
    app = Flask("two", root_path=str(Path.cwd()), instance_path=str(Path.cwd() / "instance"))
    app.config["MAX_CONTENT_LENGTH"] = 200_000_000
    if prepare is not None:
        prepare(app, broken)
    for name in NAMES:
        uploads = Uploads(app, name=name)
        if hook and name == broken:
            uploads.authorize(lambda action, key: True)
    return app


@dataclass(frozen=True)
class Way:
    """One way in which an ``Uploads`` is broken.

    :attr:`check`     the check that reports it
    :attr:`settings`  what is set, by the end of the variable's name; ``{}`` in a value is the folder of the test
    :attr:`names`     the ends of the variables that the message or the remedy names
    :attr:`also`      variables that do not belong to one ``Uploads``
    :attr:`setting`   the end of the variable that the finding concerns
    """

    check: str
    settings: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    also: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Flask, str], None] | None = None
    hook: bool = False
    setting: str | None = None
    others: tuple[str, ...] = ()


S3_KEYS = {"S3_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "S3_SECRET_ACCESS_KEY": "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"}
S3 = {"S3_BUCKET": "my-bucket", **S3_KEYS}
CLOUDINARY = {"CLOUDINARY_URL": "cloudinary://876543210987654:a-secret-of-cloudinary@demo"}
IMAGEKIT = {"IMAGEKIT_PRIVATE_KEY": "private_a-secret", "IMAGEKIT_URL_ENDPOINT": "https://ik.imagekit.io/demo"}
RENDER = {"RENDER": "true", "RENDER_SERVICE_ID": "srv-1", "RENDER_INSTANCE_ID": "srv-1-abc"}
ON_RENDER = {"PLATFORM": ""}


def take_the_route(app: Flask, name: str) -> None:
    app.add_url_rule(f"/{name}/<path:name>", "old_files", lambda name: name)


def serve_as_static(app: Flask, name: str) -> None:
    app.static_folder = str(Path.cwd() / "static")


def leave_old_files(app: Flask, name: str) -> None:
    (Path.cwd() / "old").mkdir(exist_ok=True)
    (Path.cwd() / "old" / "a.png").write_bytes(b"x")


def put_a_file_in_place_of_the_folder(app: Flask, name: str) -> None:
    (Path.cwd() / "file").write_text("not a folder")


def spoil_the_marker(app: Flask, name: str) -> None:
    (Path.cwd() / "disk" / ".uploads").mkdir(parents=True, exist_ok=True)
    (Path.cwd() / "disk" / ".uploads" / "store.json").write_text("{")


WAYS: dict[str, Way] = {
    "wrong size": Way("configuration", {"MAX_SIZE": "big"}, ("MAX_SIZE",), setting="MAX_SIZE"),
    "wrong number": Way("configuration", {"MAX_FILES": "0"}, ("MAX_FILES",), setting="MAX_FILES"),
    "wrong seconds": Way("configuration", {"URL_EXPIRES": "a day"}, ("URL_EXPIRES",), setting="URL_EXPIRES"),
    "wrong timeout": Way("configuration", {"TIMEOUT": "1"}, ("TIMEOUT",), setting="TIMEOUT"),
    "wrong prefix": Way("configuration", {"PREFIX": "a b"}, ("PREFIX",), setting="PREFIX"),
    "wrong url prefix": Way("configuration", {"URL_PREFIX": "a b"}, ("URL_PREFIX",), setting="URL_PREFIX"),
    "wrong types": Way("configuration", {"ALLOW": "pictures"}, ("ALLOW",), setting="ALLOW"),
    "wrong switch": Way(
        "configuration", {"REQUIRE_PERSISTENT": "maybe"}, ("REQUIRE_PERSISTENT",), setting="REQUIRE_PERSISTENT"
    ),
    "wrong store id": Way("configuration", {"STORE_ID": "'a'"}, ("STORE_ID",), setting="STORE_ID"),
    "wrong folder": Way("configuration", {"DIR": "~nobody-of-that-name/x"}, ("DIR",), setting="DIR"),
    "wrong platform": Way("configuration", {"PLATFORM": "nonsense"}, ("PLATFORM",), setting="PLATFORM"),
    "wrong bucket": Way("configuration", {**S3, "S3_BUCKET": "a b"}, ("S3_BUCKET",), setting="S3_BUCKET"),
    "wrong region": Way("configuration", {**S3, "S3_REGION": "eu: west"}, ("S3_REGION",), setting="S3_REGION"),
    "wrong endpoint": Way(
        "configuration", {**S3, "S3_ENDPOINT_URL": "r2.example"}, ("S3_ENDPOINT_URL",), setting="S3_ENDPOINT_URL"
    ),
    "bucket in the endpoint": Way(
        "configuration",
        {**S3, "S3_ENDPOINT_URL": "https://minio.example/my-bucket"},
        ("S3_ENDPOINT_URL", "S3_BUCKET"),
        setting="S3_ENDPOINT_URL",
    ),
    "region that contradicts the endpoint": Way(
        "configuration",
        {**S3, "S3_REGION": "us-west-2", "S3_ENDPOINT_URL": "https://s3.eu-west-1.amazonaws.com"},
        ("S3_REGION",),
        setting="S3_REGION",
    ),
    "no credentials": Way("configuration", {"S3_BUCKET": "b"}, ("S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY")),
    "half of the credentials": Way(
        "configuration",
        {"S3_BUCKET": "b", "S3_ACCESS_KEY_ID": "a"},
        ("S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"),
        setting="S3_SECRET_ACCESS_KEY",
    ),
    "half an account of S3": Way("configuration", S3_KEYS, ("S3_BUCKET", "BACKEND"), setting="S3_BUCKET"),
    "half an account of Cloudinary": Way(
        "configuration", {"CLOUDINARY_API_KEY": "1"}, ("CLOUDINARY_API_KEY", "CLOUDINARY_CLOUD_NAME", "BACKEND")
    ),
    "wrong account of Cloudinary": Way(
        "configuration", {"CLOUDINARY_URL": "https://demo"}, ("CLOUDINARY_URL",), setting="CLOUDINARY_URL"
    ),
    "two accounts of Cloudinary": Way(
        "configuration",
        {**CLOUDINARY, "CLOUDINARY_CLOUD_NAME": "other"},
        ("CLOUDINARY_URL", "CLOUDINARY_CLOUD_NAME"),
        setting="CLOUDINARY_CLOUD_NAME",
    ),
    "backend without its settings": Way(
        "configuration", {"BACKEND": "imagekit"}, ("IMAGEKIT_PRIVATE_KEY", "IMAGEKIT_URL_ENDPOINT", "BACKEND")
    ),
    "unknown backend": Way("configuration", {"BACKEND": "gcs"}, ("BACKEND",), setting="BACKEND"),
    "backend that cannot be imported": Way("configuration", {"BACKEND": "no.such:Backend"}, ("BACKEND",)),
    "two backends": Way(
        "configuration", {**S3, **IMAGEKIT}, ("BACKEND", "S3_BUCKET", "IMAGEKIT_PRIVATE_KEY"), setting="BACKEND"
    ),
    "setting of another backend": Way(
        "configuration", {**IMAGEKIT, "PUBLIC_URL": "https://cdn.example"}, ("PUBLIC_URL",), setting="PUBLIC_URL"
    ),
    "nginx without a folder": Way(
        "configuration", {**S3, "ACCEL_REDIRECT": "/protected"}, ("ACCEL_REDIRECT",), setting="ACCEL_REDIRECT"
    ),
    "several at once": Way("configuration", {"MAX_SIZE": "big", "MAX_FILES": "0"}, ("MAX_SIZE", "MAX_FILES")),
    "unknown name": Way("configuration", {"MAXSIZE": "5MB"}, ("MAXSIZE", "MAX_SIZE"), setting="MAXSIZE"),
    "unknown name beside a missing one": Way(
        "configuration", {"S3_BUKET": "b", **S3_KEYS}, ("S3_BUKET", "S3_BUCKET", "S3_ACCESS_KEY_ID")
    ),
    "platform that contradicts itself": Way(
        "platform", {**S3, **ON_RENDER}, ("PLATFORM",), {"RENDER": "true"}, setting="PLATFORM"
    ),
    "wiped disk": Way("persistence", ON_RENDER, ("S3_BUCKET", "CLOUDINARY_URL", "DIR"), RENDER),
    "wiped disk that must persist": Way(
        "persistence", {**ON_RENDER, "REQUIRE_PERSISTENT": "true"}, ("S3_BUCKET", "CLOUDINARY_URL", "DIR"), RENDER
    ),
    "memory": Way("persistence", {"BACKEND": "memory"}, ("BACKEND", "S3_BUCKET", "CLOUDINARY_URL"), setting="BACKEND"),
    "file in place of the folder": Way(
        "folder", {"DIR": "{}/file/deep"}, ("DIR",), prepare=put_a_file_in_place_of_the_folder, setting="DIR"
    ),
    "folder with a name that is too long": Way("folder", {"DIR": f"{{}}/{'a' * 300}"}, ("DIR",), setting="DIR"),
    "relative folder": Way("folder", {"DIR": "media"}, ("DIR",), setting="DIR"),
    "folder in the static folder": Way(
        "static", {"DIR": "{}/static/files"}, ("DIR",), prepare=serve_as_static, setting="DIR"
    ),
    "old folder": Way("old folder", {**S3, "DIR": "{}/old"}, ("DIR",), prepare=leave_old_files, setting="DIR"),
    "other store": Way("store", {"STORE_ID": "20190101T000000Z-12345678"}, setting="STORE_ID"),
    "unreadable marker": Way("store", {"DIR": "{}/disk"}, prepare=spoil_the_marker),
    "too little space": Way(
        "space", {"MAX_SIZE": "900000GB"}, ("MAX_SIZE",), setting="MAX_SIZE", others=("temporary",)
    ),
    "too little space for temporary files": Way(
        "temporary", {"MAX_SIZE": "900000GB"}, ("MAX_SIZE",), others=("space",)
    ),
    "limit of the host": Way("host limit", {**S3, "PLATFORM": ""}, ("MAX_SIZE",), {"VERCEL": "1"}, setting="MAX_SIZE"),
    "route of the app": Way("route", {}, ("URL_PREFIX",), prepare=take_the_route, setting="URL_PREFIX"),
    "public bucket behind a hook": Way(
        "links", {**S3, "PUBLIC_URL": "https://cdn.example"}, ("PUBLIC_URL",), hook=True, setting="PUBLIC_URL"
    ),
    "public Cloudinary behind a hook": Way(
        "links", CLOUDINARY, ("CLOUDINARY_PRIVATE",), hook=True, setting="CLOUDINARY_PRIVATE"
    ),
    "public ImageKit behind a hook": Way(
        "links", IMAGEKIT, ("IMAGEKIT_PRIVATE",), hook=True, setting="IMAGEKIT_PRIVATE"
    ),
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Set:
    """``environment(name, settings)`` sets variables of one ``Uploads``; both run on a plain machine by default."""

    def put(name: str, settings: Mapping[str, str], **also: str) -> None:
        variables = {
            **{spelled(one, "PLATFORM"): "machine" for one in NAMES},
            **{spelled(name, end): value.replace("{}", str(Path.cwd())) for end, value in settings.items()},
            **also,
        }
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)

    return put


@pytest.fixture(autouse=True)
def _temporary_files_on_a_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def spelled(name: str, end: str) -> str:
    """Return the variable of one ``Uploads``: ``DOCUMENTS_S3_BUCKET``."""
    return f"{name}_{end}".upper()


def report_of(name: str, create: Callable[[], Flask], *arguments: str) -> Report:
    """Return the report on one of the two, which is about no other."""
    report = Report.of(run("--json", "--name", name, *arguments, create=create))
    assert "was not examined" not in report.headline
    assert_consistent(report)
    for one in report.content["checks"]:
        assert_names_only(name, one["seen"], one["remedy"] or "", one["setting"] or "")
    return report


def assert_names_only(name: str, *texts: str) -> set[str]:
    """Return the variables in these texts, after asserting that all of them belong to one ``Uploads``."""
    found = {variable for text in texts for variable in _OURS.findall(text)}
    wrong = {variable for variable in found if not variable.startswith(spelled(name, ""))}
    assert not wrong, texts
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", WAYS)
def test_every_remedy_names_the_variables_of_the_broken_one(way: str, name: str, environment: Set) -> None:
    broken = WAYS[way]
    environment(name, broken.settings, **broken.also)
    report = report_of(name, lambda: two(name, broken.prepare, hook=broken.hook), "--offline")
    assert report.troubles.keys() == {broken.check, *broken.others}, report.content["checks"]
    check = report.check(broken.check)
    named = assert_names_only(name, check["seen"], check["remedy"])
    assert {spelled(name, end) for end in broken.names} <= named
    if broken.setting is not None:
        assert check["setting"] == spelled(name, broken.setting)


REFUSED = [way for way, broken in WAYS.items() if broken.check == "configuration" and way != "unknown name"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", [*REFUSED, "wiped disk that must persist"])
def test_every_problem_at_start_names_the_variables_of_the_broken_one(way: str, name: str, environment: Set) -> None:
    broken = WAYS[way]
    environment(name, broken.settings, **broken.also)
    with pytest.raises(StartupRefused) as refused:
        two(name, broken.prepare)
    named = assert_names_only(name, *map(str, refused.value.problems))
    expected = {spelled(name, end) for end in broken.names} - {spelled(name, "S3_BUKET")}  # the log has unknown names
    assert expected <= named
    for problem in refused.value.problems:
        assert_names_only(name, problem.setting or "")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", [way for way in WAYS if way not in REFUSED])
def test_every_line_of_the_start_names_the_variables_of_the_broken_one(
    way: str, name: str, environment: Set, caplog: pytest.LogCaptureFixture
) -> None:
    broken = WAYS[way]
    environment(name, broken.settings, **broken.also)
    try:
        two(name, broken.prepare, hook=broken.hook)
    except StartupRefused as refused:
        assert_names_only(name, *map(str, refused.problems))
    lines = [record.getMessage() for record in caplog.records]
    other = next(one for one in NAMES if one != name)
    assert_names_only(name, *(line for line in lines if not line.startswith(f"{other}: ")))


def test_the_second_one_at_the_address_of_the_first_names_its_own_variable(environment: Set) -> None:
    environment("documents", {"URL_PREFIX": "/uploads"})
    report = report_of("documents", lambda: two("documents"), "--offline")
    assert report.check("configuration")["setting"] == "DOCUMENTS_URL_PREFIX"
    assert "DOCUMENTS_URL_PREFIX" in report.check("configuration")["remedy"]


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_sdk_names_the_package_and_no_variable(
    name: str, environment: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "_is_installed", lambda module: module != "boto3")
    environment(name, S3)
    report = report_of(name, lambda: two(name), "--offline")
    assert report.troubles == {"sdk": "failure"}
    assert report.check("sdk")["remedy"] == "pip install 'flask-persistent-uploads[s3]'"


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_cannot_be_written_to_names_its_variable(
    name: str, environment: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root could write to any folder
    environment(name, {"DIR": "{}/disk"})
    check = report_of(name, lambda: two(name), "--offline").check("folder")
    assert check["seen"] == f"{Path.cwd()} cannot be written to."
    assert check["remedy"].endswith(f"or set {spelled(name, 'DIR')} to another folder.")


@pytest.mark.parametrize("name", NAMES)
def test_the_store_id_to_set_has_the_name_of_its_variable(name: str, environment: Set, tmp_path: Path) -> None:
    marker = tmp_path / "disk" / ".uploads" / "store.json"
    marker.parent.mkdir(parents=True)
    content = {"id": "20200101T000000Z-00000000", "since": "2020-01-01T00:00:00+00:00", "instances": {}}
    marker.write_text(json.dumps(content))
    environment(name, {"DIR": "{}/disk"})
    check = report_of(name, lambda: two(name), "--offline").check("store")
    assert check["remedy"].endswith(f"{spelled(name, 'STORE_ID')}=20200101T000000Z-00000000")
    environment(name, {"STORE_ID": "20190101T000000Z-12345678"})
    check = report_of(name, lambda: two(name), "--offline").check("store")
    assert f"set {spelled(name, 'STORE_ID')}=20200101T000000Z-00000000." in check["remedy"]


# -- names that the user chose


#: What is set by native names, the check that fails, and the variables that it must name, as the user set them.
NATIVE: dict[str, tuple[dict[str, str], str, tuple[str, ...]]] = {
    "wrong bucket": (
        {"S3_BUCKET_NAME": "a b", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"},
        "configuration",
        ("S3_BUCKET_NAME",),
    ),
    "half of the credentials": (
        {"S3_BUCKET_NAME": "b", "AWS_ACCESS_KEY_ID": "a"},
        "configuration",
        ("AWS_ACCESS_KEY_ID", "UPLOADS_S3_SECRET_ACCESS_KEY"),
    ),
    "wrong region": (
        {"S3_BUCKET_NAME": "b", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu: west"},
        "configuration",
        ("AWS_REGION",),
    ),
    "wrong account": ({"CLOUDINARY_URL": "cloudinary://demo"}, "configuration", ("CLOUDINARY_URL",)),
    "two backends": (
        {"S3_BUCKET_NAME": "b", "CLOUDINARY_URL": "cloudinary://1:2@demo"},
        "configuration",
        ("S3_BUCKET_NAME", "CLOUDINARY_URL", "UPLOADS_BACKEND"),
    ),
    "relative folder": ({"MEDIA_ROOT": "media"}, "folder", ("MEDIA_ROOT",)),
    "broken folder": ({"MEDIA_ROOT": "/etc/passwd/media"}, "folder", ("MEDIA_ROOT",)),
}


@pytest.mark.parametrize("way", NATIVE)
def test_a_native_name_is_repeated_as_the_user_set_it(way: str, environment: Set) -> None:
    variables, name, named = NATIVE[way]
    environment("uploads", {}, **variables)
    check = report_of("uploads", lambda: two("uploads"), "--offline").check(name)
    assert check["verdict"] in {"failure", "warning"}
    text = f"{check['seen']} {check['remedy']}"
    assert [variable for variable in named if variable not in text] == []
    assert not re.search(r"UPLOADS_(S3_BUCKET|S3_REGION|S3_ACCESS_KEY_ID|CLOUDINARY_URL|DIR)\b", text)


def test_a_native_name_that_both_share_is_not_the_remedy_for_the_second_one(environment: Set) -> None:
    """The second one has a folder of its own, so the bucket of the first one did not choose its backend."""
    variables = {"S3_BUCKET_NAME": "b", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    environment("documents", {"DIR": "{}/disk", **ON_RENDER}, **variables, **RENDER)
    remedy = report_of("documents", lambda: two("documents"), "--offline").check("persistence")["remedy"]
    assert "DOCUMENTS_S3_BUCKET" in remedy
    assert "S3_BUCKET_NAME" not in remedy


# -- on a real server


@pytest.fixture(scope="module")
def server() -> Iterator[BucketServer]:
    with BucketServer() as server:
        yield server


@dataclass(frozen=True)
class OnlineWay:
    """One way in which a bucket is broken: what is set, and what the failing check says."""

    check: str
    settings: Callable[[BucketServer], Mapping[str, str]]
    says: str
    setting: str | None = None


def own_bucket(spoil: Callable[[BucketServer, str], Any]) -> Callable[[BucketServer], Mapping[str, str]]:
    """Return the settings of a new bucket that is spoiled."""

    def settings(server: BucketServer) -> Mapping[str, str]:
        bucket = server.new_bucket()
        spoil(server, bucket)
        return {"S3_BUCKET": bucket}

    return settings


def identity(keys: Mapping[str, str]) -> Callable[[BucketServer], Mapping[str, str]]:
    return lambda server: {variable.removeprefix("UPLOADS_"): value for variable, value in keys.items()}


ONLINE: dict[str, OnlineWay] = {
    "wrong secret": OnlineWay(
        "access",
        lambda server: {"S3_SECRET_ACCESS_KEY": "wrong"},
        "Correct {}_S3_SECRET_ACCESS_KEY.",
        "S3_SECRET_ACCESS_KEY",
    ),
    "wrong key": OnlineWay(
        "access", lambda server: {"S3_ACCESS_KEY_ID": "nobody"}, "Correct {}_S3_ACCESS_KEY_ID.", "S3_ACCESS_KEY_ID"
    ),
    "no bucket": OnlineWay(
        "access", lambda server: {"S3_BUCKET": "not-there"}, "Create the bucket, or correct {}_S3_BUCKET.", "S3_BUCKET"
    ),
    "no permission to save": OnlineWay("save", identity(READER.keys), "Allow s3:PutObject on"),
    "no permission to read": OnlineWay("stat", identity(WRITER.keys), "Allow s3:GetObject on"),
    "no permission to list": OnlineWay("missing file", identity(NO_LIST.keys), "Allow s3:ListBucket on"),
    "another store": OnlineWay(
        "store", lambda server: {"STORE_ID": "20190101T000000Z-12345678"}, "set {}_STORE_ID=", "STORE_ID"
    ),
    "public bucket": OnlineWay("tampering", own_bucket(make_public), "Make the bucket or the files private."),
    "files are deleted by age": OnlineWay("lifecycle", own_bucket(delete_by_age), "Remove that rule."),
    "no cleanup": OnlineWay(
        "lifecycle",
        own_bucket(lambda server, bucket: server.client().delete_bucket_lifecycle(Bucket=bucket)),
        "flask uploads setup s3 --apply{option}",
    ),
    "no cors": OnlineWay(
        "cors",
        own_bucket(lambda server, bucket: server.client().delete_bucket_cors(Bucket=bucket)),
        "flask uploads setup s3 --apply{option}",
    ),
    "endpoint for browsers": OnlineWay(
        "link",
        lambda server: {"S3_PUBLIC_ENDPOINT_URL": f"http://127.0.0.1:{free_ports(1)[0]}"},
        "{}_S3_PUBLIC_ENDPOINT_URL",
        "S3_PUBLIC_ENDPOINT_URL",
    ),
    "public address of a private bucket": OnlineWay(
        "link", lambda server: {"PUBLIC_URL": f"{server.url}/{server.bucket}"}, "{}_PUBLIC_URL", "PUBLIC_URL"
    ),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", ONLINE)
def test_every_remedy_for_a_bucket_names_the_variables_of_the_broken_one(
    way: str, name: str, environment: Set, server: BucketServer
) -> None:
    broken = ONLINE[way]
    environment(name, {**bucket_settings(server), **broken.settings(server)})
    report = report_of(name, lambda: two(name))
    check = report.check(broken.check)
    assert report.troubles.keys() == {broken.check}, report.content["checks"]
    option = "" if name == "uploads" else f" --name {name}"
    assert broken.says.replace("{}_", spelled(name, "")).format(option=option) in check["remedy"]
    assert check["setting"] == (broken.setting and spelled(name, broken.setting))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("matches", "code", "check", "variable"),
    [
        (of("HEAD", unsigned), "", "region", "S3_REGION"),
        (by_key, "ExpiredToken", "access", "S3_SESSION_TOKEN"),
        (by_key, "InvalidToken", "access", "S3_SESSION_TOKEN"),
        (by_key, "InvalidBucketName", "access", "S3_BUCKET"),
        (by_key, "404", "access", "S3_ENDPOINT_URL"),
    ],
    ids=["region", "expired token", "invalid token", "bucket", "endpoint"],
)
def test_every_refusal_of_a_service_names_the_variables_of_the_broken_one(
    matches: Any, code: str, check: str, variable: str, name: str, environment: Set, server: BucketServer
) -> None:
    refusal = answer(400, code) if code else answer(301, x_amz_bucket_region="eu-west-3")
    with Proxy(server, where(matches, refusal, forward(server.url))) as proxy:
        environment(name, {**bucket_settings(server), "S3_ENDPOINT_URL": proxy.url})
        found = report_of(name, lambda: two(name)).check(check)
    assert found["verdict"] == "failure"
    assert spelled(name, variable) in found["remedy"]
    assert found["setting"] == spelled(name, variable)


def test_a_native_name_is_repeated_as_the_user_set_it_online(environment: Set, server: BucketServer) -> None:
    ours = server.settings(server.bucket)
    native = {
        "S3_BUCKET_NAME": ours["UPLOADS_S3_BUCKET"],
        "AWS_ENDPOINT_URL_S3": ours["UPLOADS_S3_ENDPOINT_URL"],
        "AWS_ACCESS_KEY_ID": ours["UPLOADS_S3_ACCESS_KEY_ID"],
        "AWS_SECRET_ACCESS_KEY": "wrong",
    }
    environment("uploads", {}, **native)
    check = report_of("uploads", lambda: two("uploads")).check("access")
    assert (check["remedy"], check["setting"]) == ("Correct AWS_SECRET_ACCESS_KEY.", "AWS_SECRET_ACCESS_KEY")


def bucket_settings(server: BucketServer) -> dict[str, str]:
    """Return the settings of the healthy bucket, by the ends of the variables' names."""
    settings = {variable.removeprefix("UPLOADS_"): value for variable, value in server.settings(server.bucket).items()}
    return {**settings, "PREFIX": "uploads"}  # setup has configured the bucket for this prefix
