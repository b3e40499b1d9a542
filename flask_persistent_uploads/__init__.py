"""Keeps the files that users upload to a Flask app, through every redeploy. Begin with :class:`Uploads`."""

from __future__ import annotations

from . import keys
from .backends.base import Backend
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
    Problem,
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
    "Backend",
    "BackendError",
    "BackendFull",
    "BackendRefused",
    "BackendTimeout",
    "BackendUnavailable",
    "ConfigError",
    "FileExists",
    "FileMissing",
    "InvalidKey",
    "Problem",
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
    "keys",
    "save_uploads",
    "upload_url",
]
