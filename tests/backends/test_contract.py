"""Runs the shipped contract on the built-in backends.

The backends of services live as long as their class: each one builds its client once, which takes most of the time.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from flask_persistent_uploads.backends.cloudinary import CloudinaryBackend
from flask_persistent_uploads.backends.imagekit import ImageKitBackend
from flask_persistent_uploads.backends.local import LocalBackend
from flask_persistent_uploads.backends.memory import MemoryBackend
from flask_persistent_uploads.backends.s3 import S3Backend
from flask_persistent_uploads.testing import BackendContract

from ..conftest import cloudinary_backend, imagekit_backend
from ..fakes.cloudinary import FakeCloudinary
from ..fakes.imagekit import FakeImageKit
from ..servers import ACCESS_KEY_ID, BUCKET, SECRET_ACCESS_KEY, S3Server


class TestMemory(BackendContract):
    @pytest.fixture
    def backend(self) -> MemoryBackend:
        return MemoryBackend()


class TestLocal(BackendContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> LocalBackend:
        return LocalBackend(tmp_path / "uploads")


class TestLocalBehindALink(BackendContract):
    """Some hosts mount a disk by a symbolic link, so the directory itself may be one."""

    @pytest.fixture
    def backend(self, tmp_path: Path) -> LocalBackend:
        (tmp_path / "disk").mkdir()
        (tmp_path / "uploads").symlink_to(tmp_path / "disk")
        return LocalBackend(tmp_path / "uploads")


class TestS3(BackendContract):
    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls, s3_server: S3Server) -> S3Backend:
        return S3Backend(
            bucket=BUCKET,
            endpoint_url=s3_server.url,
            access_key_id=ACCESS_KEY_ID,
            secret_access_key=SECRET_ACCESS_KEY,
        )


class TestCloudinary(BackendContract):
    keeps_empty_files = False

    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls, cloudinary_server: FakeCloudinary) -> CloudinaryBackend:
        return cloudinary_backend(cloudinary_server)


class TestPrivateCloudinary(BackendContract):
    keeps_empty_files = False

    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls, cloudinary_server: FakeCloudinary) -> CloudinaryBackend:
        return cloudinary_backend(cloudinary_server, private=True)


class TestImageKit(BackendContract):
    keeps_empty_files = False

    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls, imagekit_server: FakeImageKit) -> ImageKitBackend:
        return imagekit_backend(imagekit_server)


class TestPrivateImageKit(BackendContract):
    keeps_empty_files = False

    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls, imagekit_server: FakeImageKit) -> ImageKitBackend:
        return imagekit_backend(imagekit_server, private=True)
