"""Which host this is, and whether the disk is told from one that will be wiped."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from flask_persistent_uploads import ConfigError
from flask_persistent_uploads.operations.platform import wiped_disk

from .conftest import MakeApp

ON_THE_ROOT_DISK = Path("/no-such-folder/uploads")  # it is only looked at, never made


@pytest.fixture
def other_disk() -> Path:
    """A mount of its own, which every machine has in one of these places."""
    root = Path("/").stat().st_dev
    return next(path for path in map(Path, ("/dev/shm", "/proc", "/dev")) if path.stat().st_dev != root)


@pytest.mark.parametrize(
    ("variable", "platform"),
    [
        ("RENDER", "Render"),
        ("KOYEB_SERVICE_ID", "Koyeb"),
        ("KOYEB_APP_NAME", "Koyeb"),
        ("DYNO", "Heroku"),
        ("RAILWAY_ENVIRONMENT_ID", "Railway"),
        ("FLY_MACHINE_ID", "Fly.io"),
        ("FLY_APP_NAME", "Fly.io"),
        ("K_SERVICE", "Cloud Run"),
    ],
)
def test_each_platform_is_known_by_its_variable_and_told_the_remedy(
    variable: str, platform: str, other_disk: Path
) -> None:
    sentence = wiped_disk(ON_THE_ROOT_DISK, {variable: "x"})
    assert sentence is not None
    assert sentence.startswith(f"{platform} wipes this disk")
    assert "UPLOADS_S3_BUCKET" in sentence
    assert ("UPLOADS_DIR" in sentence) == (platform not in ("Heroku", "Cloud Run"))
    assert wiped_disk(other_disk / "uploads", {variable: "x"}) is None


@pytest.mark.parametrize("environ", [{}, {"RENDER": ""}, {"HOME": "/root"}])
def test_nothing_is_said_of_a_machine_that_is_not_known(environ: dict[str, str]) -> None:
    assert wiped_disk(ON_THE_ROOT_DISK, environ) is None


def test_a_folder_need_not_exist_and_is_not_made(tmp_path: Path) -> None:
    wiped_disk(tmp_path / "a" / "b", {"RENDER": "true"})
    assert not (tmp_path / "a").exists()


def test_a_link_to_another_disk_counts_as_that_disk(tmp_path: Path, other_disk: Path) -> None:
    (tmp_path / "there").symlink_to(other_disk)
    (tmp_path / "later").symlink_to(other_disk / "no-such-folder")
    (tmp_path / "back").symlink_to("/")
    assert wiped_disk(tmp_path / "there" / "uploads", {"RENDER": "true"}) is None
    assert wiped_disk(tmp_path / "later" / "uploads", {"RENDER": "true"}) is None
    assert wiped_disk(tmp_path / "back" / "no-such-folder", {"RENDER": "true"}) is not None


def test_the_start_says_where_files_are_kept(
    make_app: MakeApp, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        make_app(UPLOADS_DIR=str(tmp_path / "here"))
    assert caplog.messages == [f"uploads: files are kept in local, {tmp_path / 'here'}"]


def test_the_start_warns_of_a_disk_that_will_be_wiped(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RENDER", "true")
    make_app(UPLOADS_DIR=str(ON_THE_ROOT_DISK))
    (warning,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert "UPLOADS WILL BE LOST. Render wipes this disk" in warning.getMessage()


def test_an_app_that_insists_on_persistence_does_not_start(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENDER", "true")
    with pytest.raises(ConfigError, match="UPLOADS_REQUIRE_PERSISTENT is set, but Render wipes this disk"):
        make_app(UPLOADS_DIR=str(ON_THE_ROOT_DISK), UPLOADS_REQUIRE_PERSISTENT=True)


def test_a_disk_that_stays_is_not_warned_of(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, other_disk: Path
) -> None:
    monkeypatch.setenv("RENDER", "true")
    make_app(MEDIA_ROOT="ignored", UPLOADS_DIR=str(other_disk / "uploads"), UPLOADS_REQUIRE_PERSISTENT=True)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_bucket_is_not_warned_of(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RENDER", "true")
    make_app(UPLOADS_S3_BUCKET="b", UPLOADS_S3_ACCESS_KEY_ID="k", UPLOADS_S3_SECRET_ACCESS_KEY="s")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
