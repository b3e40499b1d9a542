"""Files in Cloudinary, through its SDK."""

from __future__ import annotations

from .backend import CloudinaryBackend

__all__ = ["CloudinaryBackend"]
