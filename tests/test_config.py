"""Settings: where they are read, what they may be, what a wrong one says, and which backend they choose."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import logging
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_persistent_uploads import ConfigError, Uploads, backends, config
from flask_persistent_uploads.backends.base import Backend
from flask_persistent_uploads.backends.cloudinary import Account, CloudinaryBackend, read_url
from flask_persistent_uploads.backends.imagekit import ImageKitBackend
from flask_persistent_uploads.backends.memory import MemoryBackend
from flask_persistent_uploads.backends.s3 import S3Backend
from flask_persistent_uploads.config import Secret, Settings, size

from .conftest import MakeApp
from .servers import ROOT, clean_environment


def load(app_config: Mapping[str, Any], environ: Mapping[str, str], **options: Any) -> Settings:
    """The settings, or all mistakes among their values as ``init_app`` raises them."""
    settings, problems = config.read(app_config, environ, **options)
    if problems:
        raise ConfigError(problems)
    return settings


PASSWORD = "hunter2-pa55"
BUCKET = {"UPLOADS_S3_BUCKET": "photos"}
KEYS = {"UPLOADS_S3_ACCESS_KEY_ID": "AKIA1", "UPLOADS_S3_SECRET_ACCESS_KEY": PASSWORD}

# For each variable three right values, none of them the default, and what the first means.
SAMPLES: dict[str, tuple[tuple[str, str, str], object]] = {
    "backend": (("memory", "s3", "local"), "memory"),
    "dir": (("a", "b", "c"), "a"),
    "s3_bucket": (("a", "b", "c"), "a"),
    "s3_region": (("auto", "b", "c"), "auto"),
    "s3_endpoint_url": (("https://a.example/", "https://b.example", "https://c.example"), "https://a.example"),
    "s3_public_endpoint_url": (("http://127.0.0.1:9000", "https://b.example", "https://c"), "http://127.0.0.1:9000"),
    "s3_access_key_id": (("a", "b", "c"), "a"),
    "s3_secret_access_key": (("a", "b", "c"), Secret("a")),
    "s3_session_token": (("a", "b", "c"), Secret("a")),
    "cloudinary_url": (("cloudinary://a", "b", "c"), Secret("cloudinary://a")),
    "cloudinary_cloud_name": (("a", "b", "c"), "a"),
    "cloudinary_api_key": (("123", "b", "c"), "123"),
    "cloudinary_api_secret": (("a", "b", "c"), Secret("a")),
    "cloudinary_upload_prefix": (
        ("https://api-eu.cloudinary.com/", "https://b", "https://c"),
        "https://api-eu.cloudinary.com",
    ),
    "cloudinary_private": (("Yes", "1", "on"), True),
    "imagekit_private_key": (("a", "b", "c"), Secret("a")),
    "imagekit_public_key": (("a", "b", "c"), "a"),
    "imagekit_url_endpoint": (("https://ik.io/a/", "https://b", "https://c"), "https://ik.io/a"),
    "imagekit_base_url": (("http://127.0.0.1:9000", "https://b", "https://c"), "http://127.0.0.1:9000"),
    "imagekit_private": (("Yes", "1", "on"), True),
    "prefix": (("/media/files/", "b", "c"), "media/files"),
    "url_prefix": (("media/", "b", "c"), "/media"),
    "url_expires": (("604800", "1", "7200"), 604800),
    "public_url": (("https://cdn.example/x/", "https://b", "https://c"), "https://cdn.example/x"),
    "serve": (("Proxy", "auto", "proxy"), "proxy"),
    "accel_redirect": (("/inside/", "b", "c"), "/inside"),
    "fallback": (("local:./uploads", "b", "c"), "local:./uploads"),
    "allow": (("image/*, .CSV", ".a", ".b"), ("image/*", ".csv")),
    "max_size": (("10MB", "2", "3"), 10_000_000),
    "max_files": (("7", "2", "3"), 7),
    "timeout": (("2", "3", "600"), 2),
    "require_persistent": (("Yes", "1", "on"), True),
    "store_id": (("a", "b", "c"), "a"),
    "platform": (("render", "b", "c"), "render"),
}
every_variable = pytest.mark.parametrize("row", config.VARIABLES, ids=lambda row: row.name)
every_native_name = pytest.mark.parametrize(
    ("row", "native"),
    [(row, native) for row in config.VARIABLES for native in row.metadata["native"] if native != "USE_S3"],
    ids=lambda value: value if isinstance(value, str) else value.name,
)

Row = dataclasses.Field[Any]


def read(environ: Mapping[str, str] | None = None, **app_config: object) -> Settings:
    return load(app_config, environ or {})


# -- where they are read


@every_variable
def test_app_config_wins_over_the_environment_which_wins_over_dotenv(row: Row, tmp_path: Path) -> None:
    (first, second, third), meaning = SAMPLES[row.name]
    variable = f"UPLOADS_{row.name.upper()}"
    dotenv = tmp_path / "settings.env"
    dotenv.write_text(f"{variable}='{third}'\n")

    def value(app_config: dict[str, object], environ: dict[str, str]) -> object:
        settings = load(app_config, environ, dotenv=str(dotenv))
        assert settings.sources == {row.name: variable}
        return getattr(settings, row.name)

    parse = row.metadata["parse"]
    assert value({variable: first}, {variable: second}) == meaning
    assert value({}, {variable: second}) == parse(second)
    assert value({}, {}) == parse(third)
    assert meaning != row.default


@every_variable
def test_where_each_value_was_found_is_kept(row: Row, tmp_path: Path) -> None:
    variable = f"UPLOADS_{row.name.upper()}"
    first, second, third = SAMPLES[row.name][0]
    dotenv = tmp_path / "settings.env"
    dotenv.write_text(f"{variable}='{third}'\n")
    file = str(dotenv)
    assert load({variable: first}, {variable: second}, dotenv=file).origins == {row.name: "app.config"}
    assert load({}, {variable: second}, dotenv=file).origins == {row.name: "environment"}
    assert load({}, {}, dotenv=file).origins == {row.name: ".env"}
    assert load({}, {}, dotenv="").origins == {}


def test_a_value_that_is_wrong_has_an_origin_too() -> None:
    settings, problems = config.read({}, {"UPLOADS_MAX_FILES": "many"}, dotenv="")
    assert len(problems) == 1
    assert (settings.sources, settings.origins) == ({"max_files": "UPLOADS_MAX_FILES"}, {"max_files": "environment"})


@every_variable
@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_value_is_as_good_as_none(row: Row, empty: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"UPLOADS_{row.name.upper()}='{empty}'\n")
    variable = f"UPLOADS_{row.name.upper()}"
    assert load({variable: ""}, {variable: empty}) == load({}, {}, dotenv="")
    assert load({variable: None}, {}) == load({}, {}, dotenv="")


def test_a_blank_value_in_app_config_is_as_good_as_none() -> None:
    assert config.choose_backend(read(UPLOADS_S3_BUCKET="  ")) == "local"
    assert read({"UPLOADS_MAX_FILES": "3"}, UPLOADS_MAX_FILES=" ").max_files == 3


@every_native_name
def test_native_names_are_understood_after_our_own(row: Row, native: str) -> None:
    (first, second, _), meaning = SAMPLES[row.name]
    settings = read({native: first})
    assert getattr(settings, row.name) == meaning
    assert settings.sources[row.name] == native
    both = read({native: second, f"UPLOADS_{row.name.upper()}": first})
    assert getattr(both, row.name) == meaning


@every_native_name
def test_native_names_are_read_from_dotenv_and_after_the_environment(row: Row, native: str, tmp_path: Path) -> None:
    (first, second, _), meaning = SAMPLES[row.name]
    (tmp_path / ".env").write_text(f"{native}='{first}'\nUPLOADS_MAX_FILES=3\n")
    assert getattr(read(), row.name) == meaning
    (tmp_path / ".env").write_text(f"UPLOADS_{row.name.upper()}='{second}'\n")
    assert getattr(read({native: first}), row.name) == meaning


def test_dotenv_is_found_upwards_and_puts_nothing_into_the_environment(
    make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("UPLOADS_MAX_FILES=3\nUPLOADS_BACKEND=memory\nOTHER=x\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    before = dict(os.environ)
    app = make_app()
    assert dict(os.environ) == before
    assert settings_of(app).max_files == 3


def settings_of(app: Flask) -> Settings:
    found = app.extensions["flask_persistent_uploads"]["uploads"].state.settings
    assert isinstance(found, Settings)
    return found


def test_without_any_setting_there_are_the_defaults_of_the_table() -> None:
    settings = read()
    assert (settings.prefix, settings.url_prefix, settings.url_expires) == ("uploads", "/uploads", 3600)
    assert (settings.max_size, settings.max_files, settings.timeout) == (100_000_000, 50, 25)
    assert (settings.serve, settings.allow, settings.require_persistent) == ("redirect", (), False)
    assert settings.sources == {}


def test_values_of_the_right_python_type_are_taken_from_app_config() -> None:
    settings = read(
        UPLOADS_MAX_SIZE=5, UPLOADS_URL_EXPIRES=60, UPLOADS_REQUIRE_PERSISTENT=True, UPLOADS_ALLOW=["image/*", ".CSV"]
    )
    assert (settings.max_size, settings.url_expires, settings.require_persistent) == (5, 60, True)
    assert settings.allow == ("image/*", ".csv")


def test_the_directory_is_absolute(tmp_path: Path) -> None:
    assert config.default_directory(read(UPLOADS_DIR="a"), "/instance", "uploads") == tmp_path / "a"
    assert config.default_directory(read(UPLOADS_DIR="~/a"), "/instance", "uploads") == tmp_path / "a"
    assert config.default_directory(read(), "/instance", "documents") == Path("/instance/documents")


# -- what they may be


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        *(
            (1, 1),
            (100, 100),
            ("100", 100),
            (" 100 ", 100),
            ("1B", 1),
            ("10MB", 10**7),
            ("10 mb", 10**7),
            ("10M", 10**7),
        ),
        *(("500kB", 500_000), ("16MiB", 2**24), ("1KiB", 1024), ("1.5GB", 1_500_000_000), ("0.5GiB", 2**29)),
    ],
)
def test_a_size_is_a_number_of_bytes_or_has_a_unit(raw: object, expected: int) -> None:
    assert size(raw) == expected


@pytest.mark.parametrize(
    "raw", ["", 0, "0", "0MB", "0.1", -1, "-5MB", "10TB", "10XB", "MB", "1,5MB", "1e6", True, None, "9" * 400]
)
def test_what_is_no_size_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match="a size such as 10MB"):
        size(raw)


@pytest.mark.parametrize(
    ("name", "raw", "remedy"),
    [
        ("MAX_SIZE", "10 apples", "a size such as 10MB, 500kB or a number of bytes"),
        ("MAX_FILES", "0", "a whole number of files from 1 to 100000"),
        ("URL_EXPIRES", "0", "a whole number of seconds from 1 to 604800"),
        ("URL_EXPIRES", "-5", "a whole number of seconds from 1 to 604800"),
        ("URL_EXPIRES", "604801", "a whole number of seconds from 1 to 604800"),
        ("URL_EXPIRES", "1h", "a whole number of seconds from 1 to 604800"),
        ("TIMEOUT", "1", "a whole number of seconds from 2 to 600"),
        ("SERVE", "inline", "one of redirect, proxy, auto"),
        ("REQUIRE_PERSISTENT", "perhaps", "true or false"),
        ("PREFIX", "../x", "a name such as uploads or media/files"),
        ("PREFIX", "/", "a name such as uploads or media/files"),
        ("PREFIX", "a" * 64, "a name such as uploads or media/files"),
        ("URL_PREFIX", "a b", "a name such as uploads or media/files"),
        ("ALLOW", "pictures", "types such as image/*, application/pdf or .csv, not 'pictures'"),
        ("ALLOW", "image/*;.csv", "types such as image/*, application/pdf or .csv"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_found_and_the_remedy(name: str, raw: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read({f"UPLOADS_{name}": raw})
    (problem,) = caught.value.problems
    assert problem.startswith(f"UPLOADS_{name} is {raw!r}; set it to ")
    assert remedy in problem


@pytest.mark.parametrize("name", ["UPLOADS_S3_ENDPOINT_URL", "UPLOADS_PUBLIC_URL", "AWS_ENDPOINT_URL_S3"])
@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        (f"https://user:{PASSWORD}@s3.example.com", "without user and password"),
        (f"https://{PASSWORD}@s3.example.com", "without user and password"),
        (f"user:{PASSWORD}@s3.example.com", "https://"),
        (f"https://s3.example.com?password={PASSWORD}", "without '?' and '#'"),
        (f"https://s3.example.com:{PASSWORD}", "a URL such as"),
        (f"s3.example.com/{PASSWORD}", "begins with https://"),
        (f"ftp://{PASSWORD}", "begins with https://"),
        (f"https:///{PASSWORD}", "begins with https://"),
        (f"https://[{PASSWORD}", "a URL such as"),
        (f"https://s3.example.com:0/{PASSWORD}", "a URL that"),
    ],
)
def test_a_wrong_address_is_refused_and_never_repeated(name: str, url: str, remedy: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is not right; set it to .*{re.escape(remedy)}") as caught:
        read({name: url})
    assert PASSWORD not in f"{caught.value!r} {caught.value} {caught.value.problems}"
    assert caught.value.__cause__ is None


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        read({"UPLOADS_TIMEOUT": "x", "UPLOADS_MAX_SIZE": "y", "USE_S3": "z"})
    assert sorted(problem.split()[0] for problem in caught.value.problems) == [
        "UPLOADS_MAX_SIZE",
        "UPLOADS_TIMEOUT",
        "USE_S3",
    ]
    assert all(problem in str(caught.value) for problem in caught.value.problems)


# -- secrets


def test_settings_never_show_a_secret() -> None:
    secret = [row.name for row in config.VARIABLES if isinstance(SAMPLES[row.name][1], Secret)]
    assert len(secret) == 5
    environ = {f"UPLOADS_{name.upper()}": PASSWORD for name in [*secret, "gcs_token"]}
    settings = read(environ)
    assert PASSWORD not in f"{settings} {settings!r} {settings.s3_secret_access_key} {[settings]}"
    assert settings.others == {"UPLOADS_GCS_TOKEN": PASSWORD}
    with pytest.raises(TypeError):
        vars(settings)


@pytest.mark.parametrize("show", [str, repr, format, "%s".__mod__, "{!s:>9}".format, ascii, lambda s: repr({"a": [s]})])
def test_a_secret_shows_itself_only_when_asked(show: Callable[[Secret], str]) -> None:
    assert PASSWORD not in show(Secret(PASSWORD))
    assert Secret(PASSWORD).reveal() == PASSWORD


@pytest.mark.parametrize("leak", [vars, pickle.dumps, copy.deepcopy])
def test_a_secret_is_not_taken_apart(leak: Callable[[Secret], object]) -> None:
    with pytest.raises(TypeError):
        leak(Secret(PASSWORD))


def test_secrets_are_equal_by_what_they_hide() -> None:
    assert Secret("a") == Secret("a")
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("a") != "a"


# -- which backend


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
        ({**BUCKET, "UPLOADS_BACKEND": "local"}, "local"),
        ({**BUCKET, "CLOUDINARY_URL": "x", "UPLOADS_BACKEND": "s3"}, "s3"),
        ({"USE_S3": "true"}, "s3"),
        ({"USE_S3": "False", **BUCKET}, "local"),
        ({"USE_S3": "true", "UPLOADS_BACKEND": "memory"}, "memory"),
    ],
)
def test_the_backend_is_the_one_that_the_variables_imply(environ: dict[str, str], backend: str) -> None:
    assert config.choose_backend(read(environ)) == backend


def test_two_backends_at_once_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        config.choose_backend(read({"BUCKET_NAME": "b", "CLOUDINARY_URL": PASSWORD}))
    assert str(caught.value) == (
        "Two backends are configured at once, by BUCKET_NAME (for s3) and CLOUDINARY_URL (for cloudinary): "
        "set UPLOADS_BACKEND to s3 or cloudinary, or remove the other's variables."
    )


def test_another_uploads_reads_variables_of_its_own_and_shares_the_bucket() -> None:
    environ = {"UPLOADS_MAX_FILES": "3", "DOCUMENTS_MAX_FILES": "4", "MEDIA_ROOT": "/data", "BUCKET_NAME": "photos"}
    settings = load({"DOCUMENTS_TIMEOUT": 5, "UPLOADS_TIMEOUT": 6}, environ, name="documents")
    assert (settings.max_files, settings.timeout) == (4, 5)
    assert settings.s3_bucket == "photos"
    assert settings.dir is None
    assert (settings.prefix, settings.url_prefix) == ("documents", "/documents")
    assert load({}, {**environ, "DOCUMENTS_DIR": "d"}, name="documents").dir == "d"


def test_two_uploads_serve_one_app(make_app: MakeApp) -> None:
    app = make_app(UPLOADS_BACKEND="memory", DOCUMENTS_BACKEND="memory")
    Uploads(app, name="documents")
    rules = {rule.rule for rule in app.url_map.iter_rules()}
    assert {"/uploads/<path:path>", "/documents/<path:path>"} <= rules
    with pytest.raises(ConfigError, match="has an Uploads named 'documents' already"):
        Uploads(app, name="documents")


def test_a_session_token_of_the_hosts_role_does_not_go_with_a_key_of_our_own() -> None:
    foreign = {"AWS_SESSION_TOKEN": "t", "AWS_ACCESS_KEY_ID": "host", "AWS_SECRET_ACCESS_KEY": "host"}
    assert read({**foreign, **KEYS}).s3_session_token is None
    assert read(foreign).s3_session_token == Secret("t")
    assert read({**foreign, **KEYS, "UPLOADS_S3_SESSION_TOKEN": "ours"}).s3_session_token == Secret("ours")


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("UPLOADS_BUKET", "UPLOADS_S3_BUCKET"),
        ("UPLOADS_S3_BUKET", "UPLOADS_S3_BUCKET"),
        ("UPLOADS_MAXSIZE", "UPLOADS_MAX_SIZE"),
        ("UPLOADS_LOCAL_DIR", "UPLOADS_DIR"),
    ],
)
def test_an_unknown_name_is_one_warning_with_the_nearest_right_one(
    wrong: str, near: str, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(wrong, PASSWORD)
    make_app(UPLOADS_MAX_FILES=3)
    (warning,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert warning.getMessage() == f"{wrong} is not a setting of this extension: did you mean {near}?"


def test_an_unknown_platform_is_named_by_the_variable_it_was_set_in(make_app: MakeApp) -> None:
    with pytest.raises(ConfigError, match="DOCUMENTS_PLATFORM is 'rendr'"):
        make_app(Uploads(name="documents"), DOCUMENTS_PLATFORM="rendr")


def test_an_unknown_platform_is_told_beside_the_other_mistakes(make_app: MakeApp) -> None:
    with pytest.raises(ConfigError) as caught:
        make_app(UPLOADS_PLATFORM="rendr", UPLOADS_BACKEND="s3", UPLOADS_MAX_FILES="many")
    assert [problem.split()[0] for problem in caught.value.problems] == [
        "UPLOADS_MAX_FILES",
        "UPLOADS_PLATFORM",
        "UPLOADS_S3_BUCKET",
    ]


# -- building it


class Shelf(MemoryBackend):
    """Somebody else's backend."""

    name = "shelf"

    def __init__(self, *, room: str, floor: str = "0") -> None:
        super().__init__()
        self.room = room
        self.floor = floor


class NotABackend:
    name = "nothing"


def backend_of(app: Flask) -> Backend:
    found = app.extensions["flask_persistent_uploads"]["uploads"].state.backend
    assert isinstance(found, Backend)
    return found


def test_somebody_elses_backend_gets_the_variables_of_its_name(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("UPLOADS_SHELF_ROOM", "kitchen")
    backend = backend_of(make_app(UPLOADS_BACKEND=f"{__name__}:Shelf", UPLOADS_SHELF_FLOOR=2))
    assert isinstance(backend, Shelf)
    assert (backend.room, backend.floor) == ("kitchen", "2")
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"UPLOADS_BACKEND": "s4"},
            r"UPLOADS_BACKEND is 's4', which is not known: set it to local, s3, cloudinary, imagekit, memory or module",
        ),
        ({"UPLOADS_BACKEND": "no.such:Thing"}, r"'no\.such:Thing', which cannot be imported"),
        ({"UPLOADS_BACKEND": f"{__name__}:Missing"}, r":Missing', which cannot be imported"),
        ({"UPLOADS_BACKEND": f"{__name__}:NotABackend"}, r":NotABackend', which is not a subclass of Backend"),
        ({"UPLOADS_BACKEND": f"{__name__}:PASSWORD"}, r":PASSWORD', which is not a subclass of Backend"),
        ({"UPLOADS_BACKEND": f"{__name__}:Shelf"}, r"UPLOADS_SHELF_… do not fit .*'room'"),
        (
            {"UPLOADS_BACKEND": f"{__name__}:Shelf", "UPLOADS_SHELF_ROOM": "a", "UPLOADS_SHELF_DOOR": "b"},
            r"UPLOADS_SHELF_… do not fit .*'door'",
        ),
        (BUCKET, r"a bucket but no credentials: set UPLOADS_S3_ACCESS_KEY_ID and UPLOADS_S3_SECRET_ACCESS_KEY\."),
        ({**BUCKET, "UPLOADS_S3_ENDPOINT_URL": "https://s3.example.com"}, r"a bucket but no credentials"),
        ({"UPLOADS_BACKEND": "s3", **KEYS}, r"UPLOADS_S3_BUCKET is not set: set it, or set UPLOADS_BACKEND=local\."),
        ({**BUCKET, "UPLOADS_S3_ACCESS_KEY_ID": "a"}, r"UPLOADS_S3_SECRET_ACCESS_KEY is not set, while the other half"),
        ({**BUCKET, "UPLOADS_S3_SECRET_ACCESS_KEY": PASSWORD}, r"UPLOADS_S3_ACCESS_KEY_ID is not set, while the other"),
        (
            {**BUCKET, **KEYS, "UPLOADS_S3_ENDPOINT_URL": "https://photos.s3.eu-west-1.amazonaws.com"},
            r"UPLOADS_S3_ENDPOINT_URL holds the bucket's name: leave it out",
        ),
        (
            {**BUCKET, **KEYS, "UPLOADS_S3_ENDPOINT_URL": "https://abc.r2.cloudflarestorage.com/photos/"},
            r"UPLOADS_S3_ENDPOINT_URL holds the bucket's name: leave it out",
        ),
        (
            {"UPLOADS_CLOUDINARY_URL": PASSWORD},
            r"UPLOADS_CLOUDINARY_URL is not right; set it to an address such as cloudinary://<api key>:<api secret>@",
        ),
        (
            {"UPLOADS_CLOUDINARY_URL": f"cloudinary://k:{PASSWORD}@a", "UPLOADS_CLOUDINARY_CLOUD_NAME": "b"},
            r"UPLOADS_CLOUDINARY_CLOUD_NAME names another cloud than UPLOADS_CLOUDINARY_URL: remove it\.",
        ),
        (
            {"UPLOADS_CLOUDINARY_CLOUD_NAME": "a"},
            r"API_KEY \(or CLOUDINARY_API_KEY\) is not set: set it\.\n.*_SECRET \(or CLOUDINARY_API_SECRET\) is not",
        ),
        ({"UPLOADS_CLOUDINARY_CLOUD_NAME": "a/b"}, r"CLOUD_NAME is 'a/b'; set it to the cloud's name alone"),
        (
            {"UPLOADS_IMAGEKIT_PRIVATE_KEY": PASSWORD},
            r"UPLOADS_IMAGEKIT_URL_ENDPOINT \(or IMAGEKIT_URL_ENDPOINT\) is not set: set it\.",
        ),
        (
            {"UPLOADS_IMAGEKIT_URL_ENDPOINT": "https://ik.io/a"},
            r"UPLOADS_IMAGEKIT_PRIVATE_KEY \(or IMAGEKIT_PRIVATE_KEY\) is not set",
        ),
        ({"UPLOADS_SERVE": "proxy"}, r"UPLOADS_SERVE=proxy is not served by this version yet: remove it\."),
        ({"UPLOADS_FALLBACK": "local:./u"}, r"UPLOADS_FALLBACK is set, which this version does not serve yet: remove"),
        ({"UPLOADS_PLATFORM": "mars"}, r"UPLOADS_PLATFORM is 'mars', which is not known: set it to one of render, "),
        (
            {"UPLOADS_PUBLIC_URL": "https://cdn.example"},
            r"UPLOADS_PUBLIC_URL goes with s3 and cloudinary, not with local: remove it\.",
        ),
    ],
)
def test_an_app_that_cannot_work_does_not_start_and_says_the_remedy(
    settings: dict[str, str], message: str, make_app: MakeApp
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_app(**settings)
    assert PASSWORD not in f"{caught.value} {caught.value!r}".replace(":PASSWORD", "")


@pytest.mark.parametrize(
    ("stray", "missing"),
    [
        ("CLOUDINARY_API_KEY", "UPLOADS_CLOUDINARY_CLOUD_NAME"),
        ("UPLOADS_CLOUDINARY_API_SECRET", "UPLOADS_CLOUDINARY_CLOUD_NAME"),
        ("UPLOADS_IMAGEKIT_PUBLIC_KEY", "UPLOADS_IMAGEKIT_PRIVATE_KEY"),
        ("UPLOADS_S3_REGION", "UPLOADS_S3_BUCKET"),
    ],
)
def test_half_an_account_never_ends_on_a_disk_that_forgets(
    stray: str, missing: str, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(stray, "1")
    with pytest.raises(
        ConfigError, match=f"{stray} is set, but {missing} is not: set it too, or set UPLOADS_BACKEND=l"
    ):
        make_app()
    assert backend_of(make_app(UPLOADS_BACKEND="local")).name == "local"
    assert backend_of(make_app(**BUCKET, **KEYS)).name == "s3"


@pytest.mark.parametrize(
    "settings",
    [
        {"UPLOADS_CLOUDINARY_PRIVATE": "true"},
        {"UPLOADS_IMAGEKIT_PRIVATE": "false"},
        {"IMAGEKIT_PUBLIC_KEY": "public_x"},
        {"IMAGE_KIT_BASE_URL": "https://api.imagekit.io"},
        {"CLOUDINARY_API_KEY": "1", "MEDIA_ROOT": "media"},
    ],
)
def test_an_option_without_an_account_or_beside_a_disk_keeps_no_app_from_starting(
    settings: dict[str, str], make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert backend_of(make_app()).name == "local"


def test_a_second_one_does_not_answer_for_the_native_names_of_the_first(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CLOUDINARY_API_KEY", "CLOUDINARY_API_SECRET"):
        monkeypatch.setenv(name, "x")
    app = make_app(UPLOADS_CLOUDINARY_CLOUD_NAME="cloud")
    Uploads(app, name="documents")
    assert app.extensions["flask_persistent_uploads"]["documents"].state.backend.name == "local"


def test_our_own_address_of_the_api_wins_over_the_native_one(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDINARY_UPLOAD_PREFIX", "https://api-ap.cloudinary.com")

    def address(**settings: str) -> str:
        backend = backend_of(make_app(UPLOADS_CLOUDINARY_PRIVATE="1", **settings))
        return str(backend.url("a.png", signed_at=0, expires_in=60)).partition(".")[0]

    plain = "cloudinary://key:secret@cloud"
    assert address(UPLOADS_CLOUDINARY_URL=plain) == "https://api-ap"
    there = f"{plain}?upload_prefix=https://api-eu.cloudinary.com"
    assert address(UPLOADS_CLOUDINARY_URL=there) == "https://api-eu"
    own = {"UPLOADS_CLOUDINARY_UPLOAD_PREFIX": "https://api-own.cloudinary.com"}
    assert address(UPLOADS_CLOUDINARY_URL=there, **own) == "https://api-own"


@pytest.mark.parametrize("value", ["https://example.com", " cloudinary://k:s@c", "cloudinary://key:se[cret@x"])
def test_what_would_fail_in_the_sdk_alone_is_told_at_start(
    value: str, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDINARY_URL", value)
    with pytest.raises(ConfigError, match=r"^CLOUDINARY_URL "):
        make_app(UPLOADS_CLOUDINARY_URL="cloudinary://key:secret@cloud")


def test_the_credentials_that_a_host_of_amazon_always_has_choose_nothing(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.setenv(name, "x")
    assert backend_of(make_app()).name == "local"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CLOUDINARY_URL", "https://res.cloudinary.com/demo"),
        ("UPLOADS_CLOUDINARY_URL", "cloudinary://<your_api_key>:<your_api_secret>@demo"),
        ("UPLOADS_IMAGEKIT_URL_ENDPOINT", "ik.imagekit.io/demo"),
        ("UPLOADS_S3_BUCKET", "s3://photos"),
    ],
)
def test_one_mistake_is_told_once(
    variable: str, value: str, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    if "IMAGEKIT" in variable:
        monkeypatch.setenv("IMAGEKIT_PRIVATE_KEY", "private_x")
    with pytest.raises(ConfigError) as caught:
        make_app(**(KEYS if "S3" in variable else {}))
    assert len(caught.value.problems) == 1, caught.value.problems
    assert caught.value.problems[0].startswith(variable)


@pytest.mark.parametrize(
    ("url", "account"),
    [
        ("cloudinary://key:secret@MyCloud", Account("MyCloud", "key", "secret")),
        ("cloudinary://1234:s%2Fx%40y@a-b", Account("a-b", "1234", "s/x@y")),
        ("cloudinary://key:secret@cloud/", Account("cloud", "key", "secret")),
        ("cloudinary://key:secret@cloud?secure=false&timeout=5&signature_version=2", Account("cloud", "key", "secret")),
        ("cloudinary://key:secret@c/media.example.com", Account("c", "key", "secret", "https://media.example.com")),
        (
            "cloudinary://key:secret@c?upload_prefix=https://api-eu.cloudinary.com/",
            Account("c", "key", "secret", None, "https://api-eu.cloudinary.com"),
        ),
    ],
)
def test_a_cloudinary_url_is_read_as_it_is_written(url: str, account: Account) -> None:
    assert read_url(url) == account
    assert account.api_secret not in repr(account).replace("api_secret", "")


def test_a_cloudinary_url_that_says_where_files_are_delivered_is_not_read_in_part() -> None:
    with pytest.raises(ValueError, match="one without private_cdn, secure_distribution"):
        read_url("cloudinary://key:secret@c?private_cdn=true&secure_distribution=media.example.com")


def test_our_own_names_of_an_account_win_over_the_native_ones(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDINARY_URL", "cloudinary://host:host-secret@host")
    parts = {"CLOUD_NAME": "mine", "API_KEY": "key", "API_SECRET": "secret"}
    by_parts = backend_of(make_app(**{f"UPLOADS_CLOUDINARY_{name}": value for name, value in parts.items()}))
    assert isinstance(by_parts, CloudinaryBackend)
    assert (by_parts.cloud_name, by_parts._api_key) == ("mine", "key")
    monkeypatch.delenv("CLOUDINARY_URL")
    monkeypatch.setenv("CLOUDINARY_CLOUD_NAME", "host")
    by_url = backend_of(make_app(UPLOADS_CLOUDINARY_URL="cloudinary://key:secret@mine"))
    assert isinstance(by_url, CloudinaryBackend)
    assert by_url.cloud_name == "mine"


@pytest.mark.parametrize(
    "url",
    ["", "https://key:secret@cloud", "cloudinary://key@cloud", "cloudinary://key:secret@", "cloudinary://k:s@a b"],
)
def test_what_is_no_cloudinary_url_is_refused_with_what_it_should_be(url: str) -> None:
    with pytest.raises(ValueError, match="an address such as cloudinary://"):
        read_url(url)


def test_a_cloudinary_url_that_the_sdk_cannot_import_with_is_told_at_start(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDINARY_URL", f"https://{PASSWORD}")
    with pytest.raises(ConfigError, match="CLOUDINARY_URL does not begin with cloudinary://: correct it") as caught:
        make_app(UPLOADS_CLOUDINARY_URL="cloudinary://key:secret@cloud")
    assert PASSWORD not in str(caught.value)


def test_an_account_of_cloudinary_that_another_backend_was_chosen_over_is_left_alone(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDINARY_URL", "nonsense")
    assert backend_of(make_app(UPLOADS_BACKEND="memory")).name == "memory"


def test_the_settings_of_cloudinary_and_imagekit_reach_their_backends(make_app: MakeApp) -> None:
    cloudinary = backend_of(
        make_app(
            UPLOADS_CLOUDINARY_URL="cloudinary://key:secret@MyCloud/media.example.com",
            UPLOADS_CLOUDINARY_PRIVATE=True,
            UPLOADS_CLOUDINARY_UPLOAD_PREFIX="https://api-eu.cloudinary.com",
            UPLOADS_PREFIX="media",
            UPLOADS_TIMEOUT=9,
        )
    )
    assert isinstance(cloudinary, CloudinaryBackend)
    assert (cloudinary.cloud_name, cloudinary.prefix, cloudinary.timeout) == ("MyCloud", "media", 9)
    assert cloudinary.url("a.png", signed_at=0, expires_in=60).startswith(
        "https://api-eu.cloudinary.com/v1_1/MyCloud/image/download?"
    )
    public = backend_of(make_app(UPLOADS_CLOUDINARY_URL="cloudinary://key:secret@MyCloud/media.example.com"))
    assert (
        public.url("a.png", signed_at=0, expires_in=60) == "https://media.example.com/image/upload/v1/uploads/a_2epng"
    )
    plain = backend_of(make_app(UPLOADS_CLOUDINARY_URL="cloudinary://key:secret@MyCloud"))
    assert plain.url("a.png", signed_at=0, expires_in=60) == (
        "https://res.cloudinary.com/MyCloud/image/upload/v1/uploads/a_2epng"
    )
    imagekit = backend_of(
        make_app(
            UPLOADS_IMAGEKIT_PRIVATE_KEY="private_x",
            UPLOADS_IMAGEKIT_URL_ENDPOINT="https://ik.imagekit.io/demo/",
            UPLOADS_IMAGEKIT_PRIVATE=True,
            UPLOADS_PREFIX="media",
            UPLOADS_TIMEOUT=9,
        )
    )
    assert isinstance(imagekit, ImageKitBackend)
    assert (imagekit.url_endpoint, imagekit.prefix, imagekit.timeout) == ("https://ik.imagekit.io/demo", "media", 9)
    assert imagekit.url("a.png", signed_at=0, expires_in=60).startswith(
        "https://ik.imagekit.io/demo/media/a.png?tr=orig-true&ik-t=60&ik-s="
    )


def test_what_is_missing_for_a_bucket_is_told_at_once(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_sdks(monkeypatch)
    with pytest.raises(ConfigError) as caught:
        make_app(UPLOADS_BACKEND="s3")
    assert len(caught.value.problems) == 2


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
def test_a_missing_sdk_is_answered_with_the_pip_line(
    backend: str, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_sdks(monkeypatch)
    with pytest.raises(ConfigError, match=rf"pip install 'flask-persistent-uploads\[{backend}\]'"):
        make_app(**REMOTE[backend])


@pytest.mark.parametrize("endpoint", [{}, {"UPLOADS_S3_ENDPOINT_URL": "https://s3.example.com"}], ids=["aws", "custom"])
def test_a_profile_counts_as_credentials(
    endpoint: dict[str, str], make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert isinstance(backend_of(make_app(**BUCKET, **endpoint)), S3Backend)


@pytest.mark.parametrize("name", ["credentials", "config"])
def test_a_file_of_credentials_counts_as_credentials(name: str, make_app: MakeApp, tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / name).touch()
    assert isinstance(backend_of(make_app(**BUCKET)), S3Backend)


def test_a_machine_at_amazon_may_have_a_role_but_not_for_another_service(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sys_vendor").write_text("Amazon EC2\n")
    monkeypatch.setattr(backends, "_MACHINE_VENDOR", tmp_path / "sys_vendor")
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    assert isinstance(backend_of(make_app(**BUCKET)), S3Backend)
    with pytest.raises(ConfigError, match="no credentials"):
        make_app(**BUCKET, UPLOADS_S3_ENDPOINT_URL="https://s3.example.com")


def test_the_settings_reach_the_bucket(make_app: MakeApp) -> None:
    backend = backend_of(make_app(**BUCKET, **KEYS, UPLOADS_S3_REGION="eu-west-1", UPLOADS_PREFIX="p"))
    assert isinstance(backend, S3Backend)
    assert (backend.bucket, backend.region, backend.prefix) == ("photos", "eu-west-1", "p")


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


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"UPLOADS_S3_BUCKET": "my-bucket/photos"}, "the bucket's name alone"),
        ({"UPLOADS_S3_BUCKET": "s3://my-bucket"}, "the bucket's name alone"),
        ({"UPLOADS_S3_REGION": "EU (Frankfurt)"}, "a region such as"),
        ({"UPLOADS_S3_ENDPOINT_URL": "https://r2.example.com"}, "is set, but UPLOADS_S3_BUCKET is not: set it too"),
        ({"UPLOADS_ACCEL_REDIRECT": "/x", "UPLOADS_BACKEND": "memory"}, "UPLOADS_ACCEL_REDIRECT goes with"),
        ({"UPLOADS_BACKEND": "memory", "UPLOADS_REQUIRE_PERSISTENT": "1"}, "memory, which ends with the process"),
        (
            {"UPLOADS_S3_BUCKET": "b", "UPLOADS_S3_ENDPOINT_URL": "https://b.s3.amazonaws.com"},
            "UPLOADS_S3_ENDPOINT_URL holds the bucket's name",
        ),
        (
            {
                "UPLOADS_S3_BUCKET": "b",
                "UPLOADS_S3_REGION": "us-east-1",
                "UPLOADS_S3_ENDPOINT_URL": "https://s3.eu-west-1.amazonaws.com",
            },
            "but the endpoint is in eu-west-1",
        ),
    ],
)
def test_what_would_fail_later_is_told_at_start(make_app: MakeApp, settings: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        make_app(**settings, UPLOADS_S3_ACCESS_KEY_ID="a", UPLOADS_S3_SECRET_ACCESS_KEY="b")


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
def test_what_is_right_though_it_looks_odd_starts(
    make_app: MakeApp, settings: dict[str, str], place: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    keys_of_it = {"UPLOADS_S3_ACCESS_KEY_ID": "a", "UPLOADS_S3_SECRET_ACCESS_KEY": "b"}
    make_app(**settings, **keys_of_it, UPLOADS_S3_BUCKET="s3")
    assert place in caplog.text


def test_mistakes_of_values_and_of_the_backend_are_told_together(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_app(UPLOADS_BUKET="x", UPLOADS_URL_EXPIRES="0", UPLOADS_MAX_SIZE="ten", UPLOADS_S3_BUCKET="b")
    assert len(caught.value.problems) == 3
    assert "did you mean UPLOADS_S3_BUCKET?" in caplog.text


@pytest.mark.parametrize(
    ("written", "signed"),
    [
        ("HTTPS://S3.Example.COM:443/", "https://s3.example.com"),
        ("http://LocalHost:80", "http://localhost"),
        ("http://localhost:9000/base", "http://localhost:9000/base"),
    ],
)
def test_an_endpoint_is_signed_as_browsers_send_it(written: str, signed: str) -> None:
    assert load({"UPLOADS_S3_ENDPOINT_URL": written}, {}, dotenv="").s3_endpoint_url == signed
