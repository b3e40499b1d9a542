"""Decides where Cloudinary keeps the file of a key.

Never change these rules: stored files are found by them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ... import content_types, keys
from ...errors import InvalidKey
from ...stored import Stat
from ...text import parse_time
from .. import names, remote

KINDS = ("image", "video", "raw")

_IMAGES = frozenset(
    ("avif", "bmp", "gif", "heic", "heif", "ico", "jfif", "jpe", "jpeg", "jpg", "png", "tif", "tiff", "webp")
)
_VIDEOS = frozenset(  # and sound, which Cloudinary treats as video
    ("aac", "avi", "flac", "m4a", "m4v", "mkv", "mov", "mp3", "mp4", "ogg", "wav", "webm")
)
_LONGEST_ID = 255
_HEAD = 180  # characters of a longer public id that are kept before its hash


@dataclass(frozen=True, slots=True)
class Asset:
    """The place of a file: its kind ("image", "video" or "raw") and its public id."""

    key: str
    kind: str
    public_id: str
    extension: str

    @property
    def names_key(self) -> bool:
        """Whether the public id holds the whole key. If not, the key is stored in the context of the asset."""
        return _names_key(self.public_id)


def asset_of(key: str, prefix: str) -> Asset:
    """Return the place of a key's file. Raises ``InvalidKey``.

    The kind follows from the extension alone. The public id of a picture or a video has no dot: Cloudinary would read
    what follows a dot in a URL as a format to convert the file to.
    """
    extension = content_types.extension(keys.check(key))
    kind = "image" if extension in _IMAGES else "video" if extension in _VIDEOS else "raw"
    public_id = names.escape(f"{prefix}/{key}", extension=kind == "raw")
    if len(public_id) > _LONGEST_ID:
        # No escaped name contains "_-", so no other key has this public id.
        end = f".{extension}" if kind == "raw" and public_id.endswith(f".{extension}") else ""
        public_id = f"{public_id[:_HEAD]}_-{hashlib.sha256(key.encode()).hexdigest()[:40]}{end}"
    return Asset(key, kind, public_id, extension)


def key_of(found: Mapping[str, Any], kind: str, prefix: str) -> str | None:
    """Return the key of a listed asset, or ``None`` if this package did not store it."""
    public_id = found["public_id"]
    try:
        if _names_key(public_id):
            key = names.unescape(public_id).removeprefix(f"{prefix}/")
        else:
            key = _context(found).get("key", "")
        asset = asset_of(key, prefix)
    except InvalidKey:
        return None
    return key if (asset.kind, asset.public_id) == (kind, public_id) else None


def listing_prefix(folder: str, prefix: str) -> str:
    """Return the prefix that the public ids of all keys in a folder share."""
    return names.escape(f"{prefix}/{folder}", extension=False)[:_HEAD]


def stat_of(key: str, found: Mapping[str, Any]) -> Stat:
    """Return what a response of the Admin API says about a file."""
    try:
        return Stat(key, int(found["bytes"]), parse_time(found["created_at"]), _context(found).get("sha256"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # the response is not Cloudinary's
        raise remote.unreachable(key) from error


def _names_key(public_id: str) -> bool:
    return "_-" not in public_id


def _context(found: Mapping[str, Any]) -> Mapping[str, str]:
    return (found.get("context") or {}).get("custom") or {}
