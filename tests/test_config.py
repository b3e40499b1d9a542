"""Settings: where they are read, what they may be, and what a wrong one says."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_persistent_uploads import ConfigError, Uploads, config, parsers
from flask_persistent_uploads.backends import BUILTIN_BACKENDS
from flask_persistent_uploads.config import Setting, Settings
from flask_persistent_uploads.errors import Problem
from flask_persistent_uploads.parsers import Secret, size

from .conftest import MakeApp, state_of

PASSWORD = "hunter2-pa55"
ADDRESSES = ("https://b.example", "https://c.example")

DECLARED = [setting for backend in BUILTIN_BACKENDS for setting in backend.settings()]
ALL = list({setting.name: setting for setting in (*config.COMMON, *DECLARED)}.values())

# For each setting: three right values, none of them the default, and what the first one means.
SAMPLES: dict[str, tuple[tuple[str, str, str], object]] = {
    "backend": (("memory", "s3", "local"), "memory"),
    "dir": (("a", "b", "c"), "a"),
    "s3_bucket": (("a", "b", "c"), "a"),
    "s3_region": (("auto", "b", "c"), "auto"),
    "s3_endpoint_url": (("https://a.example/", *ADDRESSES), "https://a.example"),
    "s3_public_endpoint_url": (("http://127.0.0.1:9000", *ADDRESSES), "http://127.0.0.1:9000"),
    "s3_access_key_id": (("a", "b", "c"), "a"),
    "s3_secret_access_key": (("a", "b", "c"), Secret("a")),
    "s3_session_token": (("a", "b", "c"), Secret("a")),
    "cloudinary_url": (("cloudinary://a", "b", "c"), Secret("cloudinary://a")),
    "cloudinary_cloud_name": (("a", "b", "c"), "a"),
    "cloudinary_api_key": (("123", "b", "c"), "123"),
    "cloudinary_api_secret": (("a", "b", "c"), Secret("a")),
    "cloudinary_upload_prefix": (("https://api-eu.cloudinary.com/", *ADDRESSES), "https://api-eu.cloudinary.com"),
    "cloudinary_private": (("Yes", "1", "on"), True),
    "imagekit_private_key": (("a", "b", "c"), Secret("a")),
    "imagekit_public_key": (("a", "b", "c"), "a"),
    "imagekit_url_endpoint": (("https://ik.io/a/", *ADDRESSES), "https://ik.io/a"),
    "imagekit_base_url": (("http://127.0.0.1:9000", *ADDRESSES), "http://127.0.0.1:9000"),
    "imagekit_private": (("Yes", "1", "on"), True),
    "prefix": (("/media/files/", "b", "c"), "media/files"),
    "url_prefix": (("media/", "b", "c"), "/media"),
    "url_expires": (("604800", "1", "7200"), 604800),
    "public_url": (("https://cdn.example/x/", *ADDRESSES), "https://cdn.example/x"),
    "accel_redirect": (("/inside/", "b", "c"), "/inside"),
    "allow": (("image/*, .CSV", ".a", ".b"), ("image/*", ".csv")),
    "max_size": (("10MB", "2", "3"), 10_000_000),
    "max_files": (("7", "2", "3"), 7),
    "timeout": (("2", "3", "600"), 2),
    "require_persistent": (("Yes", "1", "on"), True),
    "store_id": (("a", "b", "c"), "a"),
    "platform": (("render", "b", "c"), "render"),
}


def sample_of(setting: Setting) -> tuple[tuple[str, str, str], object]:
    """Return three right values of a setting, and the meaning of the first; the listed ones, or any that it accepts."""
    if setting.name in SAMPLES:
        return SAMPLES[setting.name]
    accepted = []
    for value in ("7", "8", "9", "true", "1", "on", "/a/b", "/a/c", "/a/d", "https://a.example", "https://b.example"):
        with contextlib.suppress(ValueError):
            if setting.parse(value) != setting.default:
                accepted.append(value)
    first, second, third = (accepted * 3)[:3]
    return (first, second, third), setting.parse(first)


NATIVE = [(setting, name) for setting in ALL for name in setting.native_parsers if name != "USE_S3"]
# Of the other settings, every value is right until the backend uses it.
CAN_REFUSE = [setting for setting in ALL if setting.parse not in {parsers.text, parsers.secret}]

every_setting = pytest.mark.parametrize("setting", ALL, ids=lambda setting: setting.name)
every_native_name = pytest.mark.parametrize(
    ("setting", "native"), NATIVE, ids=[f"{setting.name}-{name}" for setting, name in NATIVE]
)


def load(app_config: Mapping[str, Any], environ: Mapping[str, str], **options: Any) -> Settings:
    """Return the settings, or raise all mistakes in their values as ``init_app`` does."""
    settings, problems = config.read(app_config, environ, **{"declared": DECLARED, **options})
    if problems:
        raise ConfigError(problems)
    return settings


def read(environ: Mapping[str, str] | None = None, **app_config: Any) -> Settings:
    return load(app_config, environ or {})


def variable(setting: Setting) -> str:
    return f"UPLOADS_{setting.name.upper()}"


# -- where settings are read


@every_setting
def test_app_config_wins_over_the_environment_which_wins_over_dotenv(setting: Setting, tmp_path: Path) -> None:
    (first, second, third), meaning = sample_of(setting)
    name = variable(setting)
    dotenv = tmp_path / "settings.env"
    dotenv.write_text(f"{name}='{third}'\n")

    def value(app_config: dict[str, object], environ: dict[str, str]) -> object:
        settings = load(app_config, environ, dotenv=str(dotenv))
        assert settings.sources == {setting.name: name}
        return settings[setting.name]

    assert value({name: first}, {name: second}) == meaning
    assert value({}, {name: second}) == setting.parse(second)
    assert value({}, {}) == setting.parse(third)
    assert meaning != setting.default


@every_setting
def test_the_settings_know_where_each_value_was_found(setting: Setting, tmp_path: Path) -> None:
    name = variable(setting)
    first, second, third = sample_of(setting)[0]
    dotenv = tmp_path / "settings.env"
    dotenv.write_text(f"{name}='{third}'\n")
    file = str(dotenv)
    assert load({name: first}, {name: second}, dotenv=file).origins == {setting.name: "app.config"}
    assert load({}, {name: second}, dotenv=file).origins == {setting.name: "environment"}
    assert load({}, {}, dotenv=file).origins == {setting.name: ".env"}
    assert load({}, {name: third}, dotenv=file).origins == {setting.name: ".env"}  # as the flask command copies it
    assert load({}, {}, dotenv="").origins == {}


def test_a_wrong_value_has_a_source_and_an_origin() -> None:
    settings, problems = config.read({}, {"UPLOADS_MAX_FILES": "many"}, dotenv="")
    assert len(problems) == 1
    assert (settings.sources, settings.origins) == ({"max_files": "UPLOADS_MAX_FILES"}, {"max_files": "environment"})
    assert settings.max_files == 50


@every_setting
@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_value_counts_as_not_set(setting: Setting, empty: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"{variable(setting)}='{empty}'\n")
    name = variable(setting)
    assert load({name: ""}, {name: empty}) == load({}, {}, dotenv="")
    assert load({name: None}, {}) == load({}, {}, dotenv="")


def test_an_empty_value_in_app_config_does_not_hide_the_environment() -> None:
    assert read({"UPLOADS_MAX_FILES": "3"}, UPLOADS_MAX_FILES=" ").max_files == 3


def test_dotenv_is_found_upwards_and_does_not_change_the_environment(
    make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("UPLOADS_MAX_FILES=3\nUPLOADS_BACKEND=memory\nOTHER=x\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    before = dict(os.environ)
    app = make_app()
    assert dict(os.environ) == before
    assert state_of(app).settings.max_files == 3


def test_a_dotenv_file_that_is_not_utf_8_is_a_problem_beside_the_others(tmp_path: Path, make_app: MakeApp) -> None:
    (tmp_path / ".env").write_bytes(b"UPLOADS_PREFIX=\xff\n")
    with pytest.raises(ConfigError) as caught:
        make_app(UPLOADS_MAX_FILES="many", UPLOADS_BACKEND="memory")
    assert caught.value.problems[0] == Problem(
        "The file .env is not encoded as UTF-8, so it was not read.", "Save it as UTF-8."
    )
    assert [problem.setting for problem in caught.value.problems] == [None, "UPLOADS_MAX_FILES"]


def test_without_any_setting_the_defaults_apply() -> None:
    settings = read()
    assert (settings.prefix, settings.url_prefix, settings.url_expires) == ("uploads", "/uploads", 3600)
    assert (settings.max_size, settings.max_files, settings.timeout) == (100_000_000, 50, 25)
    assert (settings.backend, settings.allow, settings.require_persistent) == (None, (), False)
    assert settings.sources == {}
    assert {name for name, value in settings.of_backends.items() if value is not None} == {
        "cloudinary_private",
        "imagekit_private",
    }


def test_values_in_app_config_may_have_their_python_type() -> None:
    settings = read(
        UPLOADS_MAX_SIZE=5, UPLOADS_URL_EXPIRES=60, UPLOADS_REQUIRE_PERSISTENT=True, UPLOADS_ALLOW=["image/*", ".CSV"]
    )
    assert (settings.max_size, settings.url_expires, settings.require_persistent) == (5, 60, True)
    assert settings.allow == ("image/*", ".csv")


def test_every_setting_has_a_help_text() -> None:
    assert [setting.name for setting in ALL if not setting.help] == []
    assert {setting.name for setting in ALL} >= set(SAMPLES)


# -- native names


@every_native_name
def test_a_native_name_is_read(setting: Setting, native: str) -> None:
    (first, _, _), meaning = sample_of(setting)
    settings = read({native: first})
    assert settings[setting.name] == meaning
    assert (settings.sources, settings.origins) == ({setting.name: native}, {setting.name: "environment"})


@every_native_name
def test_a_native_name_is_read_from_app_config_and_from_dotenv(setting: Setting, native: str, tmp_path: Path) -> None:
    (first, second, third), meaning = sample_of(setting)
    settings = load({native: first}, {})
    assert settings[setting.name] == meaning
    assert (settings.sources, settings.origins) == ({setting.name: native}, {setting.name: "app.config"})
    (tmp_path / ".env").write_text(f"{native}='{third}'\nUPLOADS_MAX_FILES=3\n")
    assert read()[setting.name] == setting.parse(third)
    assert read({native: second})[setting.name] == setting.parse(second)
    assert read({native: second}, **{native: first})[setting.name] == meaning


@every_native_name
def test_an_own_name_anywhere_wins_over_a_native_name_anywhere(setting: Setting, native: str, tmp_path: Path) -> None:
    (first, second, third), meaning = sample_of(setting)
    own = variable(setting)
    (tmp_path / ".env").write_text(f"{own}='{first}'\n")
    settings = read({native: second}, **{native: third})
    assert settings[setting.name] == meaning
    assert settings.sources[setting.name] == own
    (tmp_path / ".env").write_text(f"{native}='{second}'\n")
    assert read({own: first}, **{native: third})[setting.name] == meaning
    assert read({native: third}, **{own: first})[setting.name] == meaning


def test_the_first_native_name_of_a_setting_wins_within_one_place() -> None:
    environ = {"BUCKET_NAME": "c", "S3_BUCKET_NAME": "a", "AWS_STORAGE_BUCKET_NAME": "b"}
    assert read(environ)["s3_bucket"] == "a"
    assert read(environ, BUCKET_NAME="d")["s3_bucket"] == "d"


@pytest.mark.parametrize(("value", "backend"), [("true", "s3"), ("False", "local"), (True, "s3"), (False, "local")])
def test_use_s3_is_read_as_a_backend(value: object, backend: str) -> None:
    assert read(USE_S3=value).backend == backend
    assert read(USE_S3=value, UPLOADS_BACKEND="memory").backend == "memory"


def test_another_uploads_reads_its_own_variables_and_the_shared_native_ones() -> None:
    environ = {"UPLOADS_MAX_FILES": "3", "DOCUMENTS_MAX_FILES": "4", "MEDIA_ROOT": "/data", "BUCKET_NAME": "photos"}
    settings = load({"DOCUMENTS_TIMEOUT": 5, "UPLOADS_TIMEOUT": 6}, environ, uploads="documents")
    assert (settings.max_files, settings.timeout) == (4, 5)
    assert settings["s3_bucket"] == "photos"
    assert settings["dir"] is None
    assert (settings.prefix, settings.url_prefix) == ("documents", "/documents")
    assert load({}, {**environ, "DOCUMENTS_DIR": "d"}, uploads="documents")["dir"] == "d"


# -- the names of variables


def test_a_setting_is_named_as_the_user_set_it() -> None:
    settings = read({"S3_BUCKET_NAME": "b", "UPLOADS_TIMEOUT": "5"}, AWS_REGION="eu-west-1")
    assert settings.variable("s3_bucket") == "S3_BUCKET_NAME"
    assert settings.variable("s3_region") == "AWS_REGION"
    assert settings.variable("timeout") == "UPLOADS_TIMEOUT"
    assert settings.variable("s3_access_key_id") == "UPLOADS_S3_ACCESS_KEY_ID"
    assert [settings.is_set(name) for name in ("s3_bucket", "timeout", "s3_access_key_id")] == [True, True, False]
    assert [settings.is_own(name) for name in ("s3_bucket", "timeout", "s3_access_key_id")] == [False, True, False]


def test_a_setting_of_another_uploads_is_named_with_its_name() -> None:
    settings = load({"DOCUMENTS_S3_BUCKET": "b"}, {"AWS_REGION": "eu-west-1"}, uploads="documents")
    assert settings.variable("s3_bucket") == "DOCUMENTS_S3_BUCKET"
    assert settings.variable("s3_region") == "AWS_REGION"
    assert settings.variable("s3_endpoint_url") == "DOCUMENTS_S3_ENDPOINT_URL"
    assert config.variable("documents", "s3_bucket") == "DOCUMENTS_S3_BUCKET"


@pytest.mark.parametrize("setting", CAN_REFUSE, ids=lambda setting: setting.name)
def test_every_wrong_value_is_named_by_the_variable_it_was_set_in(setting: Setting) -> None:
    for name in [variable(setting), *setting.native_parsers]:
        _, (problem,) = config.read({name: "\0 {wrong}"}, {}, declared=DECLARED, dotenv="")
        assert problem.setting == name
        assert problem.message.startswith(f"{name} is ")
        assert problem.remedy.startswith(f"Set {name} to ")


# -- what settings may be


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        *((1, 1), (100, 100), ("100", 100), (" 100 ", 100), ("1B", 1)),
        *(("10MB", 10**7), ("10 mb", 10**7), ("10M", 10**7), ("500kB", 500_000), ("1.5GB", 1_500_000_000)),
        *(("16MiB", 2**24), ("1KiB", 1024), ("0.5GiB", 2**29)),
    ],
)
def test_a_size_is_a_number_of_bytes_or_has_a_unit(raw: object, expected: int) -> None:
    assert size(raw) == expected


@pytest.mark.parametrize(
    "raw", ["", 0, "0", "0MB", "0.1", -1, "-5MB", "10TB", "10XB", "MB", "1,5MB", "1e6", True, None, "9" * 400]
)
def test_other_values_are_not_sizes(raw: object) -> None:
    with pytest.raises(ValueError, match="a size such as 10MB"):
        size(raw)


@pytest.mark.parametrize("raw", ["a\0b", "a\nb", "\x1b[31m/data"])
def test_a_folder_has_no_control_characters(raw: str) -> None:
    with pytest.raises(ValueError, match="a folder without control characters"):
        parsers.folder(raw)


NAME = "a name such as uploads or media/files: letters, digits, '.', '_' and '-', at most 63"
TYPES = "types such as image/*, application/pdf or .csv, separated by commas"


@pytest.mark.parametrize(
    ("name", "raw", "expected"),
    [
        ("MAX_SIZE", "10 apples", "a size such as 10MB, 500kB or a number of bytes"),
        ("MAX_FILES", "0", "a whole number of files from 1 to 100000"),
        ("URL_EXPIRES", "0", "a whole number of seconds from 1 to 604800"),
        ("URL_EXPIRES", "-5", "a whole number of seconds from 1 to 604800"),
        ("URL_EXPIRES", "604801", "a whole number of seconds from 1 to 604800"),
        ("URL_EXPIRES", "1h", "a whole number of seconds from 1 to 604800"),
        ("TIMEOUT", "1", "a whole number of seconds from 2 to 600"),
        ("REQUIRE_PERSISTENT", "perhaps", "true or false"),
        ("PREFIX", "../x", NAME),
        ("PREFIX", "/", NAME),
        ("PREFIX", "a" * 64, NAME),
        ("URL_PREFIX", "a b", NAME),
        ("ALLOW", "pictures", TYPES),
        ("ALLOW", "image/*;.csv", TYPES),
        ("ALLOW", {"image/*": 1}, TYPES),
        ("ALLOW", [".csv", 5], TYPES),
        ("STORE_ID", "'a'", "an id as 'flask uploads doctor' prints it, without quotes"),
        ("S3_REGION", "EU (Frankfurt)", "a region such as eu-central-1"),
        ("DIR", "a\nb", "a folder without control characters"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_found_and_with_the_remedy(name: str, raw: object, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({f"UPLOADS_{name}": raw}, {})
    assert caught.value.problems == (
        Problem(f"UPLOADS_{name} is {raw!r}.", f"Set UPLOADS_{name} to {expected}.", f"UPLOADS_{name}"),
    )


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
def test_a_wrong_url_is_refused_and_never_repeated(name: str, url: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read({name: url})
    (problem,) = caught.value.problems
    assert (problem.message, problem.setting) == (f"{name} is not valid.", name)
    assert problem.remedy.startswith(f"Set {name} to ")
    assert remedy in problem.remedy
    assert PASSWORD not in f"{caught.value!r} {caught.value} {caught.value.problems}"
    assert caught.value.__cause__ is None


@every_setting
@pytest.mark.parametrize("url", [f"redis://u:{PASSWORD}@h", f"u:{PASSWORD}@h", f"https://h/?token={PASSWORD}"])
def test_no_message_repeats_a_url_that_was_set_in_the_wrong_variable(setting: Setting, url: str) -> None:
    _, problems = config.read({variable(setting): url}, {}, declared=DECLARED, dotenv="")
    assert PASSWORD not in str(ConfigError(problems))


@pytest.mark.parametrize(
    ("written", "signed"),
    [
        ("HTTPS://S3.Example.COM:443/", "https://s3.example.com"),
        ("http://LocalHost:80", "http://localhost"),
        ("http://localhost:9000/base", "http://localhost:9000/base"),
    ],
)
def test_an_endpoint_is_written_as_browsers_send_it(written: str, signed: str) -> None:
    assert load({"UPLOADS_S3_ENDPOINT_URL": written}, {}, dotenv="")["s3_endpoint_url"] == signed


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        read({"UPLOADS_TIMEOUT": "x", "UPLOADS_MAX_SIZE": "y", "USE_S3": "z"})
    assert sorted(str(problem.setting) for problem in caught.value.problems) == [
        "UPLOADS_MAX_SIZE",
        "UPLOADS_TIMEOUT",
        "USE_S3",
    ]
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]


# -- unknown variables


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("UPLOADS_BUKET", "UPLOADS_S3_BUCKET"),
        ("UPLOADS_S3_BUKET", "UPLOADS_S3_BUCKET"),
        ("UPLOADS_MAXSIZE", "UPLOADS_MAX_SIZE"),
        ("UPLOADS_LOCAL_DIR", "UPLOADS_DIR"),
    ],
)
def test_an_unknown_variable_is_a_warning_with_the_nearest_setting(
    wrong: str, near: str, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(wrong, PASSWORD)
    make_app(UPLOADS_MAX_FILES=3)
    (warning,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert warning.getMessage() == f"{wrong} is not a setting of this extension. Did you mean {near}?"


def test_an_unknown_variable_that_resembles_no_setting_is_said_to_be_ignored() -> None:
    settings, _ = config.read({"DOCUMENTS_ZZZZ": "1"}, {"UPLOADS_ZZZZ": "1"}, uploads="documents", dotenv="")
    assert list(config.unknown_settings(settings)) == [
        Problem("DOCUMENTS_ZZZZ is not a setting of this extension.", "It is ignored. Remove it.", "DOCUMENTS_ZZZZ")
    ]


def test_an_unknown_platform_is_named_by_the_variable_it_was_set_in(make_app: MakeApp) -> None:
    with pytest.raises(ConfigError) as caught:
        make_app(Uploads(name="documents"), DOCUMENTS_PLATFORM="rendr")
    (problem,) = caught.value.problems
    assert problem.setting == "DOCUMENTS_PLATFORM"
    assert problem.message.startswith("DOCUMENTS_PLATFORM is 'rendr'")
    assert "render" in problem.remedy


def test_an_unknown_platform_is_reported_beside_the_other_mistakes(make_app: MakeApp) -> None:
    with pytest.raises(ConfigError) as caught:
        make_app(UPLOADS_PLATFORM="rendr", UPLOADS_BACKEND="s3", UPLOADS_MAX_FILES="many")
    assert [problem.setting for problem in caught.value.problems] == [
        "UPLOADS_MAX_FILES",
        "UPLOADS_PLATFORM",
        "UPLOADS_S3_BUCKET",
    ]


# -- secrets


def test_settings_never_show_a_secret() -> None:
    secret = [setting.name for setting in ALL if isinstance(sample_of(setting)[1], Secret)]
    assert len(secret) == 5
    environ = {f"UPLOADS_{name.upper()}": PASSWORD for name in [*secret, "gcs_token"]}
    settings = read(environ)
    assert PASSWORD not in f"{settings} {settings!r} {settings['s3_secret_access_key']} {[settings]}"
    assert settings.unknown == {"UPLOADS_GCS_TOKEN": PASSWORD}
    with pytest.raises(TypeError):
        vars(settings)


@pytest.mark.parametrize("show", [str, repr, format, "%s".__mod__, "{!s:>9}".format, ascii, lambda s: repr({"a": [s]})])
def test_only_reveal_shows_a_secret(show: Callable[[Secret], str]) -> None:
    assert PASSWORD not in show(Secret(PASSWORD))
    assert Secret(PASSWORD).reveal() == PASSWORD


@pytest.mark.parametrize("leak", [vars, pickle.dumps, copy.deepcopy])
def test_a_secret_cannot_be_copied_or_pickled(leak: Callable[[Secret], object]) -> None:
    with pytest.raises(TypeError):
        leak(Secret(PASSWORD))


def test_secrets_are_equal_if_their_values_are() -> None:
    assert Secret("a") == Secret("a")
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("a") != "a"


def test_settings_are_read_only() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        read().max_files = 3  # type: ignore[misc]


def test_settings_are_read_once_in_init_app(make_app: MakeApp) -> None:
    app: Flask = make_app(UPLOADS_BACKEND="memory", UPLOADS_MAX_FILES=3)
    app.config["UPLOADS_MAX_FILES"] = 4
    assert state_of(app).settings.max_files == 3
