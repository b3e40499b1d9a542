"""Each check of ``flask uploads doctor --offline`` is seen failing: alone, on an app healthy but for one thing."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import IO

import pytest
from flask import Blueprint, Flask

from flask_persistent_uploads import Uploads
from flask_persistent_uploads.backends.base import Backend
from flask_persistent_uploads.backends.local import LocalBackend
from flask_persistent_uploads.operations import marker
from flask_persistent_uploads.operations.doctor.offline import CHECKS, store
from flask_persistent_uploads.stored import Stat

from ...servers import ROOT, Gunicorn
from .cases import (
    CLOUDINARY,
    IMAGEKIT,
    RENDER,
    S3,
    Report,
    assert_content,
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
UPLOAD_MAY_HAVE_1_MB = {"UPLOADS_MAX_SIZE": "1MB"}

Set = Callable[..., None]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary files lie where those of the tests do, also where the machine's own folder for them is in memory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Set:
    """``environment(UPLOADS_X="…")``: variables of this process."""

    def put(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user of the machine reaches."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


# -- nothing wrong


def test_of_a_healthy_app_every_check_is_content() -> None:
    report = examine()
    assert report.verdicts == dict.fromkeys(ON_A_DISK, "ok")
    assert report.code == 0
    assert report.content["survives"] is True


def test_of_a_healthy_app_every_check_is_content_in_a_process_of_its_own(tmp_path: Path) -> None:
    assert examine_apart(folder=tmp_path).verdicts == dict.fromkeys(ON_A_DISK, "ok")


@pytest.mark.parametrize(("service", "account"), [("s3", S3), ("cloudinary", CLOUDINARY), ("imagekit", IMAGEKIT)])
def test_of_a_healthy_app_on_a_service_every_check_is_content(
    service: str, account: dict[str, str], environment: Set
) -> None:
    environment(**account)
    report = examine()
    assert report.verdicts == dict.fromkeys(ALWAYS | {"persistence"}, "ok")
    assert report.headline.startswith(f"By the settings alone, uploads survive: they are kept in {service}")


def test_of_a_healthy_app_on_render_with_a_service_every_check_is_content(environment: Set) -> None:
    environment(**RENDER, **S3)
    assert_content(examine(), "platform", "persistence")


# -- configuration


@pytest.mark.parametrize(
    ("variables", "wrong", "advice"),
    [
        ({"UPLOADS_BACKEND": "s3"}, "UPLOADS_S3_BUCKET is not set", "UPLOADS_BACKEND=local"),
        ({"UPLOADS_BACKEND": "gcs"}, "UPLOADS_BACKEND is 'gcs', which is not known", "set it to local, s3, cloudinary"),
        (
            {"UPLOADS_BACKEND": "no.such:Backend"},
            "UPLOADS_BACKEND is 'no.such:Backend', which cannot be imported (ImportStringError)",
            "set it to local, s3, cloudinary, imagekit, memory or module:Class",
        ),
        (
            {"UPLOADS_BACKEND": "flask.nothing:Backend"},
            "UPLOADS_BACKEND is 'flask.nothing:Backend', which cannot be imported (ImportStringError)",
            "or module:Class",
        ),
        (
            {**S3, **CLOUDINARY},
            "Two backends are configured at once, by UPLOADS_S3_BUCKET (for s3) "
            "and UPLOADS_CLOUDINARY_URL (for cloudinary)",
            "set UPLOADS_BACKEND to s3 or cloudinary",
        ),
        (
            {"S3_BUCKET_NAME": "b", **IMAGEKIT},
            "Two backends are configured at once, by S3_BUCKET_NAME (for s3) "
            "and UPLOADS_IMAGEKIT_URL_ENDPOINT (for imagekit)",
            "set UPLOADS_BACKEND to s3 or imagekit",
        ),
        (
            {"UPLOADS_S3_BUCKET": "my-bucket"},
            "There is a bucket but no credentials",
            "set UPLOADS_S3_ACCESS_KEY_ID and UPLOADS_S3_SECRET_ACCESS_KEY",
        ),
        (
            {**S3, "UPLOADS_S3_SECRET_ACCESS_KEY": ""},
            "UPLOADS_S3_SECRET_ACCESS_KEY is not set, while the other half of the credentials is",
            "set both",
        ),
        (
            {**S3, "UPLOADS_S3_BUCKET": ""},
            "UPLOADS_S3_ACCESS_KEY_ID is set, but UPLOADS_S3_BUCKET is not",
            "set it too, or set UPLOADS_BACKEND=local",
        ),
        (
            {"CLOUDINARY_API_KEY": "123456789012345"},
            "CLOUDINARY_API_KEY is set, but UPLOADS_CLOUDINARY_CLOUD_NAME is not",
            "set it too",
        ),
        (
            {"UPLOADS_IMAGEKIT_PUBLIC_KEY": "public_x"},
            "UPLOADS_IMAGEKIT_PUBLIC_KEY is set, but UPLOADS_IMAGEKIT_PRIVATE_KEY is not",
            "set it too",
        ),
        ({"UPLOADS_CLOUDINARY_URL": "https://demo"}, "UPLOADS_CLOUDINARY_URL is not right", "cloudinary://<api key>:"),
        ({**S3, "UPLOADS_S3_ENDPOINT_URL": "r2.example.com"}, "UPLOADS_S3_ENDPOINT_URL is not right", "https://"),
        (
            {"UPLOADS_PLATFORM": "nonsense"},
            "UPLOADS_PLATFORM is 'nonsense', which is not known",
            "one of render, koyeb",
        ),
        ({"UPLOADS_MAX_SIZE": "10 apples"}, "UPLOADS_MAX_SIZE is '10 apples'", "set it to a size such as 10MB"),
        ({"UPLOADS_SERVE": "proxy"}, "UPLOADS_SERVE=proxy is not served by this version yet", "remove it"),
        (
            {"UPLOADS_DIR": "~nobody-of-that-name/uploads"},
            "UPLOADS_DIR is '~nobody-of-that-name/uploads'",
            "set it to a folder without '~'",
        ),
        (
            {**IMAGEKIT, "UPLOADS_PUBLIC_URL": "https://cdn.example"},
            "UPLOADS_PUBLIC_URL goes with s3 and cloudinary, not with imagekit",
            "remove it",
        ),
    ],
)
def test_one_setting_that_makes_no_backend_fails_the_configuration_alone_and_is_the_headline(
    variables: dict[str, str], wrong: str, advice: str, environment: Set
) -> None:
    environment(**variables)
    report = examine()
    seen, remedy = assert_only(report, "configuration", "failure")
    assert seen == wrong
    assert advice in remedy
    assert not remedy.endswith(".")
    assert "\n" not in remedy
    assert report.headline == f"UPLOADS DO NOT WORK. {seen}."
    assert report.content["survives"] is None


def test_of_several_wrong_settings_each_is_named_with_what_it_should_be(environment: Set) -> None:
    environment(UPLOADS_MAX_SIZE="big", UPLOADS_URL_EXPIRES="a day", UPLOADS_SERVE="ftp", UPLOADS_MAX_FILES="0")
    report = examine()
    seen, remedy = assert_only(report, "configuration", "failure")
    assert seen == "4 settings are wrong or missing"
    assert report.headline == "UPLOADS DO NOT WORK. 4 settings are wrong or missing."
    assert [line.split(" is ")[0] for line in sorted(remedy.splitlines())] == [
        "UPLOADS_MAX_FILES",
        "UPLOADS_MAX_SIZE",
        "UPLOADS_SERVE",
        "UPLOADS_URL_EXPIRES",
    ]
    assert "seconds from 1 to 604800" in remedy


def test_wrong_settings_and_a_missing_account_are_told_at_once(environment: Set) -> None:
    environment(UPLOADS_BACKEND="imagekit", UPLOADS_MAX_SIZE="big")
    seen, remedy = assert_only(examine(), "configuration", "failure")
    assert seen == "3 settings are wrong or missing"
    for variable in ("UPLOADS_MAX_SIZE", "UPLOADS_IMAGEKIT_PRIVATE_KEY", "UPLOADS_IMAGEKIT_URL_ENDPOINT"):
        assert variable in remedy


def test_a_wrong_value_of_app_config_fails_the_configuration_alone() -> None:
    report = examine(lambda: healthy(UPLOADS_MAX_SIZE="big"))
    assert assert_only(report, "configuration", "failure")[0] == "UPLOADS_MAX_SIZE is 'big'"
    assert report.settings["UPLOADS_MAX_SIZE"] == ("(not right)", "app.config")


def test_a_wrong_value_of_the_env_file_fails_the_configuration_alone(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("UPLOADS_MAX_SIZE=big\n")
    report = examine_apart(folder=tmp_path)
    assert assert_only(report, "configuration", "failure")[0] == "UPLOADS_MAX_SIZE is 'big'"
    assert examine().settings["UPLOADS_MAX_SIZE"] == ("(not right)", ".env")


def test_a_variable_that_is_none_of_ours_is_a_warning_with_the_one_that_was_meant(environment: Set) -> None:
    environment(UPLOADS_MAXSIZE="5MB")
    seen, remedy = assert_only(examine(), "configuration", "warning")
    assert seen == "1 variable not known"
    assert "UPLOADS_MAXSIZE" in remedy
    assert "did you mean UPLOADS_MAX_SIZE?" in remedy


def test_each_setting_is_told_with_its_variable_and_where_it_was_found(environment: Set, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"UPLOADS_MAX_FILES=7\nUPLOADS_MAX_SIZE=3MB\nMEDIA_ROOT={tmp_path}/media\n")
    environment(UPLOADS_MAX_SIZE="2MB", UPLOADS_URL_EXPIRES="60")
    report = examine(lambda: healthy(UPLOADS_MAX_SIZE="1MB", UPLOADS_ALLOW=["image/*", ".csv"]))
    assert_content(report, "configuration")
    assert report.settings == {
        "UPLOADS_PLATFORM": ("machine", "environment"),
        "UPLOADS_MAX_SIZE": ("1000000", "app.config"),
        "UPLOADS_ALLOW": ("image/*, .csv", "app.config"),
        "UPLOADS_URL_EXPIRES": ("60", "environment"),
        "UPLOADS_MAX_FILES": ("7", ".env"),
        "MEDIA_ROOT": (f"{tmp_path}/media", ".env"),
    }


def test_a_value_of_the_env_file_is_told_as_such_although_flask_puts_it_into_the_environment(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("UPLOADS_MAX_FILES=7\nUPLOADS_MAX_SIZE=3MB\n")
    report = examine_apart(folder=tmp_path, UPLOADS_MAX_SIZE="2MB")
    assert report.settings["UPLOADS_MAX_FILES"] == ("7", ".env")
    assert report.settings["UPLOADS_MAX_SIZE"] == ("2000000", "environment")


# -- sdk


def without(module: str, folder: Path, **environment: str) -> Report:
    """The report where every package is installed but this one."""
    installed = folder / "installed"
    installed.mkdir()
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if package.name != module:
            (installed / package.name).symlink_to(package)
    path = os.pathsep.join([str(ROOT), str(installed)])
    # Without "site", Python knows of no packages but those in that folder.
    return examine_apart(folder=folder, python=("-S", "-m", "flask"), PYTHONPATH=path, **environment)


@pytest.mark.parametrize(
    ("name", "module", "account"),
    [("s3", "boto3", S3), ("cloudinary", "cloudinary", CLOUDINARY), ("imagekit", "imagekitio", IMAGEKIT)],
)
def test_an_sdk_that_is_not_installed_fails_the_sdk_alone_and_the_remedy_installs_it(
    name: str, module: str, account: dict[str, str], tmp_path: Path
) -> None:
    report = without(module, tmp_path, **account)
    seen, remedy = assert_only(report, "sdk", "failure")
    assert seen == f"The backend {name} needs {module}"
    assert remedy == f"pip install 'flask-persistent-uploads[{name}]'"
    assert report.headline == f"UPLOADS DO NOT WORK. {seen}."


def test_the_sdk_of_another_backend_is_not_missed(tmp_path: Path) -> None:
    assert_content(without("boto3", tmp_path, **CLOUDINARY))


def test_the_remedy_of_a_missing_sdk_can_be_copied_into_a_shell(tmp_path: Path) -> None:
    remedy = assert_only(without("boto3", tmp_path, **S3), "sdk", "failure")[1]
    assert shlex.split(remedy) == ["pip", "install", "flask-persistent-uploads[s3]"]


def test_without_an_sdk_nothing_is_said_of_where_files_are_kept(tmp_path: Path) -> None:
    assert "None" not in without("boto3", tmp_path, **S3).check("configuration")["seen"]


def test_a_missing_sdk_beside_a_wrong_setting_fails_both_and_neither_is_told_twice(tmp_path: Path) -> None:
    report = without("boto3", tmp_path, UPLOADS_MAX_SIZE="big", **S3)
    failing = {name for name, verdict in report.verdicts.items() if verdict != "ok"}
    assert failing == {"configuration", "sdk"}
    assert report.check("configuration")["seen"] == "UPLOADS_MAX_SIZE is 'big'"
    assert report.check("sdk")["seen"] == "The backend s3 needs boto3"


# -- platform


@pytest.mark.parametrize(
    ("claim", "confirmation"), [("RENDER", "RENDER_SERVICE_ID"), ("WEBSITE_SITE_NAME", "WEBSITE_INSTANCE_ID")]
)
def test_an_environment_that_claims_a_platform_without_its_other_variables_is_a_warning(
    claim: str, confirmation: str, environment: Set
) -> None:
    environment(UPLOADS_PLATFORM="", **{claim: "true"}, **S3)
    seen, remedy = assert_only(examine(), "platform", "warning")
    assert seen.startswith(f"{claim} claims ")
    assert seen.endswith(f"but {confirmation} is not set")
    assert "UPLOADS_PLATFORM=machine" in remedy
    environment(UPLOADS_PLATFORM="machine")
    assert_content(examine(), "platform")


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
def test_the_disk_that_a_platform_wipes_fails_the_persistence_alone(
    variables: dict[str, str], name: str, remedy: str, environment: Set
) -> None:
    environment(**{"UPLOADS_PLATFORM": "", **variables})
    report = examine()
    seen, advice = assert_only(report, "persistence", "failure")
    assert seen == f"{name} wipes this disk at every deploy and restart"
    assert advice.startswith("set UPLOADS_S3_BUCKET and its credentials")
    assert remedy in advice
    assert ("UPLOADS_DIR" in advice) == (name != "Heroku")
    assert report.headline == f"UPLOADS WILL BE LOST. {seen}."
    assert report.content["survives"] is False


def test_a_disk_of_its_own_on_render_is_well(tmp_path: Path) -> None:
    before = disk_of(tmp_path, "8M")
    settings = {**RENDER, **UPLOAD_MAY_HAVE_1_MB, "UPLOADS_DIR": f"{tmp_path}/disk/uploads"}
    report = examine_apart(folder=tmp_path, before=before, **settings)
    assert_content(report, "persistence", "folder", "space")
    assert report.headline == "Uploads survive: they lie on a disk of their own (ext4)."


def test_a_folder_in_memory_fails_the_persistence_alone(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    before = behind(f"mount -t tmpfs none {tmp_path}/memory")
    report = examine_apart(folder=tmp_path, before=before, UPLOADS_DIR=f"{tmp_path}/memory/uploads")
    seen, remedy = assert_only(report, "persistence", "failure")
    assert seen == "The folder lies in memory, which ends with the machine"
    assert "set UPLOADS_DIR to a folder on a disk" in remedy


def test_the_backend_memory_fails_the_persistence_alone(environment: Set) -> None:
    environment(UPLOADS_BACKEND="memory")
    seen, _ = assert_only(examine(), "persistence", "failure")
    assert seen == "UPLOADS_BACKEND is memory, which ends with the process"


def test_an_app_that_refuses_to_start_as_uploads_must_survive_fails_the_persistence_and_not_the_configuration(
    environment: Set,
) -> None:
    environment(UPLOADS_REQUIRE_PERSISTENT="true", **RENDER)
    report = examine()
    seen, _ = assert_only(report, "persistence", "failure")
    assert report.headline == f"UPLOADS WILL BE LOST. {seen}."
    assert report.check("configuration")["verdict"] == "ok"


def test_the_setting_by_which_an_app_refuses_to_start_is_shown_as_it_is(environment: Set) -> None:
    environment(UPLOADS_REQUIRE_PERSISTENT="true", **RENDER)
    assert examine().settings["UPLOADS_REQUIRE_PERSISTENT"] == ("True", "environment")


def test_where_no_disk_is_mounted_yet_nobody_can_tell(environment: Set) -> None:
    environment(**{**RENDER, "RENDER_INSTANCE_ID": ""})
    report = examine()
    seen, remedy = assert_only(report, "persistence", "warning")
    assert seen == "Render is building or releasing, where no disk is mounted"
    assert remedy == "store a file, deploy again, and see if it is there"
    assert report.content["survives"] is None


class SomebodyElses(Backend):
    """A third party's backend."""

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


def test_of_a_backend_of_somebody_elses_nobody_can_tell(environment: Set) -> None:
    environment(UPLOADS_BACKEND=f"{__name__}:SomebodyElses")
    seen, _ = assert_only(examine(), "persistence", "warning")
    assert seen == "Nothing is known of the backend elsewhere"


class Broken(SomebodyElses):
    """One that keeps no contract."""

    def filesystem_path(self, key: str) -> Path:
        return Path.cwd() / "broken" / key

    def stat(self, key: str) -> Stat | None:
        raise RuntimeError("of its own making")


def test_a_backend_of_somebody_elses_that_breaks_does_not_stop_the_report(environment: Set) -> None:
    environment(UPLOADS_BACKEND=f"{__name__}:Broken")
    assert set(examine().verdicts) >= ALWAYS | {"folder", "space"}


# -- folder


def test_a_folder_that_is_mounted_read_only_fails_the_folder_alone(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    before = behind(f"mount --bind {disk} {disk}; mount -o remount,ro,bind {disk}")
    report = examine_apart(folder=tmp_path, before=before, UPLOADS_DIR=f"{disk}/uploads")
    seen, remedy = assert_only(report, "folder", "failure")
    assert seen.startswith(str(disk))
    assert "mount it for writing" in remedy
    assert report.headline == f"UPLOADS DO NOT WORK. {seen}."


#: All modules are imported before, as the other user may not see where they lie.
AS_SOMEBODY_ELSE = """
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
        (0o555, "{theirs} refuses to be written to", "chown {user} {theirs}"),
        (0o700, "{theirs}/uploads cannot be used: Permission denied", "set UPLOADS_DIR to another place"),
    ],
)
def test_a_folder_of_another_user_fails_the_folder_alone(mode: int, said: str, advice: str, open_folder: Path) -> None:
    theirs, user = open_folder / "theirs", 65534 if os.geteuid() == 0 else os.geteuid()
    theirs.mkdir()
    theirs.chmod(mode if os.geteuid() == 0 else mode & 0o055)
    report = examine_apart(
        folder=open_folder,
        python=("-c", AS_SOMEBODY_ELSE),
        UPLOADS_DIR=f"{theirs}/uploads",
        TMPDIR="/tmp",
    )
    theirs.chmod(0o755)
    seen, remedy = assert_only(report, "folder", "failure")
    assert seen == said.format(theirs=theirs)
    assert advice.format(theirs=theirs, user=user) in remedy
    assert set(report.verdicts) == ALWAYS | {"persistence", "folder"}


def test_a_link_to_where_the_app_may_not_look_fails_the_folder_alone(open_folder: Path) -> None:
    (open_folder / "theirs" / "deep").mkdir(parents=True)
    (open_folder / "link").symlink_to(open_folder / "theirs" / "deep")
    (open_folder / "theirs").chmod(0o700 if os.geteuid() == 0 else 0)
    report = examine_apart(
        folder=open_folder, python=("-c", AS_SOMEBODY_ELSE), UPLOADS_DIR=f"{open_folder}/link", TMPDIR="/tmp"
    )
    (open_folder / "theirs").chmod(0o755)
    seen, _ = assert_only(report, "folder", "failure")
    assert seen == f"{open_folder}/link cannot be used: Permission denied"


@pytest.mark.parametrize("below", ["", "/uploads", "/a/b"])
def test_a_file_in_the_place_of_the_folder_fails_the_folder_alone(below: str, tmp_path: Path, environment: Set) -> None:
    (tmp_path / "media").write_text("not a folder")
    environment(UPLOADS_DIR=f"{tmp_path}/media{below}")
    seen, remedy = assert_only(examine(), "folder", "failure")
    assert seen == f"{tmp_path}/media is no folder"
    assert "set UPLOADS_DIR" in remedy


def test_a_link_that_leads_nowhere_fails_the_folder_alone(tmp_path: Path, environment: Set) -> None:
    (tmp_path / "media").symlink_to(tmp_path / "gone")
    environment(UPLOADS_DIR=str(tmp_path / "media"))
    seen, _ = assert_only(examine(), "folder", "failure")
    assert seen == f"{tmp_path}/media is no folder"


def test_a_folder_with_a_name_that_no_disk_takes_fails_the_folder_alone(tmp_path: Path, environment: Set) -> None:
    environment(UPLOADS_DIR=f"{tmp_path}/{'a' * 300}/uploads")
    seen, _ = assert_only(examine(), "folder", "failure")
    assert seen.endswith("/uploads cannot be used: File name too long")


def test_where_the_folder_fails_nothing_else_is_asked_of_it(tmp_path: Path, environment: Set) -> None:
    """By default it lies in a git checkout, in the static folder, and the store is another one."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    environment(UPLOADS_DIR=f"{tmp_path}/static/uploads", UPLOADS_STORE_ID="20190101T000000Z-12345678")
    names = {one["name"] for one in examine().content["checks"] if one["verdict"] != "ok"}
    assert names == {"checkout", "static", "store"}
    (tmp_path / "static").write_text("not a folder")
    report = examine()
    assert report.verdicts == {**dict.fromkeys(ALWAYS | {"persistence"}, "ok"), "folder": "failure"}
    online = Report.of(run("--json"))
    assert online.verdicts == report.verdicts
    assert online.headline == report.headline == f"UPLOADS DO NOT WORK. {tmp_path}/static is no folder."


# -- space


def on_a_disk(tmp_path: Path, size: str, then: str, *, make: str = "", max_size: str = "1MB") -> Report:
    before = disk_of(tmp_path, size, then, make=make)
    settings = {"UPLOADS_MAX_SIZE": max_size, "UPLOADS_DIR": f"{tmp_path}/disk/uploads"}
    return examine_apart(folder=tmp_path, before=before, **settings)


def test_a_disk_with_room_is_well(tmp_path: Path) -> None:
    report = on_a_disk(tmp_path, "8M", "")
    assert_content(report, "space")
    assert re.fullmatch(r"\d(\.\d)? MB are free", report.check("space")["seen"])


def test_a_full_disk_fails_the_space_alone_and_is_the_headline(tmp_path: Path) -> None:
    large = "for name in 1 2 3; do cat /dev/zero >$name || sync; done"
    small = "for name in $(seq 11 99); do head -c 1024 /dev/zero >$name || sync; done"
    report = on_a_disk(tmp_path, "8M", f"mkdir uploads; ({large}; {small}) 2>/dev/null")
    seen, remedy = assert_only(report, "space", "failure")
    assert seen == "The disk is full"
    assert "grow the disk" in remedy
    assert report.headline == "UPLOADS DO NOT WORK. The disk is full."


def test_a_disk_that_is_smaller_than_a_file_may_be_is_a_warning_and_uploads_survive(tmp_path: Path) -> None:
    report = on_a_disk(tmp_path, "8M", "", max_size="100MB")
    assert assert_only(report, "space", "warning")[0].endswith("; a file may have 100 MB")
    assert report.headline.startswith("Uploads survive: ")


def test_a_disk_that_is_almost_full_is_a_warning(tmp_path: Path) -> None:
    report = on_a_disk(tmp_path, "64M", "head -c $(($(stat -f -c %a*%S .) - 1500000)) /dev/zero >filler")
    seen, _ = assert_only(report, "space", "warning")
    assert re.fullmatch(r"1\.\d MB of \d+(\.\d)? MB are free", seen)


def test_a_disk_with_hardly_a_name_left_is_a_warning(tmp_path: Path) -> None:
    report = on_a_disk(
        tmp_path, "8M", "while [ $(stat -f -c %d .) -gt 2 ]; do mktemp -p . >/dev/null; done", make="-N 64"
    )
    assert assert_only(report, "space", "warning")[0] == "2 of 64 inodes are free"


def test_a_disk_without_a_name_left_fails_the_space_alone(tmp_path: Path) -> None:
    report = on_a_disk(tmp_path, "8M", "while mktemp -p . >/dev/null 2>&1; do :; done", make="-N 64")
    seen, _ = assert_only(report, "space", "failure")
    assert seen == "The disk is full: it has no inode left, so no more files"
    assert report.headline == f"UPLOADS DO NOT WORK. {seen}."


# -- checkout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    return tmp_path


def test_a_folder_in_a_git_checkout_is_a_warning_and_the_remedy_settles_it(repository: Path) -> None:
    seen, remedy = assert_only(examine(), "checkout", "warning")
    assert seen == f"{repository}/instance/uploads lies in the git checkout {repository}"
    assert remedy == f"echo /instance/uploads/ >> {repository}/.gitignore"
    subprocess.run(remedy, shell=True, check=True)
    assert examine().verdicts == dict.fromkeys(ON_A_DISK, "ok")


def test_the_remedy_settles_it_also_where_a_name_has_spaces_and_quotes(repository: Path, environment: Set) -> None:
    environment(UPLOADS_DIR=f"{repository}/user's files (new)")
    subprocess.run(assert_only(examine(), "checkout", "warning")[1], shell=True, check=True)
    assert_content(examine())


@pytest.mark.parametrize("pattern", ["instance", "/instance/", "uploads/", "*"])
def test_a_folder_that_git_ignores_in_any_way_is_well(pattern: str, repository: Path) -> None:
    (repository / ".gitignore").write_text(f"{pattern}\n")
    assert_content(examine())


def test_a_git_checkout_is_noticed_where_there_is_no_git_to_ask(
    repository: Path, environment: Set, tmp_path: Path
) -> None:
    (repository / ".gitignore").write_text("instance\n")
    environment(PATH=str(tmp_path))
    assert_only(examine(), "checkout", "warning")


def test_a_folder_outside_of_the_checkout_is_well(
    repository: Path, environment: Set, tmp_path_factory: pytest.TempPathFactory
) -> None:
    environment(UPLOADS_DIR=str(tmp_path_factory.mktemp("elsewhere")))
    assert_content(examine())


def test_a_link_that_leads_out_of_the_checkout_is_well(
    repository: Path, environment: Set, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (repository / "media").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    environment(UPLOADS_DIR=f"{repository}/media")
    assert_content(examine())


def test_a_link_that_leads_into_a_checkout_is_a_warning(
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


def test_a_folder_in_the_apps_static_folder_fails_the_check_of_it_alone(tmp_path: Path, environment: Set) -> None:
    environment(UPLOADS_DIR=f"{tmp_path}/static/uploads")
    seen, remedy = assert_only(examine(), "static", "failure")
    assert seen.startswith(f"{tmp_path}/static/uploads lies in the static folder of 'healthy'")
    assert "set UPLOADS_DIR to a folder elsewhere" in remedy


def test_a_folder_in_a_blueprints_static_folder_fails_the_check_of_it_alone(tmp_path: Path, environment: Set) -> None:
    environment(UPLOADS_DIR=f"{tmp_path}/shop/files/uploads")
    seen, _ = assert_only(examine(with_blueprint), "static", "failure")
    assert "static folder of 'shop'" in seen
    assert_content(examine())


def test_a_link_into_the_static_folder_is_seen_through(tmp_path: Path, environment: Set) -> None:
    (tmp_path / "static" / "uploads").mkdir(parents=True)
    (tmp_path / "media").symlink_to(tmp_path / "static" / "uploads")
    environment(UPLOADS_DIR=f"{tmp_path}/media")
    assert_only(examine(), "static", "failure")


def test_a_folder_beside_the_static_folder_is_well(tmp_path: Path, environment: Set) -> None:
    environment(UPLOADS_DIR=f"{tmp_path}/static-uploads")
    assert_content(examine(with_blueprint))


# -- temporary


def test_temporary_files_in_memory_are_a_warning(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    before = behind(f"mount -t tmpfs -o size=1g none {tmp_path}/memory")
    seen, remedy = assert_only(
        examine_apart(folder=tmp_path, before=before, TMPDIR=f"{tmp_path}/memory"), "temporary", "warning"
    )
    assert seen.startswith(f"The folder for temporary files, {tmp_path}/memory, lies in memory")
    assert remedy.startswith("set TMPDIR to a folder on a disk")


def test_a_disk_for_temporary_files_that_is_smaller_than_an_upload_may_be_is_a_warning(tmp_path: Path) -> None:
    before = disk_of(tmp_path, "8M")
    report = examine_apart(folder=tmp_path, before=before, TMPDIR=f"{tmp_path}/disk")
    seen, remedy = assert_only(report, "temporary", "warning")
    assert "for temporary files; an upload may have 100 MB" in seen
    assert "set TMPDIR to a larger disk" in remedy


def test_where_no_temporary_file_can_be_made_the_check_of_them_fails_alone(tmp_path: Path) -> None:
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


def test_a_request_without_an_end_is_a_warning_and_the_remedy_is_twice_the_largest_file(environment: Set) -> None:
    def unlimited() -> Flask:
        app = healthy(UPLOADS_MAX_SIZE="5MB")
        app.config["MAX_CONTENT_LENGTH"] = None
        return app

    seen, remedy = assert_only(examine(unlimited), "body limit", "warning")
    assert "MAX_CONTENT_LENGTH is not set" in seen
    assert remedy.startswith('app.config["MAX_CONTENT_LENGTH"] = 10000000')


@pytest.mark.parametrize(
    ("variables", "limit", "size"),
    [
        ({"VERCEL": "1"}, "Vercel: a request has at most 4.5 MB", "4400000"),
        ({"K_SERVICE": "s"}, "Cloud Run: a request has at most 33.6 MB", "33454432"),
        ({"AWS_LAMBDA_FUNCTION_NAME": "f"}, "AWS Lambda: a request has at most 6 MB", "5900000"),
    ],
)
def test_a_platform_that_takes_less_than_we_allow_is_a_warning_and_the_remedy_settles_it(
    variables: dict[str, str], limit: str, size: str, environment: Set
) -> None:
    environment(UPLOADS_PLATFORM="", **variables, **S3)
    seen, remedy = assert_only(examine(), "host limit", "warning")
    assert seen.startswith(limit)
    assert re.search(r"\(as of 20\d\d-\d\d\); UPLOADS_MAX_SIZE allows 100 MB$", seen)
    assert remedy == f"set UPLOADS_MAX_SIZE={size} (the rest of the form needs room)"
    environment(UPLOADS_MAX_SIZE=size)
    assert_content(examine())


# -- workers

SYNC = "which are killed 30 s into a slow upload"


@pytest.mark.parametrize(
    ("line", "said"),
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
def test_a_procfile_that_starts_sync_workers_is_a_warning(line: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text(f"release: flask db upgrade\nweb: {line}\n")
    seen, remedy = assert_only(examine(), "workers", "warning")
    assert seen.startswith("Procfile starts gunicorn's sync workers")
    assert said in seen
    assert remedy == "start gunicorn with -k gthread --threads 8 --timeout 120"
    (tmp_path / "Procfile").write_text(f"web: {remedy}\n")
    assert_content(examine(), "workers")


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
def test_a_procfile_that_starts_patient_workers_is_well(line: str, tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text(f"web: {line}\n")
    assert_content(examine(), "workers")


@pytest.mark.parametrize("line", ["worker: gunicorn app:app", "web: flask run", "web: uwsgi app.ini", "not a Procfile"])
def test_a_procfile_without_gunicorn_on_the_web_says_nothing(line: str, tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text(f"{line}\n")
    assert examine().verdicts == dict.fromkeys(ON_A_DISK, "ok")


@pytest.mark.parametrize("option", ["--version", "--help", "-h"])
def test_a_start_line_that_starts_nothing_does_not_stop_the_report(option: str, tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text(f"web: gunicorn {option}\n")
    assert examine().verdicts == dict.fromkeys(ON_A_DISK, "ok")


@pytest.mark.parametrize("arguments", ["--timeout abc", "--threads 'x"])
def test_arguments_that_gunicorn_would_refuse_do_not_stop_the_report(arguments: str, environment: Set) -> None:
    environment(GUNICORN_CMD_ARGS=arguments)
    assert examine().verdicts == dict.fromkeys(ON_A_DISK, "ok")


def test_sync_workers_by_the_environment_are_a_warning(environment: Set) -> None:
    environment(GUNICORN_CMD_ARGS="--workers 4")
    assert assert_only(examine(), "workers", "warning")[0].startswith(
        "GUNICORN_CMD_ARGS starts gunicorn's sync workers"
    )
    environment(GUNICORN_CMD_ARGS="--workers 4 --timeout 90")
    assert_content(examine(), "workers")


def test_the_environment_and_the_procfile_count_together_and_the_procfile_wins(
    environment: Set, tmp_path: Path
) -> None:
    (tmp_path / "Procfile").write_text("web: gunicorn app:app\n")
    environment(GUNICORN_CMD_ARGS="--timeout 120")
    assert_content(examine(), "workers")
    (tmp_path / "Procfile").write_text("web: gunicorn app:app --timeout 20\n")
    assert "killed 20 s" in assert_only(examine(), "workers", "warning")[0]


def test_a_configuration_file_of_gunicorn_is_not_overlooked(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("web: gunicorn app:app\n")
    (tmp_path / "gunicorn.conf.py").write_text("worker_class = 'gthread'\nthreads = 8\ntimeout = 120\n")
    assert_content(examine())


def test_of_a_configuration_file_that_the_start_line_names_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("web: gunicorn app:app -c conf/gunicorn.py\n")
    assert examine().verdicts == dict.fromkeys(ON_A_DISK, "ok")


@pytest.mark.parametrize(
    ("options", "verdict"),
    [([], "warning"), (["-k", "gthread", "--threads", "2"], "ok"), (["--timeout", "120"], "ok")],
)
def test_the_gunicorn_that_runs_in_this_folder_is_judged_by_how_it_was_started(
    options: list[str], verdict: str, tmp_path: Path
) -> None:
    (tmp_path / "Procfile").write_text("web: gunicorn app:app --timeout 55\n")
    with running(tmp_path, *options):
        report = examine()
    if verdict == "warning":
        assert assert_only(report, "workers", verdict)[0].startswith(
            "The running server starts gunicorn's sync workers"
        )
    else:
        assert_content(report, "workers")
        assert report.check("workers")["seen"].startswith("The running server starts")


def test_a_gunicorn_that_runs_elsewhere_is_not_taken_for_ours(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(tmp_path_factory.mktemp("elsewhere")):
        report = examine()
    assert report.verdicts == dict.fromkeys(ON_A_DISK, "ok")


def running(folder: Path, *options: str) -> Gunicorn:
    (folder / "server.py").write_text(
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'']\n"
    )
    return Gunicorn("server:app", *options, environment={}, folder=folder)


# -- debug


def test_debug_mode_on_a_platform_fails_the_check_of_it_alone(environment: Set) -> None:
    environment(FLASK_DEBUG="1", **RENDER, **S3)
    seen, remedy = assert_only(examine(), "debug", "failure")
    assert seen == "Debug mode is on, on Render"
    assert "FLASK_DEBUG" in remedy


def test_debug_mode_by_the_environment_is_seen_in_a_process_of_its_own(tmp_path: Path) -> None:
    assert_only(examine_apart(folder=tmp_path, FLASK_DEBUG="1", **RENDER, **S3), "debug", "failure")


def test_debug_mode_that_the_app_sets_itself_is_seen(environment: Set) -> None:
    def debugged() -> Flask:
        app = healthy()
        app.debug = True
        return app

    environment(**RENDER, **S3)
    assert_only(examine(debugged), "debug", "failure")


def test_debug_mode_on_a_machine_is_well(environment: Set) -> None:
    environment(FLASK_DEBUG="1")
    assert_content(examine())


# -- clock


def test_a_clock_of_2001_fails_the_check_of_it_alone(tmp_path: Path) -> None:
    program = "import time; time.time = lambda: 1_000_000_000.0; from flask.cli import main; main()"
    seen, remedy = assert_only(examine_apart(folder=tmp_path, python=("-c", program)), "clock", "failure")
    assert seen == "It is 2001-09-09 01:46 UTC by the clock, which must be wrong"
    assert "set the clock" in remedy


def sign(folder: Path, since: datetime, store_id: str = "20200101T000000Z-00000000") -> None:
    """Leave the marker of a store that was born then."""
    content = {"id": store_id, "since": since.isoformat(), "instances": {}, "forgotten": 0}
    data = json.dumps(content).encode()
    LocalBackend(folder).save(
        marker.KEY, io.BytesIO(data), content_type="application/json", size=len(data), filename="store.json"
    )


@pytest.mark.parametrize(("ahead", "verdict"), [(timedelta(hours=2), "failure"), (timedelta(seconds=5), "ok")])
def test_a_store_that_was_born_in_the_future_fails_the_clock_alone(
    ahead: timedelta, verdict: str, tmp_path: Path
) -> None:
    sign(tmp_path / "instance" / "uploads", datetime.now(timezone.utc) + ahead)
    report = examine()
    if verdict == "failure":
        assert "which must be wrong" in assert_only(report, "clock", "failure")[0]
    else:
        assert_content(report, "store")


# -- route and links


def test_a_route_of_the_apps_own_that_answers_in_place_of_ours_fails_the_route_alone() -> None:
    def with_route() -> Flask:
        app = Flask("healthy", instance_path=str(Path.cwd() / "instance"))
        app.config["MAX_CONTENT_LENGTH"] = 200_000_000
        app.add_url_rule("/uploads/<path:name>", "old_uploads", lambda name: name)
        Uploads(app)
        return app

    report = examine(with_route)
    seen, remedy = assert_only(report, "route", "failure")
    assert seen == "The app's own route 'old_uploads' answers /uploads/…: uploads are not served"
    assert "UPLOADS_URL_PREFIX" in remedy


def test_a_route_beside_ours_is_well() -> None:
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
        ({**S3, "UPLOADS_PUBLIC_URL": "https://cdn.example.com"}, "remove UPLOADS_PUBLIC_URL"),
        (CLOUDINARY, "set UPLOADS_CLOUDINARY_PRIVATE=true"),
        (IMAGEKIT, "set UPLOADS_IMAGEKIT_PRIVATE=true"),
    ],
    ids=["s3", "cloudinary", "imagekit"],
)
def test_a_hook_before_links_that_do_not_end_is_a_warning(
    variables: dict[str, str], remedy: str, environment: Set
) -> None:
    environment(**variables)
    seen, advice = assert_only(examine(guarded), "links", "warning")
    assert "public and do not end" in seen
    assert advice == remedy
    assert_content(examine(healthy))


def test_a_hook_before_links_that_end_is_well(environment: Set) -> None:
    environment(**S3)
    assert_content(examine(guarded))


# -- store


def test_a_store_that_is_not_the_one_of_the_environment_fails_the_store_alone(tmp_path: Path, environment: Set) -> None:
    sign(tmp_path / "instance" / "uploads", datetime(2020, 1, 1, tzinfo=timezone.utc))
    environment(UPLOADS_STORE_ID="20190101T000000Z-12345678")
    report = examine()
    seen, remedy = assert_only(report, "store", "failure")
    assert "The store 20190101T000000Z-12345678" in seen
    assert "this one, 20200101T000000Z-00000000, was born" in seen
    assert "set UPLOADS_STORE_ID=20200101T000000Z-00000000" in remedy
    assert remedy.startswith("mount its disk, or name its bucket, or restore its files")
    assert report.headline.startswith("ANOTHER STORE. The store 20190101T000000Z-12345678")
    environment(UPLOADS_STORE_ID="20200101T000000Z-00000000")
    assert_content(examine(), "store")


def test_the_remedy_of_another_store_ends_with_what_can_be_copied(tmp_path: Path, environment: Set) -> None:
    sign(tmp_path / "instance" / "uploads", datetime(2020, 1, 1, tzinfo=timezone.utc))
    environment(UPLOADS_STORE_ID="20190101T000000Z-12345678")
    assert assert_only(examine(), "store", "failure")[1].split()[-1] == "UPLOADS_STORE_ID=20200101T000000Z-00000000"


def test_a_store_that_is_gone_fails_the_store_alone(environment: Set) -> None:
    environment(UPLOADS_STORE_ID="20190101T000000Z-12345678")
    assert "there is no marker here" in assert_only(examine(), "store", "failure")[0]


def test_a_marker_that_cannot_be_read_fails_the_store_alone(tmp_path: Path) -> None:
    sign(tmp_path / "instance" / "uploads", datetime(2020, 1, 1, tzinfo=timezone.utc))
    (written,) = (tmp_path / "instance" / "uploads").rglob("store.json")
    written.write_text("{")
    seen, remedy = assert_only(examine(), "store", "failure")
    assert seen == "The marker of the store, .uploads/store.json, cannot be read"
    assert remedy.startswith("delete it")


# -- what was there before


def test_files_that_are_left_in_the_folder_of_before_are_a_warning(tmp_path: Path, environment: Set) -> None:
    (tmp_path / "media/.uploads").mkdir(parents=True)
    environment(**S3, MEDIA_ROOT=str(tmp_path / "media"))
    assert "old folder" not in examine().verdicts
    (tmp_path / "media/a.png").write_bytes(b"x")
    seen, remedy = assert_only(examine(), "old folder", "warning")
    assert seen == f"MEDIA_ROOT is set, and {tmp_path}/media holds files, but they are looked for in s3"
    assert "copy them" in remedy


def test_a_relative_folder_is_a_warning_with_the_absolute_one(tmp_path: Path, environment: Set) -> None:
    environment(UPLOADS_DIR="media")
    seen, remedy = assert_only(examine(), "folder", "warning")
    assert "is relative" in seen
    assert remedy == f"UPLOADS_DIR={Path.cwd()}/media"


def test_a_typo_is_named_beside_what_it_leaves_unset(environment: Set) -> None:
    environment(UPLOADS_S3_BUKET="my-bucket", UPLOADS_S3_ACCESS_KEY_ID="k", UPLOADS_S3_SECRET_ACCESS_KEY="s")
    _, remedy = assert_only(examine(), "configuration", "failure")
    assert "did you mean UPLOADS_S3_BUCKET?" in remedy


def test_an_id_in_quotes_is_no_id_of_a_store(environment: Set) -> None:
    environment(UPLOADS_STORE_ID='"20260103T101500Z-7f3a9c21"')
    _, remedy = assert_only(examine(), "configuration", "failure")
    assert "without quotes" in remedy


# -- the rule


def test_every_check_is_seen_failing_here() -> None:
    text = Path(__file__).read_text()
    seen = set(re.findall(r'"([a-z ]+)",\s*"(?:failure|warning)"', text))
    assert seen == {check.__name__.replace("_", " ") for check in (*CHECKS, store)}
