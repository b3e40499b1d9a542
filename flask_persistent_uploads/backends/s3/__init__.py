"""Files in an S3 bucket, or in one of the many services that use the same protocol."""

from __future__ import annotations

from .backend import S3Backend

__all__ = ["S3Backend"]
