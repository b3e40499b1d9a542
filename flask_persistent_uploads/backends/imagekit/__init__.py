"""Files in ImageKit's media library, through its SDK."""

from __future__ import annotations

from .backend import ImageKitBackend

__all__ = ["ImageKitBackend"]
