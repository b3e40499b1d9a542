"""The verdict whether uploads survive: from the backend, the platform, the mount and the marker, with its remedy."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

import pytest
from flask import Flask

from flask_persistent_uploads import ConfigError, Uploads
from flask_persistent_uploads.backends import read_settings
from flask_persistent_uploads.backends.base import Backend
from flask_persistent_uploads.backends.cloudinary import CloudinaryBackend
from flask_persistent_uploads.backends.description import Description
from flask_persistent_uploads.backends.imagekit import ImageKitBackend
from flask_persistent_uploads.backends.local import LocalBackend
from flask_persistent_uploads.backends.memory import MemoryBackend
from flask_persistent_uploads.backends.s3 import S3Backend
from flask_persistent_uploads.config import Setting, Settings
from flask_persistent_uploads.errors import Problem
from flask_persistent_uploads.operations import marker, mounts
from flask_persistent_uploads.operations.marker import Marker, Seen
from flask_persistent_uploads.operations.platform import PLATFORMS, Host, detect
from flask_persistent_uploads.operations.startup import StartupRefused
from flask_persistent_uploads.operations.verdict import Verdict, judge
from flask_persistent_uploads.stored import Stat

from ..conftest import MakeApp
from .test_mounts import CONTAINER, EMPTY_DIR, FLY, GVISOR, HEX, KOYEB, MICROVM, RENDER, SERVER, VOLUMES, at
from .test_platform import BY_ID, RUNNING

Start = Callable[..., Flask]
SINCE = datetime(2026, 1, 3, 12, tzinfo=timezone.utc)
S3 = "Set UPLOADS_S3_BUCKET and its credentials, or UPLOADS_CLOUDINARY_URL."
FOLDER = "and set UPLOADS_DIR to a folder below its mount path."


def host(platform: str, name: str = "here") -> Host:
    return Host(BY_ID[platform], (name,))


def settings_from(uploads: str = "uploads", **variables: object) -> Settings:
    """Return the settings of an app whose configuration holds these variables."""
    return read_settings(variables, {}, uploads=uploads).settings


def store(platform: str, restarts: int) -> Marker:
    """Return a marker with the records of this instance and of ``restarts`` other ones."""
    names = [Host(BY_ID[platform], (f"old-{number}",)).id for number in range(restarts)]
    records = {name: Seen(host(platform).kind, SINCE) for name in [*names, host(platform).id]}
    return Marker("20260103T120000Z-0a1b2c3d", SINCE, records)


@pytest.fixture(autouse=True)
def mountinfo_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the mount table of the system; the folders of these tests need not exist."""
    path = tmp_path / "mountinfo"
    monkeypatch.setattr(mounts, "MOUNTINFO", path)
    # The nearest existing folder is the root of the test machine, whose device number is not in the table.
    monkeypatch.setattr(mounts, "_nearest_folder", lambda directory: (directory, None))
    return path


def judge_folder(
    platform: str,
    mountinfo: str,
    directory: str,
    *,
    found: Marker | None = None,
    environ: Mapping[str, str] | None = None,
    settings: Settings | None = None,
) -> Verdict:
    """Return the verdict on a folder of ``LocalBackend``, on a platform with this mount table."""
    mounts.MOUNTINFO.write_text(mountinfo)
    backend = LocalBackend(Path(directory))
    return judge(backend, host(platform), environ or {}, settings or settings_from(), found=found)


def message_of(*arguments: str, **options: Marker | None) -> str:
    return judge_folder(*arguments, **options).reason.message  # type: ignore[arg-type]


def yes(message: str) -> Verdict:
    return Verdict(True, Problem(message))


CONTAINER_LAYER = "The folder is in the writable layer of the container, which is removed with the container."


def wiped(platform: str) -> str:
    return f"{platform} wipes the app's disk at every deploy and restart."


@pytest.mark.parametrize(
    ("platform", "mountinfo", "directory", "message", "remedy"),
    [
        pytest.param(
            "docker",
            CONTAINER,
            "/srv/x/uploads",
            CONTAINER_LAYER,
            f"{S3} Alternatively, mount a named volume {FOLDER}",
            id="Docker: overlay",
        ),
        pytest.param(
            "kubernetes",
            CONTAINER,
            "/srv/x/uploads",
            wiped("Kubernetes"),
            f"{S3} Alternatively, mount a persistent volume {FOLDER}",
            id="Kubernetes: overlay",
        ),
        pytest.param(
            "kubernetes",
            at("/data", root=EMPTY_DIR),
            "/data/uploads",
            "The folder is on an emptyDir volume, which is deleted with its pod.",
            f"{S3} Alternatively, mount a persistent volume {FOLDER}",
            id="Kubernetes: emptyDir",
        ),
        pytest.param(
            "docker",
            at("/data", "tmpfs"),
            "/data/uploads",
            "The folder is in memory, which is lost when the machine stops.",
            f"{S3} Alternatively, mount a named volume {FOLDER}",
            id="Docker: tmpfs",
        ),
        pytest.param(
            "render",
            RENDER,
            "/srv/x/uploads",
            wiped("Render"),
            f"{S3} Alternatively, add a disk {FOLDER}",
            id="Render: beside the disk",
        ),
        pytest.param(
            "fly", FLY, "/app/uploads", wiped("Fly.io"), f"{S3} Alternatively, add a volume {FOLDER}", id="Fly: root"
        ),
        pytest.param(
            "koyeb", KOYEB, "/app/u", wiped("Koyeb"), f"{S3} Alternatively, add a volume {FOLDER}", id="Koyeb: root"
        ),
        pytest.param("heroku", CONTAINER, "/app/uploads", wiped("Heroku"), S3, id="Heroku"),
        pytest.param("heroku", at("/app"), "/app/uploads", wiped("Heroku"), S3, id="Heroku: a separate mount"),
        pytest.param("lambda", at("/tmp"), "/tmp/uploads", wiped("AWS Lambda"), S3, id="Lambda: /tmp"),
        pytest.param("cloud-run", GVISOR, "/app/uploads", wiped("Cloud Run"), S3, id="Cloud Run: gVisor root"),
        pytest.param("cloud-run", CONTAINER, "/app/uploads", wiped("Cloud Run"), S3, id="Cloud Run: overlay"),
        pytest.param("app-runner", CONTAINER, "/app/uploads", CONTAINER_LAYER, S3, id="App Runner"),
        pytest.param("digitalocean", MICROVM, "/app/x", wiped("DigitalOcean App Platform"), S3, id="DigitalOcean"),
        pytest.param("vercel", at("/tmp"), "/tmp/uploads", wiped("Vercel"), S3, id="Vercel: /tmp"),
        pytest.param(
            "azure",
            CONTAINER,
            "/app/uploads",
            wiped("Azure App Service"),
            f"{S3} Alternatively, set UPLOADS_DIR=/home/uploads, which is on the volume.",
            id="Azure: root",
        ),
        pytest.param(
            "fly",
            "",
            "/app/uploads",
            wiped("Fly.io"),
            f"{S3} Alternatively, add a volume {FOLDER}",
            id="Fly: mounts unknown",
        ),
        pytest.param(
            "machine",
            SERVER,
            "/run/uploads",
            "The folder is in memory, which is lost when the machine stops.",
            f"Set UPLOADS_DIR to a folder on a disk. Alternatively, {S3[0].lower()}{S3[1:]}",
            id="machine: /run",
        ),
    ],
)
def test_a_disk_that_will_be_wiped_is_reported_with_its_remedy(
    platform: str, mountinfo: str, directory: str, message: str, remedy: str
) -> None:
    expected = Verdict(False, Problem(message, remedy, "UPLOADS_DIR"))
    assert judge_folder(platform, mountinfo, directory) == expected


@pytest.mark.parametrize(
    ("platform", "mountinfo", "directory", "filesystem"),
    [
        pytest.param("docker", at("/data", root=f"{VOLUMES}/shop/_data"), "/data/u", "ext4", id="Docker: named volume"),
        pytest.param("kubernetes", at("/data", "xfs"), "/data/u", "xfs", id="Kubernetes: persistent volume"),
        pytest.param("render", RENDER, "/var/data/uploads", "ext4", id="Render: a disk under an overlay"),
        pytest.param("fly", FLY, "/data/uploads", "ext4", id="Fly: volume"),
        pytest.param("koyeb", KOYEB, "/var/uploads/u", "ext4", id="Koyeb: volume"),
        pytest.param("railway", at("/data"), "/data/uploads", "ext4", id="Railway: volume"),
        pytest.param("azure", at("/home", "cifs"), "/home/site/uploads", "cifs", id="Azure: /home"),
        pytest.param("lambda", at("/mnt/efs", "nfs4"), "/mnt/efs/uploads", "nfs4", id="Lambda: EFS"),
        pytest.param("cloud-run", at("/mnt", "fuse.gcsfuse"), "/mnt/uploads", "fuse.gcsfuse", id="Cloud Run: a bucket"),
        pytest.param("docker", at("/data", "nfs4"), "/data/u", "nfs4", id="Docker: NFS"),
    ],
)
def test_a_separate_disk_survives(platform: str, mountinfo: str, directory: str, filesystem: str) -> None:
    assert judge_folder(platform, mountinfo, directory) == yes(f"The folder is on a separate disk ({filesystem}).")


def test_the_disk_of_a_machine_survives_if_the_platform_was_set_to_machine(mountinfo_file: Path) -> None:
    mountinfo_file.write_text(SERVER)
    stated = Host(BY_ID["machine"], ("boot",), stated=True)
    said = judge(LocalBackend(Path("/srv/app/uploads")), stated, {}, settings_from())
    assert said == yes("The folder is on the disk of this machine (ext4).")
    assert detect({}, "machine").stated
    assert not detect({}).stated


UNKNOWN_DISK = "The folder is on the disk of this machine (ext4), which may not be permanent."


def test_a_detected_machine_may_be_an_unknown_hosting_platform() -> None:
    said = judge_folder("machine", SERVER, "/srv/uploads", settings=settings_from("documents"))
    remedy = "If this is your own server, set DOCUMENTS_PLATFORM=machine."
    assert said == Verdict(None, Problem(UNKNOWN_DISK, remedy, "DOCUMENTS_PLATFORM"))
    unproven = judge_folder("machine", SERVER, "/srv/uploads", found=store("machine", 0))
    assert unproven.survives is None, "its own record proves nothing"
    proven = judge_folder("machine", SERVER, "/srv/uploads", found=store("machine", 2))
    assert proven == yes(
        "The folder is on the disk of this machine (ext4). The store has survived 2 restarts since 3 January 2026."
    )


def test_a_separate_disk_on_a_detected_machine_survives() -> None:
    assert judge_folder("machine", at("/data"), "/data/uploads") == yes("The folder is on a separate disk (ext4).")


def test_it_is_unknown_whether_an_anonymous_volume_survives() -> None:
    for found in (None, store("docker", 3)):
        said = judge_folder("docker", at("/data", root=f"{VOLUMES}/{HEX}/_data"), "/data/uploads", found=found)
        assert said.survives is None
        assert said.reason.message == "The folder is on an anonymous volume, which a new container does not get."
        assert said.reason.remedy == f"Give the volume a name. Alternatively, {S3[0].lower()}{S3[1:]}"


def test_an_empty_mount_table_leaves_the_verdict_open() -> None:
    assert judge_folder("machine", "", "/srv/uploads").survives is None


# -- the marker


def test_records_of_earlier_deploys_prove_that_a_disk_survives() -> None:
    said = judge_folder("render", RENDER, "/var/data/uploads", found=store("render", 3))
    disk = "The folder is on a separate disk (ext4)."
    assert said == yes(f"{disk} The store has survived 3 restarts since 3 January 2026.")
    once = message_of("render", RENDER, "/var/data/u", found=store("render", 1))
    assert once == f"{disk} The store has survived 1 restart since 3 January 2026."
    assert message_of("render", RENDER, "/var/data/u", found=store("render", 0)) == disk


def test_on_a_platform_with_several_instances_the_records_may_be_of_instances_that_still_run() -> None:
    said = message_of("cloud-run", at("/mnt", "nfs4"), "/mnt/u", found=store("cloud-run", 2))
    assert said.endswith(" The store has served 2 other instances since 3 January 2026.")


def test_proof_wins_over_a_disk_that_looks_like_the_root() -> None:
    for platform, mountinfo in (("fly", FLY), ("koyeb", KOYEB), ("heroku", at("/app")), ("railway", "")):
        said = judge_folder(platform, mountinfo, "/app/uploads", found=store(platform, 2))
        assert said.survives is True, platform
        assert judge_folder(platform, mountinfo, "/app/uploads", found=store(platform, 0)).survives is False


def test_the_records_of_another_platform_prove_nothing() -> None:
    copied = store("machine", 40)
    for platform in ("render", "fly", "koyeb", "heroku", "docker", "kubernetes"):
        assert judge_folder(platform, MICROVM, "/app/uploads", found=copied).survives is False, platform
    assert "The store has" not in message_of("render", RENDER, "/var/data/u", found=copied)


def test_a_marker_that_came_with_the_image_proves_nothing_however_many_records_it_holds() -> None:
    copied = store("machine", 0)
    for number in range(250):
        copied = copied.with_record(host("machine", f"boot-{number}"))
    assert judge_folder("fly", FLY, "/app/uploads", found=copied).survives is False


def test_a_marker_proves_survival_only_on_the_machine_that_signed_it(mountinfo_file: Path) -> None:
    """An image that was built on a server may run on an unknown platform, which looks like a server too."""
    mountinfo_file.write_text(MICROVM)
    signers = [Host(BY_ID["machine"], (f"boot-{number}",), machine="1a2b") for number in range(5)]
    elsewhere, restarted = (Host(BY_ID["machine"], ("boot-9",), machine=machine) for machine in ("3c4d", "1a2b"))
    copied = store("docker", 3)
    for signer in signers:
        copied = copied.with_record(signer)
    disk, settings = LocalBackend(Path("/app/uploads")), settings_from()
    remedy = "If this is your own server, set UPLOADS_PLATFORM=machine."
    unproven = judge(disk, elsewhere, {}, settings, found=copied)
    assert unproven == Verdict(None, Problem(UNKNOWN_DISK, remedy, "UPLOADS_PLATFORM"))
    proven = judge(disk, restarted, {}, settings, found=copied)
    assert proven.reason.message.endswith("The store has survived 5 restarts since 3 January 2026.")


@pytest.mark.parametrize(
    ("mountinfo", "directory"),
    [(CONTAINER, "/app/u"), (at("/data", root=EMPTY_DIR), "/data/u"), (at("/data", "tmpfs"), "/data/u")],
)
def test_a_marker_proves_nothing_in_an_image_a_pod_or_memory(mountinfo: str, directory: str) -> None:
    for platform in BY_ID:
        said = judge_folder(platform, mountinfo, directory, found=store(platform, 50))
        assert said.survives is False
        assert "The store has" not in said.reason.message


def test_a_build_leaves_the_verdict_open(mountinfo_file: Path) -> None:
    mountinfo_file.write_text(CONTAINER)
    building = Host(BY_ID["render"], ("x",), building=True)
    message = "Render is building or releasing the app, and no disk is mounted yet."
    for found in (None, store("render", 3)):
        said = judge(LocalBackend(Path("/var/data/uploads")), building, {}, settings_from(), found=found)
        assert said == Verdict(None, Problem(message))


# -- the remedy


@pytest.mark.parametrize(
    ("platform", "environ", "volume"),
    [
        ("render", {}, f" Alternatively, add a disk {FOLDER}"),
        ("koyeb", {}, f" Alternatively, add a volume {FOLDER}"),
        ("fly", {"RAILWAY_VOLUME_MOUNT_PATH": "/data"}, f" Alternatively, add a volume {FOLDER}"),
        ("railway", {"RAILWAY_VOLUME_MOUNT_PATH": ""}, f" Alternatively, add a volume {FOLDER}"),
        (
            "railway",
            {"RAILWAY_VOLUME_MOUNT_PATH": "/data"},
            " Alternatively, set UPLOADS_DIR=/data/uploads, which is on the volume.",
        ),
        (
            "railway",
            {"RAILWAY_VOLUME_MOUNT_PATH": "/a/b/"},
            " Alternatively, set UPLOADS_DIR=/a/b/uploads, which is on the volume.",
        ),
        ("azure", {}, " Alternatively, set UPLOADS_DIR=/home/uploads, which is on the volume."),
        ("heroku", {}, ""),
        ("vercel", {}, ""),
        ("cloud-run", {}, ""),
    ],
)
def test_each_platform_gets_a_remedy_that_works_there(platform: str, environ: dict[str, str], volume: str) -> None:
    assert judge_folder(platform, MICROVM, "/app/uploads", environ=environ).reason.remedy == S3 + volume


def test_an_existing_volume_is_named_in_the_remedy() -> None:
    environ = {"RAILWAY_VOLUME_MOUNT_PATH": "/data"}
    said = judge_folder("railway", at("/data"), "/app/uploads", environ=environ)
    assert said.survives is False
    assert "set UPLOADS_DIR=/data/uploads, which is on the volume" in said.reason.remedy


def test_the_remedy_names_the_variables_of_a_further_uploads() -> None:
    environ = {"RAILWAY_VOLUME_MOUNT_PATH": "/data"}
    documents = settings_from("documents")
    for platform in BY_ID:
        for given in (environ, {}):
            said = judge_folder(platform, CONTAINER, "/app/u", environ=given, settings=documents).reason
            assert "DOCUMENTS_S3_BUCKET" in said.remedy
            assert "DOCUMENTS_CLOUDINARY_URL" in said.remedy
            assert said.setting == "DOCUMENTS_DIR"
            assert "UPLOADS_" not in str(said)
    on_volume = judge_folder("railway", CONTAINER, "/app/u", environ=environ, settings=documents).reason
    assert "DOCUMENTS_DIR=/data/documents," in on_volume.remedy, "two Uploads must not share a folder"


def test_the_remedy_names_the_variables_that_the_user_set() -> None:
    settings = settings_from(USE_S3="false", S3_BUCKET_NAME="shop", MEDIA_ROOT="/app/media")
    said = judge_folder("render", MICROVM, "/app/media", settings=settings).reason
    assert said.setting == "MEDIA_ROOT"
    assert said.remedy == (
        "Unset USE_S3 and set S3_BUCKET_NAME and its credentials, or UPLOADS_CLOUDINARY_URL. "
        "Alternatively, add a disk and set MEDIA_ROOT to a folder below its mount path."
    )


def test_the_remedy_of_a_further_uploads_does_not_name_a_native_variable_that_the_first_one_uses() -> None:
    settings = settings_from("documents", S3_BUCKET_NAME="shop", DOCUMENTS_DIR="/app/documents")
    remedy = judge_folder("heroku", MICROVM, "/app/documents", settings=settings).reason.remedy
    assert remedy == "Set DOCUMENTS_S3_BUCKET and its credentials, or DOCUMENTS_CLOUDINARY_URL."


@pytest.mark.parametrize(
    ("uploads", "variables", "first"),
    [
        (
            "uploads",
            {"UPLOADS_BACKEND": "local"},
            "Unset UPLOADS_BACKEND and set UPLOADS_S3_BUCKET and its credentials",
        ),
        ("uploads", {"USE_S3": "0"}, "Unset USE_S3 and set UPLOADS_S3_BUCKET and its credentials"),
        (
            "documents",
            {"UPLOADS_BACKEND": "s3", "DOCUMENTS_BACKEND": "local"},
            "Unset DOCUMENTS_BACKEND and set DOCUMENTS_S3_BUCKET and its credentials",
        ),
    ],
)
def test_the_variable_that_chose_the_backend_must_be_unset_first(
    uploads: str, variables: dict[str, str], first: str
) -> None:
    said = judge_folder("heroku", MICROVM, "/app/u", settings=settings_from(uploads, **variables))
    assert said.reason.remedy.startswith(f"{first}, or ")


@pytest.mark.parametrize("mounted_at", ["/a: b", 'a "b"', "/a\nb", "/{x}", "/it's"])
def test_a_mount_path_with_odd_characters_survives_unaltered(mounted_at: str) -> None:
    said = judge_folder("railway", MICROVM, "/app/u", environ={"RAILWAY_VOLUME_MOUNT_PATH": mounted_at}).reason
    assert f" set UPLOADS_DIR={mounted_at}/uploads, which" in said.remedy
    assert said.message == wiped("Railway")
    assert said.as_json()["remedy"] == said.remedy
    assert "\n" not in str(said)


# -- other backends


def test_files_in_a_service_survive_on_every_platform(mountinfo_file: Path) -> None:
    mountinfo_file.write_text(CONTAINER)
    services: list[Backend] = [
        S3Backend(bucket="b", access_key_id="k", secret_access_key="s"),
        CloudinaryBackend(cloud_name="c", api_key="k", api_secret="s"),
        ImageKitBackend(private_key="k", url_endpoint="https://ik.io/c"),
    ]
    for backend in services:
        for platform in BY_ID:
            said = judge(backend, host(platform), {}, settings_from())
            assert said == yes(f"Files are kept in {backend.name}, not on the disk of the app.")


def test_files_in_memory_are_lost_on_every_machine() -> None:
    settings = settings_from("documents", DOCUMENTS_BACKEND="memory")
    said = judge(MemoryBackend(), host("machine"), {}, settings, found=store("machine", 5))
    assert said == Verdict(
        False,
        Problem(
            "The backend memory keeps files only until the process ends.",
            "Unset DOCUMENTS_BACKEND and set DOCUMENTS_S3_BUCKET and its credentials, or DOCUMENTS_CLOUDINARY_URL.",
            "DOCUMENTS_BACKEND",
        ),
    )


class Foreign(MemoryBackend):
    """A backend of another package that declares nothing about persistence."""

    name = "foreign"
    description = Description()


class ForeignDisk(Foreign):
    """A backend of another package that keeps its files on this machine."""

    def filesystem_path(self, key: str) -> Path:
        return Path("/app/foreign") / key


class ForeignService(ForeignDisk):
    """A backend of another package whose files persist, although it has a folder on this machine."""

    description = Description(persists=True)


class ForeignCache(Foreign):
    """A backend of another package whose files end with the process, and which one of its settings chooses."""

    description = Description(
        persists=False, settings=(Setting("foreign_size", native=("CACHE_SIZE",)),), implied_by=("foreign_size",)
    )


def test_the_disk_of_a_foreign_backend_is_judged_like_ours(mountinfo_file: Path) -> None:
    mountinfo_file.write_text(CONTAINER)
    assert ForeignDisk().disk_folder() == Path("/app/foreign")
    lost = judge(ForeignDisk(), host("render"), {}, settings_from(UPLOADS_BACKEND=f"{__name__}:ForeignDisk"))
    assert lost.survives is False
    assert lost.reason.remedy == (
        "Unset UPLOADS_BACKEND and set UPLOADS_S3_BUCKET and its credentials, or UPLOADS_CLOUDINARY_URL. "
        "Alternatively, add a disk and keep the folder of the backend on it."
    )
    mountinfo_file.write_text(at("/app/foreign"))
    assert judge(ForeignDisk(), host("render"), {}, settings_from()).survives is True


def test_a_foreign_backend_that_declares_persistence_is_safe_everywhere(mountinfo_file: Path) -> None:
    mountinfo_file.write_text(CONTAINER)
    for platform in BY_ID:
        said = judge(ForeignService(), host(platform), {}, settings_from())
        assert said == yes("Files are kept in foreign, not on the disk of the app.")


def test_a_foreign_backend_that_ends_with_the_process_is_lost_and_what_chose_it_must_be_unset() -> None:
    settings = Settings(sources={"foreign_size": "CACHE_SIZE"})
    said = judge(ForeignCache(), host("machine"), {}, settings, found=store("machine", 5))
    assert said.survives is False
    assert said.reason.message == "The backend foreign keeps files only until the process ends."
    assert said.reason.remedy.startswith("Unset CACHE_SIZE and set UPLOADS_S3_BUCKET ")


def test_a_foreign_backend_without_a_folder_is_unknown_until_a_marker_proves_that_it_persists() -> None:
    settings = settings_from()
    message = "The backend foreign does not declare whether it keeps files permanently."
    said = judge(Foreign(), host("render"), {}, settings)
    assert said == Verdict(None, Problem(message, "Set persists in the description of the backend's class."))
    proven = judge(Foreign(), host("render"), {}, settings, found=store("render", 2))
    assert proven == yes("The store has survived 2 restarts since 3 January 2026.")


class ForeignFlat(Foreign):
    """A backend of another package that derives its own file names from keys."""

    def filesystem_path(self, key: str) -> Path:
        return Path("/app/flat") / key.replace("/", "_")


def test_the_folder_of_a_backend_contains_all_its_keys(tmp_path: Path) -> None:
    assert LocalBackend(tmp_path).disk_folder() == tmp_path
    assert ForeignFlat().disk_folder() == Path("/app/flat")
    assert MemoryBackend().disk_folder() is None


def test_a_backend_that_keeps_all_files_in_one_is_judged_by_its_folder(tmp_path: Path, mountinfo_file: Path) -> None:
    class OneFile(MemoryBackend):
        description = Description()

        def disk_folder(self) -> Path:
            return tmp_path

    mountinfo_file.write_text(RENDER)
    found = judge(OneFile(), Host(BY_ID["render"], ("one",)), {}, Settings())
    assert (found.survives, found.reason.message) == (False, wiped("Render"))


def test_judging_creates_nothing(tmp_path: Path, mountinfo_file: Path) -> None:
    mountinfo_file.write_text(SERVER)
    before = sorted(tmp_path.rglob("*"))
    judge(LocalBackend(tmp_path / "a" / "b"), host("machine"), {}, settings_from(), found=store("machine", 1))
    assert sorted(tmp_path.rglob("*")) == before


# -- at start


@pytest.fixture
def start(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, mountinfo_file: Path) -> Start:
    """Return a function that makes an app on a platform with this mount table."""

    def start(platform: str, mountinfo: str, **settings: object) -> Flask:
        for name in ("UPLOADS_PLATFORM", *(name for environ in RUNNING.values() for name in environ)):
            monkeypatch.delenv(name, raising=False)
        for name, value in RUNNING.get(platform, {"UPLOADS_PLATFORM": platform}).items():
            monkeypatch.setenv(name, value)
        mountinfo_file.write_text(mountinfo)
        return make_app(**settings)

    return start


def logged(caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    """Return the only record of the log."""
    (record,) = caplog.records
    return record


def test_the_start_logs_in_one_line_that_files_survive(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    start("render", RENDER, UPLOADS_DIR="/var/data/uploads")
    assert logged(caplog).levelno == logging.INFO
    assert logged(caplog).getMessage() == (
        "uploads: files are kept in local, /var/data/uploads. The folder is on a separate disk (ext4)."
    )


def test_the_start_warns_in_one_line_of_a_disk_that_will_be_wiped(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    start("render", RENDER, UPLOADS_DIR="/no-such-folder/uploads")
    assert logged(caplog).levelno == logging.WARNING
    assert logged(caplog).getMessage() == (
        "uploads: UPLOADS WILL BE LOST. Render wipes the app's disk at every deploy and restart. "
        f"{S3} Alternatively, add a disk {FOLDER} Files are kept in local, /no-such-folder/uploads."
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"UPLOADS_BACKEND": "memory"},
        {"UPLOADS_S3_BUCKET": "b", "UPLOADS_S3_ACCESS_KEY_ID": "k", "UPLOADS_S3_SECRET_ACCESS_KEY": "s"},
    ],
)
def test_the_start_does_not_warn_of_memory_or_a_service(
    settings: dict[str, str], start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    start("render", RENDER, **settings)
    assert logged(caplog).levelno == logging.INFO


def refused_start(start: Start, *arguments: str, **settings: object) -> tuple[Problem, StartupRefused]:
    """Return the only problem that keeps an app from starting, and the error that holds it."""
    with pytest.raises(ConfigError) as caught:
        start(*arguments, **settings)
    assert isinstance(caught.value, StartupRefused)
    (problem,) = caught.value.problems
    return problem, caught.value


@pytest.mark.parametrize("platform", [one.id for one in PLATFORMS if one.wiped])
def test_an_app_that_requires_persistence_does_not_start_on_a_disk_that_is_wiped(platform: str, start: Start) -> None:
    settings = {"UPLOADS_DIR": "/no-such-folder/uploads", "UPLOADS_REQUIRE_PERSISTENT": "true"}
    problem, error = refused_start(start, platform, CONTAINER, **settings)
    assert problem.message.startswith("UPLOADS_REQUIRE_PERSISTENT is set, but ")
    assert problem.remedy.startswith(S3)
    assert isinstance(error.startup.backend, LocalBackend)


def test_an_app_that_requires_persistence_does_not_start_in_memory(start: Start) -> None:
    settings = {"UPLOADS_BACKEND": "memory", "UPLOADS_REQUIRE_PERSISTENT": True}
    problem, _ = refused_start(start, "machine", SERVER, **settings)
    assert problem.message.startswith("UPLOADS_REQUIRE_PERSISTENT is set, but ")
    assert problem.message.endswith("The backend memory keeps files only until the process ends.")


def test_an_app_that_requires_persistence_starts_on_a_disk_or_during_a_build(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    apps = [
        start("render", RENDER, UPLOADS_DIR="/var/data/uploads", UPLOADS_REQUIRE_PERSISTENT=True),
        start("machine", SERVER, UPLOADS_DIR="/no-such-folder/uploads", UPLOADS_REQUIRE_PERSISTENT=True),
    ]
    monkeypatch.setitem(RUNNING, "render", {"RENDER": "true", "RENDER_SERVICE_ID": "srv-1"})
    apps.append(start("render", CONTAINER, UPLOADS_DIR="/var/data/uploads", UPLOADS_REQUIRE_PERSISTENT=True))
    assert all("flask_persistent_uploads" in app.extensions for app in apps)


def test_an_app_that_requires_persistence_starts_if_a_marker_proves_it(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = LocalBackend(tmp_path / "disk")
    for deploy in ("v1", "v2"):
        environ = {**RUNNING["fly"], "FLY_MACHINE_VERSION": f"before-{deploy}"}
        marker.sign_in(disk, detect(environ))
    start("fly", FLY, UPLOADS_DIR=str(disk.directory), UPLOADS_REQUIRE_PERSISTENT=True)
    message = logged(caplog).getMessage()
    assert "The folder is on the disk of Fly.io (ext4). The store has survived 2 restarts since" in message


def test_the_error_holds_the_settings_without_their_secrets(start: Start) -> None:
    secrets = {
        "UPLOADS_S3_BUCKET": "shop",
        "UPLOADS_S3_ACCESS_KEY_ID": "AKIA1",
        "UPLOADS_S3_SECRET_ACCESS_KEY": "hunter2-s3",
        "UPLOADS_S3_SESSION_TOKEN": "hunter2-token",
        "UPLOADS_CLOUDINARY_URL": "cloudinary://1:hunter2-cloud@shop",
        "UPLOADS_IMAGEKIT_PRIVATE_KEY": "hunter2-ik",
        "UPLOADS_GCS_PASSWORD": "hunter2-other",
        "UPLOADS_S3_ENDPOINT_URL": "https://a:hunter2-url@s3.example",
    }
    with pytest.raises(StartupRefused) as caught:
        start("render", RENDER, **secrets)
    startup = caught.value.startup
    settings = startup.reading.settings
    assert (settings.uploads, startup.backend, settings["s3_bucket"]) == ("uploads", None, "shop")
    for text in (str(caught.value), repr(caught.value), str(startup), repr(startup), f"{settings}"):
        assert "hunter2" not in text


def test_a_further_uploads_has_its_own_line_and_its_own_remedy(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    start(
        "render", RENDER, UPLOADS_DIR="/var/data/uploads", uploads=Uploads(name="documents"), DOCUMENTS_DIR="/srv/d/d"
    )
    assert logged(caplog).getMessage().startswith("documents: UPLOADS WILL BE LOST. ")
    assert "DOCUMENTS_S3_BUCKET" in logged(caplog).getMessage()


class BrokenDisk(MemoryBackend):
    """A backend with a folder, whose disk fails with an error that it does not translate."""

    name = "broken"
    description = Description()

    def filesystem_path(self, key: str) -> Path:
        return Path("/srv/broken") / key

    def stat(self, key: str) -> Stat | None:
        raise RuntimeError("broken")

    def open(self, key: str) -> IO[bytes]:
        raise RuntimeError("broken")


def test_an_unexpected_error_of_a_disk_does_not_keep_the_app_from_starting(start: Start) -> None:
    app = start("render", RENDER, UPLOADS_BACKEND=f"{__name__}:BrokenDisk")
    assert "flask_persistent_uploads" in app.extensions
