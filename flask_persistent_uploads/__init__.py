"""Uploads of a Flask app that survive every redeploy. See README.md, then :mod:`.extension`."""

from __future__ import annotations

from .errors import (
    BackendError,
    BackendFull,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
    ConfigError,
    FileExists,
    FileMissing,
    InvalidKey,
    TypeNotAllowed,
    UploadMalformed,
    UploadRejected,
    UploadsError,
    UploadTooLarge,
    WrongLength,
)
from .extension import Uploads, save_uploads, upload_url
from .signals import file_deleted, file_saved
from .stored import Stat, StoredFile

__all__ = [
    "BackendError",
    "BackendFull",
    "BackendRefused",
    "BackendTimeout",
    "BackendUnavailable",
    "ConfigError",
    "FileExists",
    "FileMissing",
    "InvalidKey",
    "Stat",
    "StoredFile",
    "TypeNotAllowed",
    "UploadMalformed",
    "UploadRejected",
    "UploadTooLarge",
    "Uploads",
    "UploadsError",
    "WrongLength",
    "file_deleted",
    "file_saved",
    "save_uploads",
    "upload_url",
]
