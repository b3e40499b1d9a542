"""Decides where ImageKit keeps the file of a key.

Never change these rules: stored files are found by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ... import keys
from ...errors import InvalidKey
from ...stored import Stat
from ...text import parse_time
from .. import names, remote

_LONGEST_NAME = 200
_HEAD = _LONGEST_NAME - 50  # characters of a longer name that become a folder
_TAG = "sha256-"


@dataclass(frozen=True, slots=True)
class Place:
    """The path of the file of a key in the media library."""

    key: str
    path: str

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


def place_of(key: str, prefix: str) -> Place:
    """Return the place of a key's file. Raises ``InvalidKey``."""
    return Place(key, "/" + _split_long_names(names.escape(f"{prefix}/{keys.check(key)}", extension=True)))


def key_of(path: str, prefix: str) -> str | None:
    """Return the key of a listed file, or ``None`` if this package did not store it."""
    try:
        key = names.unescape(path[1:].replace("_/", "")).removeprefix(f"{prefix}/")
        return key if place_of(key, prefix).path == path else None
    except InvalidKey:
        return None


def folder_of(folder: str, prefix: str) -> str:
    """Return the path of the folder that holds the files of all keys in ``folder``."""
    return "/" + _split_long_names(names.escape(f"{prefix}/{folder}", extension=False)).rstrip("/")


def tag_of(sha256: str) -> str:
    """Return the tag that keeps the SHA-256 beside a file."""
    return f"{_TAG}{sha256}"


def stat_of(key: str, found: Mapping[str, Any]) -> Stat:
    """Return what a listing says about a file."""
    try:
        sha256 = next((tag[len(_TAG) :] for tag in found.get("tags") or () if tag.startswith(_TAG)), None)
        return Stat(key, int(found["size"]), parse_time(found["updatedAt"]), sha256)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # the response is not ImageKit's
        raise remote.unreachable(key) from error


def _split_long_names(path: str) -> str:
    """Turn the beginning of each long name into folders: ``<150 characters>_/<the rest>``.

    No escaped name ends with "_", so no other key has this path.
    """
    parts = []
    for part in path.split("/"):
        rest = part
        while len(rest) > _LONGEST_NAME:
            parts.append(f"{rest[:_HEAD]}_")
            rest = rest[_HEAD:]
        parts.append(rest)
    return "/".join(parts)
