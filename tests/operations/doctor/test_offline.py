"""Each check of ``flask uploads doctor --offline`` fails alone, on an app with which one thing is wrong."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import IO

import pytest
from flask import Blueprint, Flask

from flask_persistent_uploads import Uploads
from flask_persistent_uploads.backends.base import Backend
from flask_persistent_uploads.backends.local import LocalBackend
from flask_persistent_uploads.operations import marker
from flask_persistent_uploads.operations.doctor import disk, identity, offline
from flask_persistent_uploads.operations.platform import detect
from flask_persistent_uploads.stored import Stat

from ...conftest import BUILTIN
from ...servers import ROOT, Gunicorn
from .cases import (
    CLOUDINARY,
    IMAGEKIT,
    RENDER,
    S3,
    Report,
    Set,
    assert_all_ok,
    assert_only,
    behind,
    disk_of,
    examine,
    examine_apart,
    healthy,
    run,
)

ALWAYS = {"configuration", "platform", "body limit"}
ON_A_DISK = ALWAYS | {"persistence", "folder", "space", "store"}
MAX_1_MB = {"UPLOADS_MAX_SIZE": "1MB"}


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep temporary files in the folder of the test, because the machine's own folder for them may be in memory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Set:
    """``environment(UPLOADS_X="…")`` sets variables of this process."""

    def put(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user of the machine can read."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


# -- nothing wrong


def test_every_check_of_a_healthy_app_is_ok() -> None:
    report = examine()
    assert report.verdicts == dict.fromkeys(ON_A_DISK, "ok")
    assert report.code == 0
    assert report.survives is True


def test_every_check_of_a_healthy_app_is_ok_in_a_process_of_its_own(tmp_path: Path) -> None:
    assert examine_apart(folder=tmp_path).verdicts == dict.fromkeys(ON_A_DISK, "ok")


@pytest.mark.parametrize(("service", "account"), [("s3", S3), ("cloudinary", CLOUDINARY), ("imagekit", IMAGEKIT)])
def test_every_check_of_a_healthy_app_on_a_service_is_ok(
    service: str, account: dict[str, str], environment: Set
) -> None:
    environment(**account)
    report = examine()
    assert report.verdicts == dict.fromkeys(ALWAYS | {"persistence"}, "ok")
    assert report.headline.startswith(f"According to the settings, uploads survive. Files are kept in {service}")
    assert report.survives is True


def test_every_check_of_a_healthy_app_on_render_with_a_service_is_ok(environment: Set) -> None:
    environment(**RENDER, **S3)
    assert_all_ok(examine(), "platform", "persistence")


# -- configuration


@pytest.mark.parametrize(
    ("variables", "message", "remedy"),
    [
        ({"UPLOADS_BACKEND": "s3"}, "UPLOADS_S3_BUCKET (or S3_BUCKET_NAME, ", "UPLOADS_BACKEND=local."),
        (
            {"UPLOADS_BACKEND": "gcs"},
            "UPLOADS_BACKEND is 'gcs'. There is no such backend.",
            "Set it to cloudinary, imagekit",
        ),
        (
            {"UPLOADS_BACKEND": "no.such:Backend"},
            "UPLOADS_BACKEND is 'no.such:Backend'. It cannot be imported (ImportStringError).",
            f"Set it to {BUILTIN} or module:Class.",
        ),
        (
            {"UPLOADS_BACKEND": "flask.nothing:Backend"},
            "UPLOADS_BACKEND is 'flask.nothing:Backend'. It cannot be imported (ImportStringError).",
            "or module:Class.",
        ),
        (
            {**S3, **CLOUDINARY},
            "Several backends are configured at once, by UPLOADS_CLOUDINARY_URL (for cloudinary) "
            "and UPLOADS_S3_BUCKET (for s3).",
            "Set UPLOADS_BACKEND to cloudinary or s3, or remove the variables of the others.",
        ),
        (
            {"S3_BUCKET_NAME": "b", "IMAGEKIT_PRIVATE_KEY": "private_x", "IMAGEKIT_URL_ENDPOINT": "https://a.example"},
            "Several backends are configured at once, by IMAGEKIT_PRIVATE_KEY (for imagekit) "
            "and S3_BUCKET_NAME (for s3).",
            "Set UPLOADS_BACKEND to imagekit or s3",
        ),
        (
            {"UPLOADS_S3_BUCKET": "my-bucket"},
            "no credentials",
            "UPLOADS_S3_ACCESS_KEY_ID and UPLOADS_S3_SECRET_ACCESS_KEY",
        ),
        (
            {**S3, "UPLOADS_S3_SECRET_ACCESS_KEY": ""},
            "UPLOADS_S3_ACCESS_KEY_ID is set, but UPLOADS_S3_SECRET_ACCESS_KEY is not.",
            "Set UPLOADS_S3_SECRET_ACCESS_KEY too.",
        ),
        (
            {**S3, "UPLOADS_S3_BUCKET": ""},
            "UPLOADS_S3_ACCESS_KEY_ID is set, but UPLOADS_S3_BUCKET is not.",
            "Set UPLOADS_S3_BUCKET too, or set UPLOADS_BACKEND=local.",
        ),
        (
            {"CLOUDINARY_API_KEY": "123456789012345"},
            "CLOUDINARY_API_KEY is set, but UPLOADS_CLOUDINARY_CLOUD_NAME is not.",
            "Set UPLOADS_CLOUDINARY_CLOUD_NAME too",
        ),
        (
            {"UPLOADS_IMAGEKIT_PUBLIC_KEY": "public_x"},
            "UPLOADS_IMAGEKIT_PUBLIC_KEY is set, but UPLOADS_IMAGEKIT_PRIVATE_KEY is not.",
            "Set UPLOADS_IMAGEKIT_PRIVATE_KEY too",
        ),
        ({"UPLOADS_CLOUDINARY_URL": "https://demo"}, "UPLOADS_CLOUDINARY_URL is not valid.", "cloudinary://<api key>:"),
        ({**S3, "UPLOADS_S3_ENDPOINT_URL": "r2.example.com"}, "UPLOADS_S3_ENDPOINT_URL is not valid.", "https://"),
        (
            {"UPLOADS_PLATFORM": "nonsense"},
            "UPLOADS_PLATFORM is 'nonsense'. There is no such platform.",
            "one of render, koyeb",
        ),
        (
            {"UPLOADS_MAX_SIZE": "10 apples"},
            "UPLOADS_MAX_SIZE is '10 apples'.",
            "UPLOADS_MAX_SIZE to a size such as 10MB",
        ),
        (
            {"UPLOADS_DIR": "~nobody-of-that-name/uploads"},
            "UPLOADS_DIR is '~nobody-of-that-name/uploads'.",
            "Set UPLOADS_DIR to a folder without '~'",
        ),
        (
            {**IMAGEKIT, "UPLOADS_PUBLIC_URL": "https://cdn.example"},
            "UPLOADS_PUBLIC_URL does not go with the backend imagekit.",
            "Remove it.",
        ),
    ],
)
def test_one_wrong_setting_fails_the_configuration_alone_and_is_the_headline(
    variables: dict[str, str], message: str, remedy: str, environment: Set
) -> None:
    environment(**variables)
    report = examine()
    seen, advice = assert_only(report, "configuration", "failure")
    assert message in seen
    assert remedy in advice
    assert advice.endswith(".")
    assert "\n" not in advice
    assert report.headline == f"UPLOADS DO NOT WORK. {seen}"
    assert report.survives is None


def test_several_wrong_settings_are_each_named_with_what_they_should_be(environment: Set) -> None:
    environment(UPLOADS_MAX_SIZE="big", UPLOADS_URL_EXPIRES="a day", UPLOADS_PREFIX="a b", UPLOADS_MAX_FILES="0")
    report = examine()
    seen, remedy = assert_only(report, "configuration", "failure")
    assert seen == "4 settings are wrong or missing."
    assert report.headline == "UPLOADS DO NOT WORK. 4 settings are wrong or missing."
    variables = ["UPLOADS_MAX_FILES", "UPLOADS_MAX_SIZE", "UPLOADS_PREFIX", "UPLOADS_URL_EXPIRES"]
    assert [line.split(" is ")[0] for line in sorted(remedy.splitlines())] == variables
    assert "seconds from 1 to 604800" in remedy
    assert sorted(detail["setting"] for detail in report.check("configuration")["details"]) == variables


def test_wrong_settings_and_missing_ones_are_reported_together(environment: Set) -> None:
    environment(UPLOADS_BACKEND="imagekit", UPLOADS_MAX_SIZE="big")
    seen, remedy = assert_only(examine(), "configuration", "failure")
    assert seen == "3 settings are wrong or missing."
    for variable in ("UPLOADS_MAX_SIZE", "UPLOADS_IMAGEKIT_PRIVATE_KEY", "UPLOADS_IMAGEKIT_URL_ENDPOINT"):
        assert variable in remedy


def test_a_wrong_value_of_app_config_fails_the_configuration_alone() -> None:
    report = examine(lambda: healthy(UPLOADS_MAX_SIZE="big"))
    assert assert_only(report, "configuration", "failure")[0] == "UPLOADS_MAX_SIZE is 'big'."
    assert report.settings["UPLOADS_MAX_SIZE"] == ("(not valid)", "app.config")


def test_a_wrong_value_of_the_env_file_fails_the_configuration_alone(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("UPLOADS_MAX_SIZE=big\n")
    report = examine_apart(folder=tmp_path)
    assert assert_only(report, "configuration", "failure")[0] == "UPLOADS_MAX_SIZE is 'big'."
    assert examine().settings["UPLOADS_MAX_SIZE"] == ("(not valid)", ".env")


def test_an_unknown_variable_is_a_warning_with_the_most_similar_setting(environment: Set) -> None:
    environment(UPLOADS_MAXSIZE="5MB")
    seen, remedy = assert_only(examine(), "configuration", "warning")
    assert seen == "UPLOADS_MAXSIZE is not a setting of this extension."
    assert remedy == "Did you mean UPLOADS_MAX_SIZE?"


def test_several_unknown_variables_are_one_warning(environment: Set) -> None:
    environment(UPLOADS_MAXSIZE="5MB", UPLOADS_FOLDERS="x")
    report = examine()
    seen, remedy = assert_only(report, "configuration", "warning")
    assert seen == "2 variables are not settings of this extension."
    assert "UPLOADS_MAXSIZE is not a setting of this extension. Did you mean UPLOADS_MAX_SIZE?" in remedy.splitlines()
    assert {one["setting"] for one in report.check("configuration")["details"]} == {
        "UPLOADS_MAXSIZE",
        "UPLOADS_FOLDERS",
    }


def test_each_setting_is_shown_with_its_variable_and_where_it_was_found(environment: Set, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"UPLOADS_MAX_FILES=7\nUPLOADS_MAX_SIZE=3MB\nMEDIA_ROOT={tmp_path}/media\n")
    environment(UPLOADS_MAX_SIZE="2MB", UPLOADS_URL_EXPIRES="60")
    report = examine(lambda: healthy(UPLOADS_MAX_SIZE="1MB", UPLOADS_ALLOW=["image/*", ".csv"]))
    assert_all_ok(report, "configuration")
    assert report.settings == {
        "UPLOADS_PLATFORM": ("machine", "environment"),
        "UPLOADS_MAX_SIZE": ("1000000", "app.config"),
        "UPLOADS_ALLOW": ("image/*, .csv", "app.config"),
        "UPLOADS_URL_EXPIRES": ("60", "environment"),
        "UPLOADS_MAX_FILES": ("7", ".env"),
        "MEDIA_ROOT": (f"{tmp_path}/media", ".env"),
    }


def test_a_value_of_the_env_file_is_shown_as_such_although_flask_copies_it_into_the_environment(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("UPLOADS_MAX_FILES=7\nUPLOADS_MAX_SIZE=3MB\n")
    report = examine_apart(folder=tmp_path, UPLOADS_MAX_SIZE="2MB")
    assert report.settings["UPLOADS_MAX_FILES"] == ("7", ".env")
    assert report.settings["UPLOADS_MAX_SIZE"] == ("2000000", "environment")


# -- sdk


def without(module: str, folder: Path, **environment: str) -> Report:
    """Return the report of a Python that has every package except this one."""
    installed = folder / "installed"
    installed.mkdir()
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if package.name != module:
            (installed / package.name).symlink_to(package)
    path = os.pathsep.join([str(ROOT), str(installed)])
    # With -S, Python finds only the packages in that folder.
    return examine_apart(folder=folder, python=("-S", "-m", "flask"), PYTHONPATH=path, **environment)


@pytest.mark.parametrize(
    ("name", "module", "account"),
    [("s3", "boto3", S3), ("cloudinary", "cloudinary", CLOUDINARY), ("imagekit", "imagekitio", IMAGEKIT)],
)
def test_a_missing_sdk_is_reported_with_the_pip_command(
    name: str, module: str, account: dict[str, str], tmp_path: Path
) -> None:
    report = without(module, tmp_path, **account)
    seen, remedy = assert_only(report, "sdk", "failure")
    assert seen == f"The backend {name} needs the package {module}, which is not installed."
    assert remedy == f"pip install 'flask-persistent-uploads[{name}]'"
    assert report.headline == f"UPLOADS DO NOT WORK. {seen}"


def test_the_sdk_of_another_backend_is_not_needed(tmp_path: Path) -> None:
    assert_all_ok(without("boto3", tmp_path, **CLOUDINARY))


def test_the_remedy_of_a_missing_sdk_can_be_copied_into_a_shell(tmp_path: Path) -> None:
    remedy = assert_only(without("boto3", tmp_path, **S3), "sdk", "failure")[1]
    assert shlex.split(remedy) == ["pip", "install", "flask-persistent-uploads[s3]"]


def test_without_its_sdk_the_backend_is_named_all_the_same(tmp_path: Path) -> None:
    seen = without("boto3", tmp_path, **S3).check("configuration")["seen"]
    assert seen.endswith(" settings found. Files are kept in s3.")


def test_a_missing_sdk_and_a_wrong_setting_are_each_reported_once(tmp_path: Path) -> None:
    report = without("boto3", tmp_path, UPLOADS_MAX_SIZE="big", **S3)
    failing = {name for name, verdict in report.verdicts.items() if verdict != "ok"}
    assert failing == {"configuration", "sdk"}
    assert report.check("configuration")["seen"] == "UPLOADS_MAX_SIZE is 'big'."
    assert report.check("sdk")["seen"] == "The backend s3 needs the package boto3, which is not installed."


# -- platform


@pytest.mark.parametrize(
    ("claim", "confirmation"), [("RENDER", "RENDER_SERVICE_ID"), ("WEBSITE_SITE_NAME", "WEBSITE_INSTANCE_ID")]
)
def test_a_platform_without_its_other_variables_is_a_warning(claim: str, confirmation: str, environment: Set) -> None:
    environment(UPLOADS_PLATFORM="", **{claim: "true"}, **S3)
    seen, remedy = assert_only(examine(), "platform", "warning")
    assert seen.startswith(f"{claim} suggests ")
    assert seen.endswith(f"but {confirmation} is not set.")
    assert "UPLOADS_PLATFORM=machine" in remedy
    environment(UPLOADS_PLATFORM="machine")
    assert_all_ok(examine(), "platform")


# -- persistence


@pytest.mark.parametrize(
    ("variables", "name", "remedy"),
    [
        (RENDER, "Render", "add a disk and set UPLOADS_DIR to a folder below its mount path"),
        ({"KOYEB_APP_NAME": "a"}, "Koyeb", "add a volume and set UPLOADS_DIR"),
        ({"DYNO": "web.1"}, "Heroku", "or UPLOADS_CLOUDINARY_URL"),
        ({"RAILWAY_ENVIRONMENT_ID": "e"}, "Railway", "add a volume"),
        ({"RAILWAY_ENVIRONMENT_ID": "e", "RAILWAY_VOLUME_MOUNT_PATH": "/data"}, "Railway", "UPLOADS_DIR=/data/uploads"),
    ],
)
def test_a_disk_that_the_platform_wipes_fails_the_persistence_alone(
    variables: dict[str, str], name: str, remedy: str, environment: Set
) -> None:
    environment(**{"UPLOADS_PLATFORM": "", **variables})
    report = examine()
    seen, advice = assert_only(report, "persistence", "failure")
    assert seen == f"{name} wipes the app's disk at every deploy and restart."
    assert advice.startswith("Set UPLOADS_S3_BUCKET and its credentials")
    assert remedy in advice
    assert ("UPLOADS_DIR" in advice) == (name != "Heroku")
    assert report.headline == f"UPLOADS WILL BE LOST. {seen}"
    assert report.survives is False


def test_a_separate_disk_on_render_is_ok(tmp_path: Path) -> None:
    before = disk_of(tmp_path, "8M")
    settings = {**RENDER, **MAX_1_MB, "UPLOADS_DIR": f"{tmp_path}/disk/uploads"}
    report = examine_apart(folder=tmp_path, before=before, **settings)
    assert_all_ok(report, "persistence", "folder", "space")
    assert report.headline == "Uploads survive. The folder is on a separate disk (ext4)."


def test_a_folder_in_memory_fails_the_persistence_alone(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    before = behind(f"mount -t tmpfs none {tmp_path}/memory")
    report = examine_apart(folder=tmp_path, before=before, UPLOADS_DIR=f"{tmp_path}/memory/uploads")
    seen, remedy = assert_only(report, "persistence", "failure")
    assert seen == "The folder is in memory, which is lost when the machine stops."
    assert "et UPLOADS_DIR to a folder on a disk" in remedy


def test_the_backend_memory_fails_the_persistence_alone(environment: Set) -> None:
    environment(UPLOADS_BACKEND="memory")
    seen, _ = assert_only(examine(), "persistence", "failure")
    assert seen == "The backend memory keeps files only until the process ends."


def test_an_app_that_requires_a_persistent_store_fails_the_persistence_and_not_the_configuration(
    environment: Set,
) -> None:
    environment(UPLOADS_REQUIRE_PERSISTENT="true", **RENDER)
    report = examine()
    seen, _ = assert_only(report, "persistence", "failure")
    assert report.headline == f"UPLOADS WILL BE LOST. {seen}"
    assert report.check("configuration")["verdict"] == "ok"


def test_the_setting_that_requires_a_persistent_store_is_shown_as_it_is(environment: Set) -> None:
    environment(UPLOADS_REQUIRE_PERSISTENT="true", **RENDER)
    assert examine().settings["UPLOADS_REQUIRE_PERSISTENT"] == ("True", "environment")


def test_persistence_is_unknown_while_no_disk_is_mounted(environment: Set) -> None:
    environment(**{**RENDER, "RENDER_INSTANCE_ID": ""})
    report = examine()
    seen, remedy = assert_only(report, "persistence", "warning")
    assert seen == "Render is building or releasing the app, and no disk is mounted yet."
    assert remedy == "Store a file, deploy again, and check whether the file is still there."
    assert report.headline == f"It is unknown whether uploads survive. {seen}"
    assert report.survives is None


class Foreign(Backend):
    """A backend of another package."""

    name = "elsewhere"

    def save(
        self, key: str, stream: IO[bytes], *, content_type: str, size: int, filename: str, overwrite: bool = False
    ) -> str:
        return ""

    def open(self, key: str) -> IO[bytes]:
        return io.BytesIO()

    def stat(self, key: str) -> Stat | None:
        return None

    def delete(self, key: str) -> None:
        return None

    def entries(self, prefix: str = "") -> Iterator[Stat]:
        return iter(())


def test_the_persistence_of_an_undescribed_backend_is_unknown(environment: Set) -> None:
    environment(UPLOADS_BACKEND=f"{__name__}:Foreign")
    seen, _ = assert_only(examine(), "persistence", "warning")
    assert seen == "The backend elsewhere does not declare whether it keeps files permanently."


class Broken(Foreign):
    """A backend that breaks the contract."""

    def filesystem_path(self, key: str) -> Path:
        return Path.cwd() / "broken" / key

    def stat(self, key: str) -> Stat | None:
        raise RuntimeError("a secret")


def test_a_backend_that_breaks_the_contract_does_not_stop_the_report(environment: Set) -> None:
    environment(UPLOADS_BACKEND=f"{__name__}:Broken")
    report = examine()
    assert set(report.verdicts) >= ALWAYS | {"folder", "space"}
    assert report.check("store")["seen"] == "An unexpected error occurred (RuntimeError)."
    assert "UPLOADS_DIR" not in str(report.content["checks"]), "the folder of this backend has no such setting"


# -- folder


def test_a_folder_that_is_mounted_read_only_fails_the_folder_alone(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    before = behind(f"mount --bind {disk} {disk}; mount -o remount,ro,bind {disk}")
    report = examine_apart(folder=tmp_path, before=before, UPLOADS_DIR=f"{disk}/uploads")
    seen, remedy = assert_only(report, "folder", "failure")
    assert seen.startswith(str(disk))
    assert "Mount it for writing" in remedy
    assert report.headline == f"UPLOADS DO NOT WORK. {seen}"


#: Imports all modules first, because the other user may not be able to read them.
AS_ANOTHER_USER = """
import contextlib, io, os
from flask.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
main()
"""


@pytest.mark.parametrize(
    ("mode", "said", "advice"),
    [
        (0o555, "{theirs} cannot be written to.", "chown {user} {theirs}"),
        (0o700, "{theirs}/uploads cannot be used: Permission denied.", "Set UPLOADS_DIR to another folder."),
    ],
)
def test_a_folder_of_another_user_fails_the_folder_alone(mode: int, said: str, advice: str, open_folder: Path) -> None:
    theirs, user = open_folder / "theirs", 65534 if os.geteuid() == 0 else os.geteuid()
    theirs.mkdir()
    theirs.chmod(mode if os.geteuid() == 0 else mode & 0o055)
    report = examine_apart(
        folder=open_folder,
        python=("-c", AS_ANOTHER_USER),
        UPLOADS_DIR=f"{theirs}/uploads",
        TMPDIR="/tmp",
    )
    theirs.chmod(0o755)
    seen, remedy = assert_only(report, "folder", "failure")
    assert seen == said.format(theirs=theirs)
    assert advice.format(theirs=theirs, user=user) in remedy
    assert set(report.verdicts) == ALWAYS | {"persistence", "folder"}


def test_a_link_into_a_folder_that_the_app_cannot_enter_fails_the_folder_alone(open_folder: Path) -> None:
    (open_folder / "theirs" / "deep").mkdir(parents=True)
    (open_folder / "link").symlink_to(open_folder / "theirs" / "deep")
    (open_folder / "theirs").chmod(0o700 if os.geteuid() == 0 else 0)
    report = examine_apart(
        folder=open_folder, python=("-c", AS_ANOTHER_USER), UPLOADS_DIR=f"{open_folder}/link", TMPDIR="/tmp"
    )
    (open_folder / "theirs").chmod(0o755)
    seen, _ = assert_only(report, "folder", "failure")
    assert seen == f"{open_folder}/link cannot be used: Permission denied."


@pytest.mark.parametrize("below", ["", "/uploads", "/a/b"])
def test_a_file_in_the_place_of_the_folder_fails_the_folder_alone(below: str, tmp_path: Path, environment: Set) -> None:
    (tmp_path / "media").write_text("not a folder")
    environment(UPLOADS_DIR=f"{tmp_path}/media{below}")
    seen, remedy = assert_only(examine(), "folder", "failure")
    assert seen == f"{tmp_path}/media is not a folder."
    assert remedy == "Remove it, or set UPLOADS_DIR to another folder."


def test_a_broken_link_fails_the_folder_alone(tmp_path: Path, environment: Set) -> None:
    (tmp_path / "media").symlink_to(tmp_path / "gone")
    environment(UPLOADS_DIR=str(tmp_path / "media"))
    seen, _ = assert_only(examine(), "folder", "failure")
    assert seen == f"{tmp_path}/media is not a folder."


def test_a_folder_with_a_name_that_is_too_long_fails_the_folder_alone(tmp_path: Path, environment: Set) -> None:
    environment(UPLOADS_DIR=f"{tmp_path}/{'a' * 300}/uploads")
    seen, _ = assert_only(examine(), "folder", "failure")
    assert seen.endswith("/uploads cannot be used: File name too long.")


def test_a_folder_that_fails_hides_exactly_the_checks_that_need_it(tmp_path: Path, environment: Set) -> None:
    """The folder is in a git checkout and in the static folder, and the store is another one."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    environment(UPLOADS_DIR=f"{tmp_path}/static/uploads", UPLOADS_STORE_ID="20190101T000000Z-12345678")
    names = {one["name"] for one in examine().content["checks"] if one["verdict"] != "ok"}
    assert names == {"checkout", "static", "store"}
    (tmp_path / "static").write_text("not a folder")
    report = examine()
    assert report.verdicts == {**dict.fromkeys(ALWAYS | {"persistence"}, "ok"), "folder": "failure"}
    online = Report.of(run("--json"))
    assert online.verdicts == report.verdicts
    assert online.headline == report.headline == f"UPLOADS DO NOT WORK. {tmp_path}/static is not a folder."


# -- space


def on_a_disk(tmp_path: Path, size: str, then: str, *, make: str = "", max_size: str = "1MB") -> Report:
    before = disk_of(tmp_path, size, then, make=make)
    settings = {"UPLOADS_MAX_SIZE": max_size, "UPLOADS_DIR": f"{tmp_path}/disk/uploads"}
    return examine_apart(folder=tmp_path, before=before, **settings)


def test_a_disk_with_space_is_ok(tmp_path: Path) -> None:
    report = on_a_disk(tmp_path, "8M", "")
    assert_all_ok(report, "space")
    assert re.fullmatch(r"\d(\.\d+)? MB are free\.", report.check("space")["seen"])


def test_a_full_disk_fails_the_space_alone_and_is_the_headline(tmp_path: Path) -> None:
    large = "for name in 1 2 3; do cat /dev/zero >$name || sync; done"
    small = "for name in $(seq 11 99); do head -c 1024 /dev/zero >$name || sync; done"
    report = on_a_disk(tmp_path, "8M", f"mkdir uploads; ({large}; {small}) 2>/dev/null")
    seen, remedy = assert_only(report, "space", "failure")
    assert seen == "The disk for uploads is full."
    assert remedy == "Free some space on it, or enlarge it."
    assert report.headline == "UPLOADS DO NOT WORK. The disk for uploads is full."


def test_a_disk_with_less_space_than_a_file_may_have_is_a_warning(tmp_path: Path) -> None:
    report = on_a_disk(tmp_path, "8M", "", max_size="100MB")
    seen, remedy = assert_only(report, "space", "warning")
    assert seen.endswith(" are free, but files of up to 100 MB are allowed.")
    assert remedy.endswith("Or reduce UPLOADS_MAX_SIZE.")
    assert report.headline.startswith("Uploads survive. ")


def test_a_disk_that_is_almost_full_is_a_warning(tmp_path: Path) -> None:
    report = on_a_disk(tmp_path, "64M", "head -c $(($(stat -f -c %a*%S .) - 1500000)) /dev/zero >filler")
    seen, _ = assert_only(report, "space", "warning")
    assert re.fullmatch(r"Only 1\.\d+ MB of \d+(\.\d+)? MB are free\.", seen)


def test_a_disk_with_few_free_inodes_is_a_warning(tmp_path: Path) -> None:
    report = on_a_disk(
        tmp_path, "8M", "while [ $(stat -f -c %d .) -gt 2 ]; do mktemp -p . >/dev/null; done", make="-N 64"
    )
    assert assert_only(report, "space", "warning")[0] == "Only 2 of 64 inodes of the disk are free."


def test_a_disk_without_a_free_inode_fails_the_space_alone(tmp_path: Path) -> None:
    report = on_a_disk(tmp_path, "8M", "while mktemp -p . >/dev/null 2>&1; do :; done", make="-N 64")
    seen, _ = assert_only(report, "space", "failure")
    assert seen == "The disk for uploads is full. It has no free inode, so it takes no more files."
    assert report.headline == f"UPLOADS DO NOT WORK. {seen}"


# -- checkout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    return tmp_path


def test_a_folder_in_a_git_checkout_is_a_warning_and_the_remedy_helps(repository: Path) -> None:
    seen, remedy = assert_only(examine(), "checkout", "warning")
    assert seen == f"{repository}/instance/uploads is in the git checkout {repository}, which does not ignore it."
    assert remedy == f"echo /instance/uploads/ >> {repository}/.gitignore"
    subprocess.run(remedy, shell=True, check=True)
    assert examine().verdicts == dict.fromkeys(ON_A_DISK, "ok")


def test_the_remedy_helps_if_the_name_has_spaces_and_quotes(repository: Path, environment: Set) -> None:
    environment(UPLOADS_DIR=f"{repository}/user's files (new)")
    subprocess.run(assert_only(examine(), "checkout", "warning")[1], shell=True, check=True)
    assert_all_ok(examine())


@pytest.mark.parametrize("pattern", ["instance", "/instance/", "uploads/", "*"])
def test_a_folder_that_git_ignores_is_ok(pattern: str, repository: Path) -> None:
    (repository / ".gitignore").write_text(f"{pattern}\n")
    assert_all_ok(examine())


def test_a_git_checkout_is_noticed_if_git_is_not_installed(repository: Path, environment: Set, tmp_path: Path) -> None:
    (repository / ".gitignore").write_text("instance\n")
    environment(PATH=str(tmp_path))
    assert_only(examine(), "checkout", "warning")


def test_a_folder_outside_of_the_checkout_is_ok(
    repository: Path, environment: Set, tmp_path_factory: pytest.TempPathFactory
) -> None:
    environment(UPLOADS_DIR=str(tmp_path_factory.mktemp("elsewhere")))
    assert_all_ok(examine())


def test_a_link_out_of_the_checkout_is_ok(
    repository: Path, environment: Set, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (repository / "media").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    environment(UPLOADS_DIR=f"{repository}/media")
    assert_all_ok(examine())


def test_a_link_into_a_checkout_is_a_warning(
    repository: Path, environment: Set, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (repository / "media").mkdir()
    link = tmp_path_factory.mktemp("elsewhere") / "link"
    link.symlink_to(repository / "media")
    environment(UPLOADS_DIR=str(link))
    assert_only(examine(), "checkout", "warning")


# -- static


def with_blueprint() -> Flask:
    app = healthy()
    app.register_blueprint(Blueprint("shop", "shop", root_path=str(Path.cwd() / "shop"), static_folder="files"))
    return app


def test_a_folder_in_the_static_folder_of_the_app_fails_the_static_check_alone(
    tmp_path: Path, environment: Set
) -> None:
    environment(UPLOADS_DIR=f"{tmp_path}/static/uploads")
    seen, remedy = assert_only(examine(), "static", "failure")
    assert seen.startswith(f"{tmp_path}/static/uploads is in the static folder of 'healthy'")
    assert "Set UPLOADS_DIR to a folder elsewhere" in remedy


def test_a_folder_in_the_static_folder_of_a_blueprint_fails_the_static_check_alone(
    tmp_path: Path, environment: Set
) -> None:
    environment(UPLOADS_DIR=f"{tmp_path}/shop/files/uploads")
    seen, _ = assert_only(examine(with_blueprint), "static", "failure")
    assert "static folder of 'shop'" in seen
    assert_all_ok(examine())


def test_a_link_into_the_static_folder_fails_the_static_check_alone(tmp_path: Path, environment: Set) -> None:
    (tmp_path / "static" / "uploads").mkdir(parents=True)
    (tmp_path / "media").symlink_to(tmp_path / "static" / "uploads")
    environment(UPLOADS_DIR=f"{tmp_path}/media")
    assert_only(examine(), "static", "failure")


def test_a_folder_beside_the_static_folder_is_ok(tmp_path: Path, environment: Set) -> None:
    environment(UPLOADS_DIR=f"{tmp_path}/static-uploads")
    assert_all_ok(examine(with_blueprint))


# -- temporary


def test_temporary_files_in_memory_are_a_warning(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    before = behind(f"mount -t tmpfs -o size=1g none {tmp_path}/memory")
    seen, remedy = assert_only(
        examine_apart(folder=tmp_path, before=before, TMPDIR=f"{tmp_path}/memory"), "temporary", "warning"
    )
    assert seen.startswith(f"The folder for temporary files, {tmp_path}/memory, is in memory")
    assert remedy.startswith("Set TMPDIR to a folder on a disk.")


def test_a_disk_for_temporary_files_with_less_space_than_a_file_may_have_is_a_warning(tmp_path: Path) -> None:
    before = disk_of(tmp_path, "8M")
    report = examine_apart(folder=tmp_path, before=before, TMPDIR=f"{tmp_path}/disk")
    seen, remedy = assert_only(report, "temporary", "warning")
    assert seen.endswith(" for temporary files, but files of up to 100 MB are allowed.")
    assert remedy == "Set TMPDIR to a folder on a larger disk, or reduce UPLOADS_MAX_SIZE."


def test_a_machine_without_a_folder_for_temporary_files_fails_their_check_alone(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    read_only = "; ".join(
        f"mount --bind {folder} {folder}; mount -o remount,ro,bind {folder}"
        for folder in ("/tmp", "/var/tmp", tmp_path)
    )
    before = behind(
        f"mount -t tmpfs none /run; mkdir /run/kept; mount --bind {disk} /run/kept\n"
        f"{read_only}; mount --bind /run/kept {disk}"
    )
    report = examine_apart(folder=tmp_path, before=before, UPLOADS_DIR=f"{disk}/uploads", TMPDIR="/tmp")
    assert_only(report, "temporary", "failure")


# -- limits


def test_requests_of_unlimited_size_are_a_warning_and_the_remedy_is_twice_the_largest_file(environment: Set) -> None:
    def unlimited() -> Flask:
        app = healthy(UPLOADS_MAX_SIZE="5MB")
        app.config["MAX_CONTENT_LENGTH"] = None
        return app

    seen, remedy = assert_only(examine(unlimited), "body limit", "warning")
    assert "MAX_CONTENT_LENGTH is not set" in seen
    assert remedy.startswith('app.config["MAX_CONTENT_LENGTH"] = 10000000')


@pytest.mark.parametrize(
    ("variables", "host", "size", "allowed"),
    [
        ({"VERCEL": "1"}, "Vercel", "4.5 MB", "4400000"),
        ({"K_SERVICE": "s"}, "Cloud Run", "33.55 MB", "33454432"),
        ({"AWS_LAMBDA_FUNCTION_NAME": "f"}, "AWS Lambda", "6 MB", "5900000"),
    ],
)
def test_a_platform_that_accepts_less_than_the_settings_is_a_warning_and_the_remedy_helps(
    variables: dict[str, str], host: str, size: str, allowed: str, environment: Set
) -> None:
    environment(UPLOADS_PLATFORM="", **variables, **S3)
    seen, remedy = assert_only(examine(), "host limit", "warning")
    limits = rf"Limits of {host} as of 20\d\d-\d\d: requests of up to {size}\b.*\."
    assert re.fullmatch(rf"{limits} UPLOADS_MAX_SIZE allows files of up to 100 MB\.", seen)
    assert remedy == f"Set UPLOADS_MAX_SIZE={allowed}, which leaves room for the rest of the form."
    environment(UPLOADS_MAX_SIZE=allowed)
    assert_all_ok(examine())


# -- workers

SYNC = "which are killed 30 s into a slow upload"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("gunicorn app:app", SYNC),
        ("gunicorn app:app --workers 4 --bind 0.0.0.0:$PORT", SYNC),
        ("gunicorn -k sync --timeout 45 app:app", "which are killed 45 s"),
        ("python -m gunicorn app:app", SYNC),
        ("poetry run gunicorn 'app:create_app()'", SYNC),
        ("/app/.venv/bin/gunicorn app:app", SYNC),
        ("gunicorn app:app --no-such-option 'and no end", SYNC),
        ("gunicorn app:app --workers $WEB_CONCURRENCY --timeout 30", SYNC),
        ("gunicorn app:app --timeout $TIMEOUT", SYNC),
        ("gunicorn app:app --timeout=$TIMEOUT", SYNC),
        ("gunicorn app:app --threads ${THREADS:-8} --timeout 40", "which are killed 40 s"),
    ],
)
def test_a_procfile_that_starts_sync_workers_is_a_warning(line: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text(f"release: flask db upgrade\nweb: {line}\n")
    seen, remedy = assert_only(examine(), "workers", "warning")
    assert seen.startswith("The Procfile starts sync workers of gunicorn")
    assert says in seen
    assert remedy == "Start gunicorn with these options: -k gthread --threads 8 --timeout 120"
    (tmp_path / "Procfile").write_text(f"web: gunicorn {remedy.partition(': ')[2]}\n")
    assert_all_ok(examine(), "workers")


@pytest.mark.parametrize(
    "line",
    [
        "gunicorn app:app -k gthread --threads 8",
        "gunicorn app:app --threads 8",
        "gunicorn app:app --timeout 120",
        "gunicorn app:app -t 0",
        "gunicorn app:app --worker-class=gevent",
        "gunicorn app:app -k gthread --threads $THREADS --bind 0.0.0.0:$PORT",
        "gunicorn $MODULE --timeout 120",
    ],
)
def test_a_procfile_that_starts_patient_workers_is_ok(line: str, tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text(f"web: {line}\n")
    assert_all_ok(examine(), "workers")


@pytest.mark.parametrize("line", ["worker: gunicorn app:app", "web: flask run", "web: uwsgi app.ini", "not a Procfile"])
def test_a_procfile_that_does_not_start_gunicorn_for_the_web_is_ignored(line: str, tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text(f"{line}\n")
    assert examine().verdicts == dict.fromkeys(ON_A_DISK, "ok")


@pytest.mark.parametrize("option", ["--version", "--help", "-h"])
def test_a_command_that_starts_no_server_does_not_stop_the_report(option: str, tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text(f"web: gunicorn {option}\n")
    assert examine().verdicts == dict.fromkeys(ON_A_DISK, "ok")


@pytest.mark.parametrize("arguments", ["--timeout abc", "--threads 'x"])
def test_arguments_that_gunicorn_refuses_do_not_stop_the_report(arguments: str, environment: Set) -> None:
    environment(GUNICORN_CMD_ARGS=arguments)
    assert examine().verdicts == dict.fromkeys(ON_A_DISK, "ok")


def test_sync_workers_in_the_environment_are_a_warning(environment: Set) -> None:
    environment(GUNICORN_CMD_ARGS="--workers 4")
    seen, _ = assert_only(examine(), "workers", "warning")
    assert seen.startswith("GUNICORN_CMD_ARGS starts sync workers of gunicorn")
    environment(GUNICORN_CMD_ARGS="--workers 4 --timeout 90")
    assert_all_ok(examine(), "workers")


def test_the_procfile_wins_over_the_environment(environment: Set, tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("web: gunicorn app:app\n")
    environment(GUNICORN_CMD_ARGS="--timeout 120")
    assert_all_ok(examine(), "workers")
    (tmp_path / "Procfile").write_text("web: gunicorn app:app --timeout 20\n")
    assert "killed 20 s" in assert_only(examine(), "workers", "warning")[0]


def test_nothing_is_said_if_gunicorn_has_a_configuration_file(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("web: gunicorn app:app\n")
    (tmp_path / "gunicorn.conf.py").write_text("worker_class = 'gthread'\nthreads = 8\ntimeout = 120\n")
    assert_all_ok(examine())


def test_nothing_is_said_if_the_command_names_a_configuration_file(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("web: gunicorn app:app -c conf/gunicorn.py\n")
    assert examine().verdicts == dict.fromkeys(ON_A_DISK, "ok")


@pytest.mark.parametrize(
    ("options", "verdict"),
    [([], "warning"), (["-k", "gthread", "--threads", "2"], "ok"), (["--timeout", "120"], "ok")],
)
def test_a_gunicorn_that_runs_in_this_folder_is_examined(options: list[str], verdict: str, tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("web: gunicorn app:app --timeout 55\n")
    with running(tmp_path, *options):
        report = examine()
    if verdict == "warning":
        seen, _ = assert_only(report, "workers", verdict)
        assert seen.startswith("The running server starts sync workers of gunicorn")
    else:
        assert_all_ok(report, "workers")
        assert report.check("workers")["seen"].startswith("The running server starts")


def test_a_gunicorn_that_runs_in_another_folder_is_ignored(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(tmp_path_factory.mktemp("elsewhere")):
        report = examine()
    assert report.verdicts == dict.fromkeys(ON_A_DISK, "ok")


def running(folder: Path, *options: str) -> Gunicorn:
    (folder / "server.py").write_text(
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'']\n"
    )
    return Gunicorn("server:app", *options, environment={}, folder=folder)


# -- debug


def test_debug_mode_on_a_platform_fails_its_check_alone(environment: Set) -> None:
    environment(FLASK_DEBUG="1", **RENDER, **S3)
    seen, remedy = assert_only(examine(), "debug", "failure")
    assert seen == "Debug mode is on, and Render is a public host."
    assert "FLASK_DEBUG" in remedy


def test_debug_mode_in_the_environment_is_noticed_in_a_process_of_its_own(tmp_path: Path) -> None:
    assert_only(examine_apart(folder=tmp_path, FLASK_DEBUG="1", **RENDER, **S3), "debug", "failure")


def test_debug_mode_that_the_app_sets_itself_is_noticed(environment: Set) -> None:
    def debugged() -> Flask:
        app = healthy()
        app.debug = True
        return app

    environment(**RENDER, **S3)
    assert_only(examine(debugged), "debug", "failure")


def test_debug_mode_on_a_plain_machine_is_ok(environment: Set) -> None:
    environment(FLASK_DEBUG="1")
    assert_all_ok(examine())


# -- clock


def test_a_clock_of_2001_fails_its_check_alone(tmp_path: Path) -> None:
    program = "import time; time.time = lambda: 1_000_000_000.0; from flask.cli import main; main()"
    seen, remedy = assert_only(examine_apart(folder=tmp_path, python=("-c", program)), "clock", "failure")
    assert seen == "The clock shows 2001-09-09 01:46 UTC, which must be wrong."
    assert remedy == "Set the clock of this machine (NTP)."


def sign(folder: Path, since: datetime, store_id: str = "20200101T000000Z-00000000") -> None:
    """Write the marker of a store that was created then."""
    content = {"id": store_id, "since": since.isoformat(), "instances": {}, "forgotten": 0}
    data = json.dumps(content).encode()
    LocalBackend(folder).save(
        marker.KEY, io.BytesIO(data), content_type="application/json", size=len(data), filename="store.json"
    )


@pytest.mark.parametrize(("ahead", "verdict"), [(timedelta(hours=2), "failure"), (timedelta(seconds=5), "ok")])
def test_a_store_that_was_created_in_the_future_fails_the_clock_alone(
    ahead: timedelta, verdict: str, tmp_path: Path
) -> None:
    sign(tmp_path / "instance" / "uploads", datetime.now(timezone.utc) + ahead)
    report = examine()
    if verdict == "failure":
        assert "which must be wrong" in assert_only(report, "clock", "failure")[0]
    else:
        assert_all_ok(report, "store")


# -- route and links


def test_a_route_of_the_app_that_answers_in_place_of_ours_fails_the_route_alone() -> None:
    def with_route() -> Flask:
        app = Flask("healthy", instance_path=str(Path.cwd() / "instance"))
        app.config["MAX_CONTENT_LENGTH"] = 200_000_000
        app.add_url_rule("/uploads/<path:name>", "old_uploads", lambda name: name)
        Uploads(app)
        return app

    report = examine(with_route)
    seen, remedy = assert_only(report, "route", "failure")
    assert seen == "The app's own route 'old_uploads' answers /uploads/…, so uploads are not served."
    assert "UPLOADS_URL_PREFIX" in remedy


def test_a_route_beside_ours_is_ok() -> None:
    def with_route() -> Flask:
        app = healthy()
        app.add_url_rule("/uploads", "all_uploads", lambda: "all")
        app.add_url_rule("/uploaded/<path:name>", "one", lambda name: name)
        return app

    assert examine(with_route).verdicts == dict.fromkeys(ON_A_DISK, "ok")


def guarded() -> Flask:
    app = healthy()
    app.extensions["flask_persistent_uploads"]["uploads"].uploads.authorize(lambda action, key: True)
    return app


@pytest.mark.parametrize(
    ("variables", "remedy"),
    [
        ({**S3, "UPLOADS_PUBLIC_URL": "https://cdn.example.com"}, "Remove UPLOADS_PUBLIC_URL."),
        (CLOUDINARY, "Set UPLOADS_CLOUDINARY_PRIVATE=true."),
        (IMAGEKIT, "Set UPLOADS_IMAGEKIT_PRIVATE=true."),
    ],
    ids=["s3", "cloudinary", "imagekit"],
)
def test_public_links_that_bypass_the_hook_are_a_warning(
    variables: dict[str, str], remedy: str, environment: Set
) -> None:
    environment(**variables)
    seen, advice = assert_only(examine(guarded), "links", "warning")
    assert seen.endswith(" are public and permanent.")
    assert advice == remedy
    assert_all_ok(examine(healthy))


def test_links_that_expire_are_ok_with_a_hook(environment: Set) -> None:
    environment(**S3)
    assert_all_ok(examine(guarded))


# -- store


def test_a_store_other_than_the_expected_one_fails_the_store_alone(tmp_path: Path, environment: Set) -> None:
    sign(tmp_path / "instance" / "uploads", datetime(2020, 1, 1, tzinfo=timezone.utc))
    environment(UPLOADS_STORE_ID="20190101T000000Z-12345678")
    report = examine()
    seen, remedy = assert_only(report, "store", "failure")
    assert "The app expects the store 20190101T000000Z-12345678 " in seen
    assert "the store in use is 20200101T000000Z-00000000 " in seen
    assert remedy.startswith("Mount the disk of the expected store, or set its bucket.")
    assert report.headline == seen
    assert report.headline.startswith("ANOTHER STORE. ")
    assert report.survives is None
    environment(UPLOADS_STORE_ID="20200101T000000Z-00000000")
    assert_all_ok(examine(), "store")


@pytest.mark.parametrize(
    ("platform", "history"), [("render", "survived 2 restarts"), ("azure", "served 2 other instances")]
)
def test_the_store_counts_restarts_only_if_one_instance_runs_at_a_time(
    platform: str, history: str, tmp_path: Path, environment: Set
) -> None:
    environment(UPLOADS_PLATFORM=platform)
    host = detect({}, platform)
    for name in ("one", "two"):
        marker.sign_in(LocalBackend(tmp_path / "instance" / "uploads"), replace(host, names=(name,)))
    assert examine().check("store")["seen"].endswith(f" ago. It has {history}.")


def test_the_remedy_for_another_store_names_the_setting_with_the_id(tmp_path: Path, environment: Set) -> None:
    sign(tmp_path / "instance" / "uploads", datetime(2020, 1, 1, tzinfo=timezone.utc))
    environment(UPLOADS_STORE_ID="20190101T000000Z-12345678")
    remedy = assert_only(examine(), "store", "failure")[1]
    assert remedy.endswith(" set UPLOADS_STORE_ID=20200101T000000Z-00000000.")


def test_a_store_that_is_gone_fails_the_store_alone(environment: Set) -> None:
    environment(UPLOADS_STORE_ID="20190101T000000Z-12345678")
    assert "has no marker" in assert_only(examine(), "store", "failure")[0]


def test_a_marker_that_cannot_be_read_fails_the_store_alone(tmp_path: Path) -> None:
    sign(tmp_path / "instance" / "uploads", datetime(2020, 1, 1, tzinfo=timezone.utc))
    (written,) = (tmp_path / "instance" / "uploads").rglob("store.json")
    written.write_text("{")
    seen, remedy = assert_only(examine(), "store", "failure")
    assert seen == "The marker of the store, .uploads/store.json, cannot be read."
    assert remedy.startswith("Delete it")


# -- the old folder and the relative one


def test_files_that_are_left_in_the_old_folder_are_a_warning(tmp_path: Path, environment: Set) -> None:
    (tmp_path / "media/.uploads").mkdir(parents=True)
    environment(**S3, MEDIA_ROOT=str(tmp_path / "media"))
    assert "old folder" not in examine().verdicts
    (tmp_path / "media/a.png").write_bytes(b"x")
    seen, remedy = assert_only(examine(), "old folder", "warning")
    assert seen == f"MEDIA_ROOT is set, and {tmp_path}/media holds files, but the app looks for files in s3."
    assert remedy == "Copy them to s3, then remove MEDIA_ROOT."


def test_a_relative_folder_is_a_warning_with_the_absolute_one(tmp_path: Path, environment: Set) -> None:
    environment(UPLOADS_DIR="media")
    seen, remedy = assert_only(examine(), "folder", "warning")
    assert seen.startswith("UPLOADS_DIR is a relative path")
    assert remedy == f"UPLOADS_DIR={Path.cwd()}/media"


def test_a_typing_error_is_named_beside_the_setting_that_is_missing(environment: Set) -> None:
    environment(UPLOADS_S3_BUKET="my-bucket", UPLOADS_S3_ACCESS_KEY_ID="k", UPLOADS_S3_SECRET_ACCESS_KEY="s")
    _, remedy = assert_only(examine(), "configuration", "failure")
    assert "Did you mean UPLOADS_S3_BUCKET?" in remedy


def test_a_store_id_in_quotes_is_wrong(environment: Set) -> None:
    environment(UPLOADS_STORE_ID='"20260103T101500Z-7f3a9c21"')
    _, remedy = assert_only(examine(), "configuration", "failure")
    assert "without quotes" in remedy


# -- the rule


def test_every_offline_check_is_seen_failing_here() -> None:
    text = Path(__file__).read_text()
    seen = set(re.findall(r'"([a-z ]+)",\s*"(?:failure|warning)"', text))
    assert seen == {check.name for check in (*offline.CHECKS, *disk.CHECKS, identity.ON_DISK)}
