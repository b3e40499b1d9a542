"""Whether uploads will survive: told from the platform, the mount and the marker, with the remedy."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

import pytest
from flask import Flask

from flask_persistent_uploads import ConfigError, Uploads
from flask_persistent_uploads.backends.base import Backend
from flask_persistent_uploads.backends.cloudinary import CloudinaryBackend
from flask_persistent_uploads.backends.imagekit import ImageKitBackend
from flask_persistent_uploads.backends.local import LocalBackend
from flask_persistent_uploads.backends.memory import MemoryBackend
from flask_persistent_uploads.backends.s3 import S3Backend
from flask_persistent_uploads.extension import Attempt
from flask_persistent_uploads.operations import marker, mounts, verdict
from flask_persistent_uploads.operations.marker import Marker, Seen
from flask_persistent_uploads.operations.platform import PLATFORMS, Host, detect
from flask_persistent_uploads.operations.verdict import Verdict, judge
from flask_persistent_uploads.stored import Stat

from ..conftest import MakeApp
from .test_mounts import CONTAINER, EMPTY_DIR, FLY, GVISOR, HEX, KOYEB, MICROVM, RENDER, SERVER, VOLUMES, at
from .test_platform import BY_ID, RUNNING

Start = Callable[..., Flask]
SINCE = datetime(2026, 1, 3, 12, tzinfo=timezone.utc)
S3 = "set UPLOADS_S3_BUCKET and its credentials, or UPLOADS_CLOUDINARY_URL"
FOLDER = "and set UPLOADS_DIR to a folder below its mount path (it is on no disk of its own now)"


def host(platform: str, name: str = "here") -> Host:
    return Host(BY_ID[platform], (name,))


def store(platform: str, restarts: int) -> Marker:
    """A marker that ``restarts`` instances of a platform have signed, and this one."""
    names = [Host(BY_ID[platform], (f"old-{number}",)).id for number in range(restarts)]
    records = {name: Seen(host(platform).kind, SINCE) for name in [*names, host(platform).id]}
    return Marker("20260103T120000Z-0a1b2c3d", SINCE, records)


@pytest.fixture(autouse=True)
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the system seems to have mounted; the folders of these tests do not exist on the machine that runs them."""
    path = tmp_path / "mountinfo"
    monkeypatch.setattr(mounts, "MOUNTINFO", path)
    # The nearest folder that exists is the machine's own root, whose number says nothing of the mounts shown.
    monkeypatch.setattr(mounts, "_nearest", lambda directory: (directory, None))
    return path


def told(
    platform: str,
    mountinfo: str,
    directory: str,
    shown: Path,
    *,
    found: Marker | None = None,
    environ: Mapping[str, str] | None = None,
    variables: str = "UPLOADS_",
) -> Verdict:
    shown.write_text(mountinfo)
    backend = LocalBackend(Path(directory))
    return judge(backend, host(platform), environ or {}, variables=variables, found=found)


LAYER = "The folder lies in the image's own layer, which ends with the container"


@pytest.mark.parametrize(
    ("platform", "mountinfo", "directory", "reason", "remedy"),
    [
        pytest.param(
            "docker",
            CONTAINER,
            "/srv/x/uploads",
            LAYER,
            f"{S3}, or mount a named volume {FOLDER}",
            id="Docker: overlay",
        ),
        pytest.param(
            "kubernetes",
            CONTAINER,
            "/srv/x/uploads",
            "Kubernetes wipes this disk",
            f"{S3}, or mount a persistent volume {FOLDER}",
            id="Kubernetes: overlay",
        ),
        pytest.param(
            "kubernetes",
            at("/data", root=EMPTY_DIR),
            "/data/uploads",
            "The folder lies on an emptyDir volume, which ends with its pod",
            f"{S3}, or mount a persistent volume {FOLDER}",
            id="Kubernetes: emptyDir",
        ),
        pytest.param(
            "docker",
            at("/data", "tmpfs"),
            "/data/uploads",
            "The folder lies in memory, which ends with the machine",
            f"{S3}, or mount a named volume {FOLDER}",
            id="Docker: tmpfs",
        ),
        pytest.param(
            "render",
            RENDER,
            "/srv/x/uploads",
            "Render wipes this disk at every deploy and restart",
            f"{S3}, or add a disk {FOLDER}",
            id="Render: beside the disk",
        ),
        pytest.param(
            "fly", FLY, "/app/uploads", "Fly.io wipes this disk", f"{S3}, or add a volume {FOLDER}", id="Fly: ext4 root"
        ),
        pytest.param(
            "koyeb", KOYEB, "/app/uploads", "Koyeb wipes this disk", f"{S3}, or add a volume {FOLDER}", id="Koyeb: root"
        ),
        pytest.param("heroku", CONTAINER, "/app/uploads", "Heroku wipes this disk", S3, id="Heroku"),
        pytest.param("heroku", at("/app"), "/app/uploads", "Heroku wipes this disk", S3, id="Heroku: a mount apart"),
        pytest.param("lambda", at("/tmp"), "/tmp/uploads", "AWS Lambda wipes this disk", S3, id="Lambda: /tmp"),
        pytest.param("cloud-run", GVISOR, "/app/uploads", "Cloud Run wipes this disk", S3, id="Cloud Run: gVisor root"),
        pytest.param("cloud-run", CONTAINER, "/app/uploads", "Cloud Run wipes this disk", S3, id="Cloud Run: overlay"),
        pytest.param("app-runner", CONTAINER, "/app/uploads", LAYER, S3, id="App Runner"),
        pytest.param("digitalocean", MICROVM, "/app/x", "DigitalOcean App Platform wipes", S3, id="DigitalOcean"),
        pytest.param("vercel", at("/tmp"), "/tmp/uploads", "Vercel wipes this disk", S3, id="Vercel: /tmp"),
        pytest.param("azure", CONTAINER, "/app/uploads", "Azure App Service wipes this disk", None, id="Azure: root"),
        pytest.param("fly", "", "/app/uploads", "Fly.io wipes this disk", None, id="Fly: mounts unknown"),
        pytest.param(
            "machine",
            SERVER,
            "/run/uploads",
            "The folder lies in memory",
            f"set UPLOADS_DIR to a folder on a disk, or {S3.removeprefix('set ')}",
            id="machine: /run",
        ),
    ],
)
def test_a_disk_that_will_be_wiped_is_told_with_its_remedy(
    platform: str, mountinfo: str, directory: str, reason: str, remedy: str | None, shown: Path
) -> None:
    said = told(platform, mountinfo, directory, shown)
    assert said.survives is False
    assert said.reason.startswith(reason)
    assert said.remedy
    assert remedy in {said.remedy, None}


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
def test_a_disk_of_its_own_survives(
    platform: str, mountinfo: str, directory: str, filesystem: str, shown: Path
) -> None:
    expected = Verdict(survives=True, reason=f"they lie on a disk of their own ({filesystem})")
    assert told(platform, mountinfo, directory, shown) == expected


def test_the_disk_of_a_machine_survives_if_somebody_says_that_it_is_one(shown: Path) -> None:
    shown.write_text(SERVER)
    stated = Host(BY_ID["machine"], ("boot",), stated=True)
    expected = Verdict(survives=True, reason="they lie on the disk of this machine (ext4)")
    assert judge(LocalBackend(Path("/srv/app/uploads")), stated, {}) == expected
    assert detect({}, "machine").stated
    assert not detect({}).stated


def test_what_looks_like_a_machine_may_be_a_host_that_is_not_known(shown: Path) -> None:
    expected = Verdict(
        survives=None,
        reason="The folder lies on the disk of this machine (ext4), and nothing tells whether that stays",
        remedy="set DOCUMENTS_PLATFORM=machine if this is a server of yours",
    )
    assert told("machine", SERVER, "/srv/uploads", shown, variables="DOCUMENTS_") == expected
    nothing = told("machine", SERVER, "/srv/uploads", shown, found=store("machine", 0))
    assert nothing.survives is None, "its own record proves nothing"
    proven = told("machine", SERVER, "/srv/uploads", shown, found=store("machine", 2))
    assert proven == Verdict(
        survives=True,
        reason="they lie on the disk of this machine (ext4), proven: survived 2 restarts since 3 January 2026",
    )


def test_a_disk_of_its_own_on_an_unknown_machine_survives(shown: Path) -> None:
    expected = Verdict(survives=True, reason="they lie on a disk of their own (ext4)")
    assert told("machine", at("/data"), "/data/uploads", shown) == expected


def test_an_anonymous_volume_is_neither_good_nor_lost(shown: Path) -> None:
    for found in (None, store("docker", 3)):
        said = told("docker", at("/data", root=f"{VOLUMES}/{HEX}/_data"), "/data/uploads", shown, found=found)
        assert said.survives is None
        assert "anonymous volume" in said.reason
        assert said.remedy is not None
        assert said.remedy.startswith("give the volume a name, or set UPLOADS_S3_BUCKET")


def test_where_nothing_tells_it_says_so(shown: Path) -> None:
    assert told("machine", "", "/srv/uploads", shown).survives is None


# -- the marker


def test_a_marker_of_earlier_deploys_proves_what_the_mount_lets_one_hope(shown: Path) -> None:
    said = told("render", RENDER, "/var/data/uploads", shown, found=store("render", 3))
    expected = "they lie on a disk of their own (ext4), proven: survived 3 restarts since 3 January 2026"
    assert said == Verdict(survives=True, reason=expected)
    assert told("render", RENDER, "/var/data/u", shown, found=store("render", 1)).reason.endswith(
        "proven: survived 1 restart since 3 January 2026"
    )
    assert "proven" not in told("render", RENDER, "/var/data/u", shown, found=store("render", 0)).reason


def test_proof_beats_inference_where_a_disk_looks_like_the_root(shown: Path) -> None:
    for platform, mountinfo in (("fly", FLY), ("koyeb", KOYEB), ("heroku", at("/app")), ("railway", "")):
        said = told(platform, mountinfo, "/app/uploads", shown, found=store(platform, 2))
        assert said.survives is not False, platform
        assert told(platform, mountinfo, "/app/uploads", shown, found=store(platform, 0)).survives is False


def test_the_records_of_another_platform_are_no_proof(shown: Path) -> None:
    baked = store("machine", 40)
    for platform in ("render", "fly", "koyeb", "heroku", "docker", "kubernetes"):
        assert told(platform, MICROVM, "/app/uploads", shown, found=baked).survives is False, platform
    assert "proven" not in told("render", RENDER, "/var/data/u", shown, found=baked).reason


def test_a_marker_baked_into_an_image_is_no_proof_even_if_its_maker_started_very_often(shown: Path) -> None:
    baked = store("machine", 0)
    for number in range(250):
        baked = baked.with_record(host("machine", f"boot-{number}"))
    assert told("fly", FLY, "/app/uploads", shown, found=baked).survives is False


def test_a_marker_that_another_machine_has_signed_is_no_proof_and_its_own_is(shown: Path) -> None:
    """An image that was built on a server may run on a host that is not known, which looks like a server as well."""
    shown.write_text(MICROVM)
    laptop = [Host(BY_ID["machine"], (f"boot-{number}",), machine="1a2b") for number in range(5)]
    elsewhere, restarted = (Host(BY_ID["machine"], ("boot-9",), machine=machine) for machine in ("3c4d", "1a2b"))
    baked = store("docker", 3)
    for one in laptop:
        baked = baked.with_record(one)
    disk = LocalBackend(Path("/app/uploads"))
    assert judge(disk, elsewhere, {}, found=baked) == Verdict(
        survives=None,
        reason="The folder lies on the disk of this machine (ext4), and nothing tells whether that stays",
        remedy="set UPLOADS_PLATFORM=machine if this is a server of yours",
    )
    assert judge(disk, restarted, {}, found=baked).reason.endswith("proven: survived 5 restarts since 3 January 2026")


@pytest.mark.parametrize(
    ("mountinfo", "directory"),
    [(CONTAINER, "/app/u"), (at("/data", root=EMPTY_DIR), "/data/u"), (at("/data", "tmpfs"), "/data/u")],
)
def test_no_marker_is_proof_on_what_comes_with_the_image_or_goes_with_the_pod(
    mountinfo: str, directory: str, shown: Path
) -> None:
    for platform in BY_ID:
        said = told(platform, mountinfo, directory, shown, found=store(platform, 50))
        assert said.survives is False
        assert "proven" not in said.reason


def test_while_the_app_is_built_nothing_is_said_of_its_disk(shown: Path) -> None:
    shown.write_text(CONTAINER)
    building = Host(BY_ID["render"], ("x",), building=True)
    for found in (None, store("render", 3)):
        said = judge(LocalBackend(Path("/var/data/uploads")), building, {}, found=found)
        assert said == Verdict(survives=None, reason="Render is building or releasing, where no disk is mounted")


# -- the remedy


def test_a_volume_that_is_there_already_is_named_in_the_remedy(shown: Path) -> None:
    environ = {"RAILWAY_VOLUME_MOUNT_PATH": "/data"}
    said = told("railway", at("/data"), "/app/uploads", shown, environ=environ)
    assert said.survives is False
    assert said.remedy == f"{S3}, or set UPLOADS_DIR=/data/uploads, on the volume"
    assert told("railway", CONTAINER, "/app/u", shown).remedy == f"{S3}, or add a volume {FOLDER}"


@pytest.mark.parametrize(
    ("platform", "environ", "volume"),
    [
        ("render", {}, f", or add a disk {FOLDER}"),
        ("koyeb", {}, f", or add a volume {FOLDER}"),
        ("fly", {"RAILWAY_VOLUME_MOUNT_PATH": "/data"}, f", or add a volume {FOLDER}"),
        ("railway", {"RAILWAY_VOLUME_MOUNT_PATH": ""}, f", or add a volume {FOLDER}"),
        ("railway", {"RAILWAY_VOLUME_MOUNT_PATH": "/data"}, ", or set UPLOADS_DIR=/data/uploads, on the volume"),
        ("railway", {"RAILWAY_VOLUME_MOUNT_PATH": "/a/b/"}, ", or set UPLOADS_DIR=/a/b/uploads, on the volume"),
        ("azure", {}, ", or set UPLOADS_DIR=/home/uploads, on the volume"),
        ("heroku", {}, ""),
        ("vercel", {}, ""),
        ("cloud-run", {}, ""),
    ],
)
def test_each_platform_has_the_remedy_that_can_be_followed_there(
    platform: str, environ: dict[str, str], volume: str, shown: Path
) -> None:
    assert told(platform, MICROVM, "/app/uploads", shown, environ=environ).remedy == S3 + volume


def test_the_remedy_names_the_variables_of_this_uploads(shown: Path) -> None:
    environ = {"RAILWAY_VOLUME_MOUNT_PATH": "/data"}
    for platform in BY_ID:
        for given in (environ, {}):
            said = told(platform, CONTAINER, "/app/u", shown, environ=given, variables="DOCUMENTS_")
            assert said.remedy is not None
            assert "DOCUMENTS_S3_BUCKET" in said.remedy
            assert "UPLOADS_" not in said.remedy
    memory = judge(MemoryBackend(), host("machine"), {}, variables="DOCUMENTS_")
    assert memory.reason.startswith("DOCUMENTS_BACKEND is memory")
    assert "DOCUMENTS_S3_BUCKET" in str(memory.remedy)


# -- other backends


def test_what_is_kept_in_a_service_survives_wherever_the_app_runs(shown: Path) -> None:
    shown.write_text(CONTAINER)
    services: list[Backend] = [
        S3Backend(bucket="b", access_key_id="k", secret_access_key="s"),
        CloudinaryBackend(cloud_name="c", api_key="k", api_secret="s"),
        ImageKitBackend(private_key="k", url_endpoint="https://ik.io/c"),
    ]
    for backend in services:
        for platform in BY_ID:
            said = judge(backend, host(platform), {})
            reason = f"they are kept in {backend.name}, not on the disk of the app"
            assert said == Verdict(survives=True, reason=reason)


def test_memory_ends_with_the_process_whatever_the_machine() -> None:
    said = judge(MemoryBackend(), host("machine"), {}, found=store("machine", 5))
    assert said == Verdict(survives=False, reason="UPLOADS_BACKEND is memory, which ends with the process", remedy=S3)


class Foreign(MemoryBackend):
    name = "foreign"


class ForeignDisk(Foreign):
    """Somebody else's backend that keeps its files on this machine."""

    def filesystem_path(self, key: str) -> Path:
        return Path("/app/foreign") / key


def test_of_somebody_elses_backend_nothing_is_known_unless_it_names_its_folder(shown: Path) -> None:
    shown.write_text(CONTAINER)
    unknown = Verdict(survives=None, reason="Nothing is known of the backend foreign")
    assert judge(Foreign(), host("render"), {}) == unknown
    assert verdict.folder_of(ForeignDisk()) == Path("/app/foreign")
    assert judge(ForeignDisk(), host("render"), {}).survives is False
    proven = judge(Foreign(), host("render"), {}, found=store("render", 2))
    assert proven == Verdict(survives=True, reason="proven: survived 2 restarts since 3 January 2026")
    shown.write_text(at("/app/foreign"))
    assert judge(ForeignDisk(), host("render"), {}).survives is True


class ForeignFlat(Foreign):
    """One that makes a name of its own of each key."""

    def filesystem_path(self, key: str) -> Path:
        return Path("/app/flat") / key.replace("/", "_")


def test_the_folder_of_a_backend_is_the_one_above_all_keys(tmp_path: Path) -> None:
    assert verdict.folder_of(LocalBackend(tmp_path)) == tmp_path
    assert verdict.folder_of(ForeignFlat()) == Path("/app/flat")
    assert verdict.folder_of(MemoryBackend()) is None


def test_judging_makes_nothing(tmp_path: Path, shown: Path) -> None:
    shown.write_text(SERVER)
    before = sorted(tmp_path.rglob("*"))
    judge(LocalBackend(tmp_path / "a" / "b"), host("machine"), {}, found=store("machine", 1))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("number", "text"), [(0, "0 restarts"), (1, "1 restart"), (2, "2 restarts")])
def test_one_is_counted_as_one(number: int, text: str) -> None:
    assert verdict.counted(number, "restart") == text


# -- at start


@pytest.fixture
def start(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, shown: Path) -> Start:
    def start(platform: str, mountinfo: str, **settings: object) -> Flask:
        for name in ("UPLOADS_PLATFORM", *(name for environ in RUNNING.values() for name in environ)):
            monkeypatch.delenv(name, raising=False)
        for name, value in RUNNING.get(platform, {"UPLOADS_PLATFORM": platform}).items():
            monkeypatch.setenv(name, value)
        shown.write_text(mountinfo)
        return make_app(**settings)

    return start


def started(caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    (record,) = caplog.records
    return record


def test_the_start_says_in_one_line_where_files_are_kept_and_that_they_stay(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    start("render", RENDER, UPLOADS_DIR="/var/data/uploads")
    assert started(caplog).levelno == logging.INFO
    assert started(caplog).getMessage() == (
        "uploads: files are kept in local, /var/data/uploads. They lie on a disk of their own (ext4)."
    )


def test_the_start_warns_in_one_line_of_a_disk_that_will_be_wiped(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    start("render", RENDER, UPLOADS_DIR="/no-such-folder/uploads")
    assert started(caplog).levelno == logging.WARNING
    assert started(caplog).getMessage() == (
        "uploads: UPLOADS WILL BE LOST. Render wipes this disk at every deploy and restart: "
        f"{S3}, or add a disk {FOLDER} (local, /no-such-folder/uploads)."
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"UPLOADS_BACKEND": "memory"},
        {"UPLOADS_S3_BUCKET": "b", "UPLOADS_S3_ACCESS_KEY_ID": "k", "UPLOADS_S3_SECRET_ACCESS_KEY": "s"},
    ],
)
def test_what_was_chosen_knowingly_is_not_warned_of(
    settings: dict[str, str], start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    start("render", RENDER, **settings)
    assert started(caplog).levelno == logging.INFO


@pytest.mark.parametrize("platform", [one.id for one in PLATFORMS if one.wiped])
def test_an_app_that_insists_on_persistence_does_not_start_where_its_disk_is_wiped(platform: str, start: Start) -> None:
    with pytest.raises(ConfigError) as caught:
        start(platform, CONTAINER, UPLOADS_DIR="/no-such-folder/uploads", UPLOADS_REQUIRE_PERSISTENT="true")
    (problem,) = caught.value.problems
    assert problem.startswith("UPLOADS_REQUIRE_PERSISTENT is set, but ")
    assert S3 in problem
    attempt = caught.value.attempt
    assert isinstance(attempt, Attempt)
    assert isinstance(attempt.backend, LocalBackend)


def test_an_app_that_insists_on_persistence_does_not_start_in_memory(start: Start) -> None:
    with pytest.raises(ConfigError, match="UPLOADS_REQUIRE_PERSISTENT is set, but UPLOADS_BACKEND is memory"):
        start("machine", SERVER, UPLOADS_BACKEND="memory", UPLOADS_REQUIRE_PERSISTENT=True)


def test_an_app_that_insists_on_persistence_starts_on_a_disk_or_while_it_is_built(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    apps = [
        start("render", RENDER, UPLOADS_DIR="/var/data/uploads", UPLOADS_REQUIRE_PERSISTENT=True),
        start("machine", SERVER, UPLOADS_DIR="/no-such-folder/uploads", UPLOADS_REQUIRE_PERSISTENT=True),
    ]
    monkeypatch.setitem(RUNNING, "render", {"RENDER": "true", "RENDER_SERVICE_ID": "srv-1"})
    apps.append(start("render", CONTAINER, UPLOADS_DIR="/var/data/uploads", UPLOADS_REQUIRE_PERSISTENT=True))
    assert all("flask_persistent_uploads" in app.extensions for app in apps)


def test_an_app_that_insists_on_persistence_starts_where_a_marker_proves_it(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = LocalBackend(tmp_path / "disk")
    for deploy in ("v1", "v2"):
        environ = {**RUNNING["fly"], "FLY_MACHINE_VERSION": f"before-{deploy}"}
        marker.sign_in(disk, detect(environ))
    start("fly", FLY, UPLOADS_DIR=str(disk.directory), UPLOADS_REQUIRE_PERSISTENT=True)
    message = started(caplog).getMessage()
    assert "They lie on the disk of Fly.io (ext4), proven: survived 2 restarts since" in message


def test_what_was_set_up_is_at_the_error_and_shows_no_secret(start: Start) -> None:
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
    with pytest.raises(ConfigError) as caught:
        start("render", RENDER, **secrets)
    attempt = caught.value.attempt
    assert isinstance(attempt, Attempt)
    assert (attempt.name, attempt.backend, attempt.settings.s3_bucket) == ("uploads", None, "shop")
    assert attempt.directory.name == "uploads"
    for shown in (str(caught.value), repr(caught.value), str(attempt), repr(attempt), f"{attempt.settings}"):
        assert "hunter2" not in shown


def test_another_uploads_has_its_own_line_and_its_own_remedy(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    start(
        "render", RENDER, UPLOADS_DIR="/var/data/uploads", uploads=Uploads(name="documents"), DOCUMENTS_DIR="/srv/d/d"
    )
    assert started(caplog).getMessage().startswith("documents: UPLOADS WILL BE LOST. ")
    assert "DOCUMENTS_S3_BUCKET" in started(caplog).getMessage()


class Sealed(MemoryBackend):
    """A disk of somebody else's that nobody can use now."""

    name = "sealed"

    def filesystem_path(self, key: str) -> Path:
        return Path("/srv/sealed") / key

    def stat(self, key: str) -> Stat | None:
        raise RuntimeError("sealed")

    def open(self, key: str) -> IO[bytes]:
        raise RuntimeError("sealed")


def test_a_disk_that_fails_in_its_own_way_does_not_keep_the_app_from_starting(start: Start) -> None:
    app = start("render", RENDER, UPLOADS_BACKEND=f"{__name__}:Sealed")
    assert "flask_persistent_uploads" in app.extensions
