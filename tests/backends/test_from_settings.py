"""Settings choose the backend and reach it, and an app that cannot work is refused with a remedy."""

from __future__ import annotations

import importlib.util
import logging
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from flask_persistent_uploads import ConfigError, Uploads, backends
from flask_persistent_uploads.backends.base import Backend
from flask_persistent_uploads.backends.cloudinary import CloudinaryBackend
from flask_persistent_uploads.backends.imagekit import ImageKitBackend
from flask_persistent_uploads.backends.local import LocalBackend
from flask_persistent_uploads.backends.memory import MemoryBackend
from flask_persistent_uploads.backends.s3 import S3Backend
from flask_persistent_uploads.backends.s3 import settings as s3_settings
from flask_persistent_uploads.parsers import Secret

from ..conftest import BUILTIN, MakeApp, state_of
from ..servers import ROOT, clean_environment

PASSWORD = "hunter2-pa55"
BUCKET = {"UPLOADS_S3_BUCKET": "photos"}
KEYS = {"UPLOADS_S3_ACCESS_KEY_ID": "AKIA1", "UPLOADS_S3_SECRET_ACCESS_KEY": PASSWORD}
NATIVE_KEYS = {"AWS_ACCESS_KEY_ID": "AKIA2", "AWS_SECRET_ACCESS_KEY": PASSWORD}


def chosen(environ: Mapping[str, str], uploads: str = "uploads", **app_config: object) -> str:
    return backends.choose(backends.read_settings(app_config, environ, uploads=uploads)).name


def build(app_config: Mapping[str, Any], uploads: str = "uploads") -> Backend:
    """Return the backend that ``init_app`` would use."""
    reading = backends.read_settings(app_config, {}, uploads=uploads)
    return backends.build(backends.choose(reading), reading.settings, environ={}, instance_path=Path("/instance"))


# -- the choice


@pytest.mark.parametrize(
    ("environ", "backend"),
    [
        ({}, "local"),
        ({"MEDIA_ROOT": "/data"}, "local"),
        ({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "c"}, "local"),
        (BUCKET, "s3"),
        ({"S3_BUCKET_NAME": "b"}, "s3"),
        ({"BUCKET_NAME": "b"}, "s3"),
        ({"CLOUDINARY_URL": "cloudinary://a"}, "cloudinary"),
        ({"CLOUDINARY_CLOUD_NAME": "a"}, "cloudinary"),
        ({"IMAGEKIT_PRIVATE_KEY": "a"}, "imagekit"),
        ({"IMAGEKIT_URL_ENDPOINT": "https://ik.imagekit.io/a"}, "imagekit"),
        ({**BUCKET, "UPLOADS_BACKEND": "local"}, "local"),
        ({**BUCKET, "CLOUDINARY_URL": "x", "UPLOADS_BACKEND": "s3"}, "s3"),
        ({**BUCKET, "UPLOADS_BACKEND": " Local "}, "local"),
        ({**BUCKET, "UPLOADS_BACKEND": "  "}, "s3"),
        ({"UPLOADS_S3_BUCKET": "  "}, "local"),
        ({"USE_S3": "true"}, "s3"),
        ({"USE_S3": "False", **BUCKET}, "local"),
        ({"USE_S3": "true", "UPLOADS_BACKEND": "memory"}, "memory"),
    ],
)
def test_the_variables_choose_the_backend(environ: dict[str, str], backend: str) -> None:
    assert chosen(environ) == backend
    assert chosen({}, **environ) == backend


@pytest.mark.parametrize(
    ("environ", "backend"),
    [
        ({"OLD_DIR": "/old", "S3_BUCKET_NAME": "b"}, "local"),
        ({"OLD_DIR": "/old", "USE_S3": "true", "S3_BUCKET_NAME": "b"}, "local"),
        ({"OLD_S3_BUCKET": "old", "CLOUDINARY_URL": "x"}, "s3"),
        ({"OLD_S3_BUCKET": "old", "USE_S3": "false"}, "s3"),
        ({"OLD_CLOUDINARY_URL": "x", "USE_S3": "true", "S3_BUCKET_NAME": "b"}, "cloudinary"),
        ({"OLD_BACKEND": "memory", "OLD_DIR": "/old", "S3_BUCKET_NAME": "b"}, "memory"),
        ({"USE_S3": "false", "S3_BUCKET_NAME": "b"}, "local"),
        ({"USE_S3": "true", "S3_BUCKET_NAME": "b"}, "s3"),
        ({"UPLOADS_DIR": "/new", "S3_BUCKET_NAME": "b"}, "s3"),
        ({"MEDIA_ROOT": "/new", "UPLOADS_S3_BUCKET": "b"}, "local"),
    ],
)
def test_names_of_its_own_win_over_the_native_names_that_a_further_uploads_shares(
    environ: dict[str, str], backend: str
) -> None:
    assert chosen(environ, "old") == backend
    assert chosen({}, "old", **environ) == backend


def test_half_a_native_account_is_a_problem_of_the_first_uploads_only(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CLOUDINARY_API_KEY", "CLOUDINARY_API_SECRET"):
        monkeypatch.setenv(name, "x")
    app = make_app(UPLOADS_CLOUDINARY_CLOUD_NAME="cloud")
    Uploads(app, name="documents")
    assert state_of(app, "documents").backend.name == "local"


@pytest.mark.parametrize(
    "settings",
    [
        {"UPLOADS_CLOUDINARY_PRIVATE": "true"},
        {"UPLOADS_IMAGEKIT_PRIVATE": "false"},
        {"IMAGEKIT_PUBLIC_KEY": "public_x"},
        {"IMAGE_KIT_BASE_URL": "https://api.imagekit.io"},
        {"CLOUDINARY_API_KEY": "1", "MEDIA_ROOT": "media"},
        {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "x"},  # hosts at Amazon set these
    ],
)
def test_a_setting_that_shows_no_account_does_not_stop_the_app(
    settings: dict[str, str], make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert state_of(make_app()).backend.name == "local"


@pytest.mark.parametrize("stray", ["CLOUDINARY_API_KEY", "UPLOADS_IMAGEKIT_PUBLIC_KEY", "UPLOADS_S3_REGION"])
def test_half_an_account_stops_the_app_until_a_backend_is_chosen(
    stray: str, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(stray, "1")
    with pytest.raises(ConfigError, match=f"{stray} is set, but "):
        make_app()
    assert state_of(make_app(UPLOADS_BACKEND="local")).backend.name == "local"
    assert state_of(make_app(**BUCKET, **KEYS)).backend.name == "s3"


# -- construction


def test_the_folder_is_absolute(tmp_path: Path) -> None:
    def folder(app_config: dict[str, str], uploads: str = "uploads") -> Path:
        backend = build(app_config, uploads)
        assert isinstance(backend, LocalBackend)
        return backend.directory

    assert folder({"UPLOADS_DIR": "a"}) == tmp_path / "a"
    assert folder({"UPLOADS_DIR": "~/a"}) == tmp_path / "a"
    assert folder({"MEDIA_ROOT": "a"}) == tmp_path / "a"
    assert folder({}, "documents") == Path("/instance/documents")
    assert folder({"MEDIA_ROOT": "a"}, "documents") == Path("/instance/documents")


def test_the_settings_reach_the_bucket() -> None:
    backend = build({**BUCKET, **KEYS, "UPLOADS_S3_REGION": "eu-west-1", "UPLOADS_PREFIX": "p"})
    assert isinstance(backend, S3Backend)
    assert (backend.bucket, backend.region, backend.prefix) == ("photos", "eu-west-1", "p")


def test_native_names_in_app_config_reach_the_bucket(make_app: MakeApp) -> None:
    backend = state_of(make_app(S3_BUCKET_NAME="photos", AWS_REGION="eu-west-1", **NATIVE_KEYS)).backend
    assert isinstance(backend, S3Backend)
    assert (backend.bucket, backend.region) == ("photos", "eu-west-1")


def test_a_backend_names_its_arguments_by_the_variables_that_set_them() -> None:
    native = build({"S3_BUCKET_NAME": "photos", **NATIVE_KEYS})
    assert native.variable("bucket") == "S3_BUCKET_NAME"
    assert native.variable("access_key_id") == "AWS_ACCESS_KEY_ID"
    assert native.variable("region") == "UPLOADS_S3_REGION"
    own = build({"DOCUMENTS_S3_BUCKET": "b", **NATIVE_KEYS, "UPLOADS_S3_BUCKET": "other"}, "documents")
    assert own.variable("bucket") == "DOCUMENTS_S3_BUCKET"
    assert own.variable("secret_access_key") == "AWS_SECRET_ACCESS_KEY"
    assert own.variable("endpoint_url") == "DOCUMENTS_S3_ENDPOINT_URL"


def test_a_backend_that_was_constructed_by_hand_names_the_arguments_themselves() -> None:
    assert MemoryBackend().variable("prefix") == "prefix"
    assert S3Backend(bucket="b").variable("bucket") == "bucket"


def test_the_settings_of_cloudinary_and_imagekit_reach_their_backends() -> None:
    def url(backend: Backend) -> str:
        return str(backend.url("a.png", signed_at=0, expires_in=60))

    common = {"UPLOADS_PREFIX": "media", "UPLOADS_TIMEOUT": 9}
    account = "cloudinary://key:secret@MyCloud"
    cloudinary = build(
        {
            "UPLOADS_CLOUDINARY_URL": f"{account}/media.example.com",
            "UPLOADS_CLOUDINARY_PRIVATE": True,
            "UPLOADS_CLOUDINARY_UPLOAD_PREFIX": "https://api-eu.cloudinary.com",
            **common,
        }
    )
    assert isinstance(cloudinary, CloudinaryBackend)
    assert (cloudinary.cloud_name, cloudinary.prefix, cloudinary.timeout) == ("MyCloud", "media", 9)
    assert url(cloudinary).startswith("https://api-eu.cloudinary.com/v1_1/MyCloud/image/download?")
    public = build({"UPLOADS_CLOUDINARY_URL": f"{account}/media.example.com"})
    assert url(public) == "https://media.example.com/image/upload/v1/uploads/a_2epng"
    plain = build({"UPLOADS_CLOUDINARY_URL": account})
    assert url(plain) == "https://res.cloudinary.com/MyCloud/image/upload/v1/uploads/a_2epng"
    imagekit = build(
        {
            "UPLOADS_IMAGEKIT_PRIVATE_KEY": "private_x",
            "UPLOADS_IMAGEKIT_PUBLIC_KEY": "public_x",  # accepted, and not used
            "UPLOADS_IMAGEKIT_URL_ENDPOINT": "https://ik.imagekit.io/demo/",
            "UPLOADS_IMAGEKIT_PRIVATE": True,
            **common,
        }
    )
    assert isinstance(imagekit, ImageKitBackend)
    assert (imagekit.url_endpoint, imagekit.prefix, imagekit.timeout) == ("https://ik.imagekit.io/demo", "media", 9)
    assert url(imagekit).startswith("https://ik.imagekit.io/demo/media/a.png?tr=orig-true&ik-t=60&ik-s=")


def test_secrets_reach_the_backend_and_are_not_shown() -> None:
    settings = backends.read_settings({**BUCKET, **KEYS}, {}).settings
    assert settings["s3_secret_access_key"] == Secret(PASSWORD)
    assert PASSWORD not in f"{build({**BUCKET, **KEYS})!r} {build({**BUCKET, **KEYS})}"


def test_a_session_token_of_the_host_does_not_belong_to_an_access_key_of_our_own() -> None:
    foreign = {"AWS_SESSION_TOKEN": "t", **NATIVE_KEYS}

    def token(app_config: dict[str, str]) -> str | None:
        return s3_settings.session_token(backends.read_settings({**app_config, **BUCKET}, {}).settings)

    assert token({**foreign, **KEYS}) is None
    assert token(foreign) == "t"
    assert token({**foreign, **KEYS, "UPLOADS_S3_SESSION_TOKEN": "ours"}) == "ours"


@pytest.mark.parametrize("endpoint", [{}, {"UPLOADS_S3_ENDPOINT_URL": "https://s3.example.com"}], ids=["aws", "custom"])
def test_a_profile_counts_as_credentials(
    endpoint: dict[str, str], make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert isinstance(state_of(make_app(**BUCKET, **endpoint)).backend, S3Backend)


@pytest.mark.parametrize("name", ["credentials", "config"])
def test_a_file_of_the_aws_tools_counts_as_credentials(name: str, make_app: MakeApp, tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / name).touch()
    assert isinstance(state_of(make_app(**BUCKET)).backend, S3Backend)


def test_a_machine_at_amazon_may_have_a_role_for_s3_but_not_for_another_service(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sys_vendor").write_text("Amazon EC2\n")
    monkeypatch.setattr(s3_settings, "_MACHINE_VENDOR", tmp_path / "sys_vendor")
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    assert isinstance(state_of(make_app(**BUCKET)).backend, S3Backend)
    with pytest.raises(ConfigError, match="no credentials"):
        make_app(**BUCKET, UPLOADS_S3_ENDPOINT_URL="https://s3.example.com")


# -- what is reported at the start


def hide_sdks(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name in {"boto3", "cloudinary", "imagekitio"} else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


REMOTE = {
    "s3": {**BUCKET, **KEYS},
    "cloudinary": {"UPLOADS_CLOUDINARY_URL": "cloudinary://key:secret@cloud"},
    "imagekit": {"UPLOADS_IMAGEKIT_PRIVATE_KEY": "x", "UPLOADS_IMAGEKIT_URL_ENDPOINT": "https://ik.imagekit.io/demo"},
}


@pytest.mark.parametrize("backend", REMOTE)
def test_a_missing_sdk_is_reported_with_the_pip_command(
    backend: str, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_sdks(monkeypatch)
    with pytest.raises(ConfigError) as caught:
        make_app(**REMOTE[backend])
    (problem,) = caught.value.problems
    assert problem.message.startswith(f"The backend {backend} needs ")
    assert problem.remedy == f"pip install 'flask-persistent-uploads[{backend}]'"


def test_a_missing_sdk_and_missing_settings_are_reported_together(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_sdks(monkeypatch)
    with pytest.raises(ConfigError) as caught:
        make_app(UPLOADS_BACKEND="s3")
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("backend", REMOTE)
def test_neither_the_start_nor_a_view_imports_an_sdk(backend: str, tmp_path: Path) -> None:
    script = (
        "import sys; from flask import Flask; from flask_persistent_uploads import Uploads; app = Flask('x'); "
        "Uploads(app); paths = ('/uploads/a.png', '/uploads/a.csv'); "
        "print({app.test_client().get(path).status for path in paths}); "
        "print(sorted({'boto3', 'botocore', 'cloudinary', 'imagekitio', 'httpx', 'urllib3', 'PIL', 'sqlalchemy'} "
        "& sys.modules.keys()))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=clean_environment(PYTHONPATH=str(ROOT), **REMOTE[backend]),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split("\n")[:2] == ["{'302 FOUND'}", "[]"]


NO_CREDENTIALS = "There is a bucket, but no credentials."


@pytest.mark.parametrize(
    ("settings", "message", "remedy"),
    [
        (
            {"UPLOADS_BACKEND": "s4"},
            "UPLOADS_BACKEND is 's4'. There is no such backend.",
            f"Set it to {BUILTIN} or module:Class.",
        ),
        ({"UPLOADS_BACKEND": f"{__name__}:Missing"}, ":Missing'. It cannot be imported", "or module:Class."),
        ({"UPLOADS_BACKEND": f"{__name__}:PASSWORD"}, "is not a subclass of Backend", "or module:Class."),
        (BUCKET, NO_CREDENTIALS, "Set UPLOADS_S3_ACCESS_KEY_ID and UPLOADS_S3_SECRET_ACCESS_KEY."),
        ({**BUCKET, "UPLOADS_S3_ENDPOINT_URL": "https://s3.example.com"}, NO_CREDENTIALS, "Set UPLOADS_S3_ACCESS_KEY"),
        (
            {"UPLOADS_BACKEND": "s3", **KEYS},
            "UPLOADS_S3_BUCKET (or S3_BUCKET_NAME, AWS_STORAGE_BUCKET_NAME, BUCKET_NAME) is not set.",
            "Set it, or set UPLOADS_BACKEND=local.",
        ),
        (
            {**BUCKET, "UPLOADS_S3_ACCESS_KEY_ID": "a"},
            "UPLOADS_S3_ACCESS_KEY_ID is set, but UPLOADS_S3_SECRET_ACCESS_KEY is not.",
            "Set UPLOADS_S3_SECRET_ACCESS_KEY too.",
        ),
        (
            {**BUCKET, "AWS_SECRET_ACCESS_KEY": PASSWORD},
            "AWS_SECRET_ACCESS_KEY is set, but UPLOADS_S3_ACCESS_KEY_ID is not.",
            "Set UPLOADS_S3_ACCESS_KEY_ID too.",
        ),
        (
            {**BUCKET, **KEYS, "UPLOADS_S3_ENDPOINT_URL": "https://photos.s3.eu-west-1.amazonaws.com"},
            "UPLOADS_S3_ENDPOINT_URL contains the name of the bucket.",
            "It belongs in UPLOADS_S3_BUCKET.",
        ),
        (
            {"BUCKET_NAME": "photos", **KEYS, "AWS_ENDPOINT_URL": "https://abc.r2.cloudflarestorage.com/photos/"},
            "AWS_ENDPOINT_URL contains the name of the bucket.",
            "It belongs in BUCKET_NAME.",
        ),
        (
            {**BUCKET, **KEYS, "UPLOADS_S3_ENDPOINT_URL": "https://photos.s3.amazonaws.com"},
            "UPLOADS_S3_ENDPOINT_URL contains the name of the bucket.",
            "It belongs in UPLOADS_S3_BUCKET.",
        ),
        (
            {
                **BUCKET,
                **KEYS,
                "UPLOADS_S3_REGION": "us-east-1",
                "UPLOADS_S3_ENDPOINT_URL": "https://s3.eu-west-1.amazonaws.com",
            },
            "UPLOADS_S3_REGION is us-east-1, but the endpoint is in eu-west-1.",
            "Remove UPLOADS_S3_REGION.",
        ),
        ({**KEYS, "UPLOADS_S3_BUCKET": "my-bucket/photos"}, "is 'my-bucket/photos'.", "the bucket's name alone"),
        ({**KEYS, "UPLOADS_S3_BUCKET": "s3://my-bucket"}, "UPLOADS_S3_BUCKET is not valid.", "the bucket's name alone"),
        ({"UPLOADS_S3_REGION": "EU (Frankfurt)", **BUCKET, **KEYS}, "is 'EU (Frankfurt)'.", "a region such as"),
        (
            {"UPLOADS_CLOUDINARY_CLOUD_NAME": "a/b", "UPLOADS_CLOUDINARY_API_KEY": "k", "CLOUDINARY_API_SECRET": "s"},
            "UPLOADS_CLOUDINARY_CLOUD_NAME is 'a/b'.",
            "Set UPLOADS_CLOUDINARY_CLOUD_NAME to the cloud's name alone",
        ),
        (
            {"UPLOADS_IMAGEKIT_PRIVATE_KEY": PASSWORD},
            "UPLOADS_IMAGEKIT_URL_ENDPOINT (or IMAGEKIT_URL_ENDPOINT) is not set.",
            "Set it, or set UPLOADS_BACKEND=local.",
        ),
        (
            {"UPLOADS_IMAGEKIT_URL_ENDPOINT": "https://ik.io/a"},
            "UPLOADS_IMAGEKIT_PRIVATE_KEY (or IMAGEKIT_PRIVATE_KEY) is not set.",
            "Set it, or set UPLOADS_BACKEND=local.",
        ),
        (
            {"UPLOADS_PLATFORM": "mars"},
            "UPLOADS_PLATFORM is 'mars'. There is no such platform.",
            "Set it to one of render, ",
        ),
        (
            {"UPLOADS_PUBLIC_URL": "https://cdn.example"},
            "UPLOADS_PUBLIC_URL does not go with the backend local.",
            "Remove it.",
        ),
        (
            {"UPLOADS_ACCEL_REDIRECT": "/x", "UPLOADS_BACKEND": "memory"},
            "UPLOADS_ACCEL_REDIRECT does not go with the backend memory.",
            "Remove it.",
        ),
        (
            {"UPLOADS_BACKEND": "memory", "UPLOADS_REQUIRE_PERSISTENT": "1"},
            "UPLOADS_REQUIRE_PERSISTENT is set, but uploads will be lost. The backend memory keeps files only until",
            "",
        ),
    ],
)
def test_an_app_that_cannot_work_does_not_start(
    settings: dict[str, str], message: str, remedy: str, make_app: MakeApp
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_app(**settings)
    (problem,) = caught.value.problems
    assert message in problem.message
    assert remedy in problem.remedy
    assert problem.message.endswith(".")
    assert PASSWORD not in f"{caught.value} {caught.value!r}".replace(":PASSWORD", "")


def test_mistakes_in_values_and_in_the_backend_are_reported_together(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_app(UPLOADS_BUKET="x", UPLOADS_URL_EXPIRES="0", UPLOADS_MAX_SIZE="ten", UPLOADS_S3_BUCKET="b")
    assert len(caught.value.problems) == 3
    assert "Did you mean UPLOADS_S3_BUCKET?" in caplog.text


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CLOUDINARY_URL", "https://res.cloudinary.com/demo"),
        ("UPLOADS_CLOUDINARY_URL", "cloudinary://<your_api_key>:<your_api_secret>@demo"),
        ("UPLOADS_IMAGEKIT_URL_ENDPOINT", "ik.imagekit.io/demo"),
        ("UPLOADS_S3_BUCKET", "s3://photos"),
    ],
)
def test_one_mistake_is_reported_once(
    variable: str, value: str, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    if "IMAGEKIT" in variable:
        monkeypatch.setenv("IMAGEKIT_PRIVATE_KEY", "private_x")
    with pytest.raises(ConfigError) as caught:
        make_app(**(KEYS if "S3" in variable else {}))
    assert [problem.setting for problem in caught.value.problems] == [variable]


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        (
            {"UPLOADS_S3_ENDPOINT_URL": "https://s3.amazonaws.com", "UPLOADS_S3_REGION": "eu-west-1"},
            "s3, bucket s3 at s3.amazonaws.com (eu-west-1), below uploads/",
        ),
        (
            {"UPLOADS_S3_ENDPOINT_URL": "https://a.example.com/storage/v1/s3", "UPLOADS_BACKEND": "S3"},
            "s3, bucket s3 at a.example.com (us-east-1), below uploads/",
        ),
    ],
)
def test_unusual_settings_that_are_right_are_accepted(
    make_app: MakeApp, settings: dict[str, str], place: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    make_app(**settings, **KEYS, UPLOADS_S3_BUCKET="s3")
    assert re.search(re.escape(place), caplog.text)


# -- the account of Cloudinary


@pytest.mark.parametrize(
    ("settings", "problems"),
    [
        (
            {"UPLOADS_CLOUDINARY_URL": PASSWORD},
            [
                "UPLOADS_CLOUDINARY_URL is not valid. Set UPLOADS_CLOUDINARY_URL to a URL such as "
                "cloudinary://<api key>:<api secret>@<cloud name>."
            ],
        ),
        (
            {"UPLOADS_CLOUDINARY_URL": f"cloudinary://k:{PASSWORD}@a", "UPLOADS_CLOUDINARY_CLOUD_NAME": "b"},
            [
                "UPLOADS_CLOUDINARY_CLOUD_NAME names another cloud than UPLOADS_CLOUDINARY_URL. "
                "Remove UPLOADS_CLOUDINARY_CLOUD_NAME."
            ],
        ),
        (
            {"UPLOADS_CLOUDINARY_CLOUD_NAME": "a"},
            [
                f"UPLOADS_CLOUDINARY_{part} (or CLOUDINARY_{part}) is not set. Set it, or set UPLOADS_BACKEND=local."
                for part in ("API_KEY", "API_SECRET")
            ],
        ),
    ],
)
def test_a_wrong_account_of_cloudinary_is_reported_without_its_secret(
    settings: dict[str, str], problems: list[str], make_app: MakeApp
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_app(**settings)
    assert [str(problem) for problem in caught.value.problems] == problems
    assert PASSWORD not in f"{caught.value} {caught.value!r}"


def cloudinary_of(app_config: Mapping[str, str]) -> CloudinaryBackend:
    backend = build(app_config)
    assert isinstance(backend, CloudinaryBackend)
    return backend


def test_own_names_of_an_account_win_over_native_ones() -> None:
    parts = {f"UPLOADS_CLOUDINARY_{name}": name.lower() for name in ("CLOUD_NAME", "API_KEY", "API_SECRET")}
    by_parts = cloudinary_of({**parts, "CLOUDINARY_URL": "cloudinary://host:host-secret@host"})
    assert (by_parts.cloud_name, by_parts._api_key) == ("cloud_name", "api_key")
    by_url = cloudinary_of({"UPLOADS_CLOUDINARY_URL": "cloudinary://key:secret@mine", "CLOUDINARY_CLOUD_NAME": "host"})
    assert by_url.cloud_name == "mine"


def test_an_own_address_of_the_api_wins_over_the_url_which_wins_over_a_native_one(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDINARY_UPLOAD_PREFIX", "https://api-ap.cloudinary.com")

    def address(**settings: str) -> str:
        backend = state_of(make_app(UPLOADS_CLOUDINARY_PRIVATE="1", **settings)).backend
        return str(backend.url("a.png", signed_at=0, expires_in=60)).partition(".")[0]

    plain = "cloudinary://key:secret@cloud"
    assert address(UPLOADS_CLOUDINARY_URL=plain) == "https://api-ap"
    there = f"{plain}?upload_prefix=https://api-eu.cloudinary.com"
    assert address(UPLOADS_CLOUDINARY_URL=there) == "https://api-eu"
    own = {"UPLOADS_CLOUDINARY_UPLOAD_PREFIX": "https://api-own.cloudinary.com"}
    assert address(UPLOADS_CLOUDINARY_URL=there, **own) == "https://api-own"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (f"https://{PASSWORD}", "CLOUDINARY_URL does not begin with cloudinary://."),
        (" cloudinary://k:s@c", "CLOUDINARY_URL does not begin with cloudinary://."),
        ("cloudinary://key:se[cret@x", "CLOUDINARY_URL contains '[' or ']'."),
    ],
)
def test_a_cloudinary_url_with_which_the_sdk_cannot_be_imported_is_reported(
    value: str, message: str, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDINARY_URL", value)
    with pytest.raises(ConfigError) as caught:
        make_app(UPLOADS_CLOUDINARY_URL="cloudinary://key:secret@cloud")
    (problem,) = caught.value.problems
    assert (problem.message, problem.setting) == (message, "CLOUDINARY_URL")
    assert PASSWORD not in str(caught.value)
    assert state_of(make_app(UPLOADS_BACKEND="memory")).backend.name == "memory"
